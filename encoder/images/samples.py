"""Images of a shard, one after another, with their labels and places: what every reader yields and knows.

No decoding, nothing written to disk. Every image is *seen*: it comes out with its bytes or with a `Reject`.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from encoder.errors import Reject
from encoder.images.archives.hash_thread import Hasher
from encoder.images.labels.sidecars import read_sidecar
from encoder.images.labels.values import BadLabels, Labels
from encoder.images.limits import Limits
from encoder.images.shards import Shard, ShardKind


@dataclass(slots=True)
class Sample:
    """One image seen."""

    ordinal: int
    """Position among the images seen in its shard."""
    key: str
    """Member or file name, see `names.key_of`; a tar's without the image suffix, as webdataset has it."""
    offset: int = 0
    """Of the bytes, in the uncompressed tar; of a zip's member, the number of a row; 0 in a file."""
    size: int = 0
    content: bytes | memoryview = b""
    """Its bytes, or a view of them where the reader gives views."""
    labels: Labels = field(default_factory=dict)
    reject: Reject | None = None
    detail: str = ""

    @property
    def data(self) -> bytes:
        """Its bytes; those of a view are copied."""
        return self.content if isinstance(self.content, bytes) else bytes(self.content)

    @data.setter
    def data(self, data: bytes) -> None:
        self.content = data

    def rejected(self, reject: Reject, detail: str) -> "Sample":
        """Reject the image, drop its bytes, and return it."""
        self.reject, self.detail, self.content = reject, detail, b""
        return self


@dataclass(frozen=True, slots=True)
class LateLabels:
    """Labels whose image came earlier in the shard, with other members between."""

    key: str
    labels: Labels


Entry = TypeVar("Entry", bound=Sample | LateLabels)


@dataclass(slots=True)
class ShardReader(ABC):
    """Reads one shard; iterate it once, then look at what it says of the whole.

    Args:
        shard: what to read.
        limits: an image of more bytes is rejected unread.
        wanted: for a sampling pass: the ordinals of the images whose bytes are wanted. Others come without bytes, a
            plain tar is not read where it can be skipped, and no digest is made.
        labelled: for a sampling pass: whether the labels of all images are wanted; a tar's come anyway.
        hasher: makes the digest of the shard.
        views: whether `Sample.content` may be a view of a block that was read, which saves a copy and holds the block in memory.
    """

    kind: ClassVar[ShardKind]
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Endings of the names of files that are shards of this format; none where a shard is not one file."""
    sequential: ClassVar[bool] = False
    """Whether an image is read back by reading the shard from its front, or a row group's, not with one seek."""

    shard: Shard
    limits: Limits = field(default_factory=Limits)
    wanted: Callable[[int], bool] | None = None
    labelled: bool = False
    hasher: Callable[[], Hasher] = hashlib.sha256
    views: bool = False
    seen: int = 0
    bad_labels: BadLabels = field(default_factory=BadLabels)
    """Labels that could not be kept as they are; their images are."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Files of an archive that are neither images nor labels, by kind; see `names.skipped_as`."""
    damage: str | None = None
    """Why the shard is not whole, or None."""
    sha256: str = ""
    size: int = 0
    """Bytes of the shard's file, or of all image files read."""

    @abstractmethod
    def __iter__(self) -> Iterator[Sample | LateLabels]:
        """Yield every image seen, in order, and the labels that come late."""

    @abstractmethod
    def stamp(self) -> str:
        """Tell cheaply whether a shard changed: sizes and times of modification, no content is read.

        Raises:
            HashgrainError: `shard-missing`.
        """

    @abstractmethod
    def nbytes(self) -> int:
        """Return the bytes there are to read, as the file system has them.

        Raises:
            HashgrainError: `shard-missing`.
        """

    @staticmethod
    @abstractmethod
    def read_image(path: str, member: str, offset: int, size: int, /) -> bytes:
        """Read one image back from its place; see `formats.read_image`."""

    def images(self) -> Iterator[Sample]:
        """Yield the images that are wanted; labels that come late are added to those of their image, yielded before."""
        labels: dict[str, Labels] = {}
        for entry in self:
            if isinstance(entry, LateLabels):
                labels.get(entry.key, {}).update(entry.labels)
            elif self.wanted is None or self.wanted(entry.ordinal):
                if entry.reject is None:
                    labels[entry.key] = entry.labels
                yield entry

    def labels_of(self, name: str, sidecar: bytes | None) -> Labels:
        """Return the labels in a sidecar; what cannot be kept of them is counted. See `read_sidecar`."""
        labels, faults = read_sidecar(name, sidecar)
        for why in faults:
            self.bad_labels.add(name, why)
        return labels


def batches(entries: Iterable[Entry], count: int, nbytes: float = math.inf) -> Iterator[list[Entry]]:
    """Cut entries into lists; none is empty.

    Args:
        entries: what a reader yields.
        count: entries of a list; the last one may have fewer.
        nbytes: a list is closed early once its images have so many bytes, so that memory stays bounded for large pictures.
    """
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += len(entry.content) if isinstance(entry, Sample) else 0
        if len(batch) == count or size >= nbytes:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
