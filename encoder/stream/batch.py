"""A batch on its way from a shard to its code file: what a worker is given, and what it hands back."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from encoder.bits import Codes
from encoder.images.samples import LateLabels, Sample, ShardReader
from encoder.images.shards import Shard
from encoder.levels import Level


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
        return BatchDone(len(samples), bad, size, passed, self.taken)
