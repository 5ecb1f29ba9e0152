"""A batch on its way from a shard to its code file: what it is made of, what there is to code of it, what it counts for."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.images.decoding.jpeg_header import Way
from encoder.images.duplicates import digest_of
from encoder.images.samples import LateLabels, Sample, ShardReader
from encoder.images.shards import Shard
from encoder.levels import Level
from encoder.stream.known import KnownCodes


@dataclass(frozen=True, slots=True)
class BatchDone:
    """A batch has its codes."""

    images: int
    """Seen, rejects included."""
    bad: int
    """Rejects, without those that are skipped for their content."""
    bytes: int
    """Of the image files."""
    passed: int
    """Bytes of the shard that are dealt with: a tar of small images has as many between them."""
    taken: int = 0
    """Images whose code an earlier run made."""
    ways: Counter[Way] = field(default_factory=Counter)
    """Images that were decoded for a GPU, by the way they went."""

    def __add__(self, other: "BatchDone") -> "BatchDone":
        ways = Counter(self.ways)
        ways.update(other.ways)
        return BatchDone(
            self.images + other.images,
            self.bad + other.bad,
            self.bytes + other.bytes,
            self.passed + other.passed,
            self.taken + other.taken,
            ways,
        )

    def __neg__(self) -> "BatchDone":
        """Return what takes a batch back, where its shard is coded once more."""
        ways = Counter({way: -count for way, count in self.ways.items()})
        return BatchDone(-self.images, -self.bad, -self.bytes, -self.passed, -self.taken, ways)


@dataclass(eq=False, slots=True)
class Job:
    """A shard on its way to its code file."""

    shard: Shard
    reader: ShardReader
    stamp: str
    """Taken before the shard was read, so that the next run notices a change meanwhile."""
    key_prefix: str


@dataclass(slots=True)
class Batch:
    """Consecutive entries of one shard; its last batch is empty."""

    job: Job
    entries: list[Sample | LateLabels] = field(default_factory=list)
    codes: Mapping[Level, Codes] = field(default_factory=dict)
    """Codes of the entries that are images without a reject, in order; filled in by a worker."""
    digests: list[bytes] = field(default_factory=list)
    """`digest_of` these images; filled in by a worker."""
    taken: int = 0
    """How many of the codes were there before; filled in by a worker."""
    ways: Counter[Way] = field(default_factory=Counter)
    """Of its images, on a GPU; filled in by a worker."""

    def images(self) -> list[Sample]:
        """Return the entries that are images without a reject."""
        return [entry for entry in self.entries if isinstance(entry, Sample) and entry.reject is None]

    def done(self) -> BatchDone:
        """Return what it counts for."""
        samples = [entry for entry in self.entries if isinstance(entry, Sample)]
        bad = sum(sample.reject is not None and sample.reject.bad for sample in samples)
        size = sum(sample.size for sample in samples)
        span = samples[-1].offset + samples[-1].size - samples[0].offset if samples else 0
        # offsets in a compressed tar are not of its own bytes, those of a folder's files are 0
        passed = size if self.job.reader.sequential else max(size, span)
        return BatchDone(len(samples), bad, size, passed, self.taken, self.ways)


class Uncoded:
    """What there is to code of a batch: the images that no earlier run coded.

    Args:
        batch: as it was read.
        known: codes that earlier runs made.
    """

    def __init__(self, batch: Batch, known: KnownCodes) -> None:
        self.batch, self._known = batch, known
        self._images = batch.images()
        self._digests = [digest_of(image.content) for image in self._images]
        self._numbers = known.find(self._digests)
        self.images = list(compress(self._images, (self._numbers < 0).tolist()))
        """To be decoded and coded, or rejected."""

    def finish(self, codes: Mapping[Level, Codes], levels: Sequence[Level]) -> Batch:
        """Return the batch with its codes, and drop the bytes of its images.

        Args:
            codes: uint8[n, nbits / 8] per level of `images` that have not been rejected, in order.
            levels: all that are coded.
        """
        batch, numbers = self.batch, self._numbers
        coded = np.array([image.reject is None for image in self._images], dtype=np.bool_)
        batch.digests = list(compress(self._digests, coded.tolist()))
        batch.taken = int((numbers >= 0).sum())
        batch.codes = codes
        if batch.taken:
            numbers = numbers[coded]
            batch.codes = {
                level: _merged(codes.get(level), self._known.codes(level, numbers), numbers) for level in levels
            }
        for image in self._images:
            image.content = b""
        return batch


def _merged(new: Codes | None, known: Codes, numbers: npt.NDArray[np.int64]) -> Codes:
    """Return the codes of a batch in order: `known` where there is a number, which is 0 or more, and `new` elsewhere."""
    codes = known.copy()
    if new is not None:
        codes[numbers < 0] = new
    return codes
