"""Archives of members, as tar and zip are: which of them are images, whose labels others are, and what is left out.

This stands here once; a format brings the walk over its members. An archive is read once from front to back in constant memory
(apart from its keys, about 100 bytes per image, which duplicate detection and late labels need, and labels that come before their
images, up to `MAX_WAITING`). Nothing is ever extracted.
"""

import hashlib
import sys
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from encoder.errors import HashgrainError, Reason, Reject
from encoder.images.archive import ArchiveWalk, Member, MemberKind, UnreadableMemberError
from encoder.images.labels import Labels
from encoder.images.names import NameKind, folders_of, key_of, kind_of_name, skipped_as
from encoder.images.samples import LateLabels, Sample, ShardReader
from encoder.images.sidecars import MAX_SIDECAR_BYTES
from encoder.images.signature import HEAD_BYTES, image_format
from encoder.runtime.files import FileStatus, status_of

if TYPE_CHECKING:
    from hashlib import _Hash

MAX_WAITING: Final = 64 << 20
"""Bytes of memory for labels whose image has not come yet: those of about 100,000 images."""
NO_IMAGE: Final = "label file without an image"
TOO_EARLY: Final = f"label file whose image did not come within {MAX_WAITING >> 20} MiB of other labels"


class MembersReader(ShardReader):
    """Reads an archive of members."""

    suffix_in_key: ClassVar[bool] = False
    """Whether a key has the image's suffix; without it, as webdataset has it, `a.jpg` and `a.png` are the same image."""

    @abstractmethod
    def walk(self, hasher: "_Hash | None", /) -> AbstractContextManager[ArchiveWalk]:
        """Open the archive for one walk, after which the hasher has had every byte of the file."""

    def __iter__(self) -> Iterator[Sample | LateLabels]:
        """Yield every image; the digest is that of the file.

        Raises:
            HashgrainError: `shard-missing`.
        """
        digest = hashlib.sha256() if self.wanted is None else None
        try:
            with self.walk(digest) as walk:
                yield from self._entries(walk)
            self.damage = walk.damage
            self.size = self.nbytes()
        except OSError as err:
            raise HashgrainError(
                Reason.SHARD_MISSING, f"shard {self.shard.path} could not be read: {err.strerror or err}"
            ) from err
        self.sha256 = "" if digest is None else digest.hexdigest()

    def stamp(self) -> str:
        """Return the stamp of the file."""
        return self._status().stamp

    def nbytes(self) -> int:
        """Return the bytes of the file."""
        return self._status().size

    def _status(self) -> FileStatus:
        return self.shard.status or status_of(self.shard.path)

    def _entries(self, walk: ArchiveWalk) -> Iterator[Sample | LateLabels]:
        pairs = _Pairs()
        for member in walk:
            if member.kind is MemberKind.FOLDER:
                continue
            kind, head = _kind(walk, member)
            if kind is NameKind.IMAGE:
                if pairs.held is not None:
                    yield pairs.held
                pairs.held = self._sample(walk, member, head, pairs)
            elif kind is NameKind.LABELS and member.kind is MemberKind.FILE:
                yield from self._pair(walk, member, pairs)
            else:
                self.skipped[skipped_as(member.name)] += 1
        if pairs.held is not None:
            yield pairs.held
        if pairs.waiting.files:
            self.skipped[NO_IMAGE] += pairs.waiting.files

    def _sample(self, walk: ArchiveWalk, member: Member, head: bytes, pairs: "_Pairs") -> Sample:
        """Return an image; what was read of it to know it for one is its head."""
        suffix = "" if head else _suffix(member.name)
        pairs.stem = stem = key_of(member.name.removesuffix(suffix))
        suffix = key_of(suffix) if self.suffix_in_key else ""
        sample = Sample(self.seen, stem + suffix, member.offset, member.size)
        self.seen += 1
        if "/" in member.name:
            sample.labels.update(folders_of(member.name))
        if pairs.waiting.files:
            sample.labels.update(pairs.waiting.pop(stem))
        if member.kind is MemberKind.LINK:
            return sample.rejected(Reject.LINK, "a link has no bytes of its own")
        if member.kind is not MemberKind.FILE:
            return sample.rejected(Reject.NOT_A_FILE, member.kind)
        if pairs.images.has(stem, suffix):
            return sample.rejected(Reject.DUPLICATE_KEY, "an earlier image of this shard has the key")
        if member.size > self.limits.max_bytes:
            return sample.rejected(Reject.TOO_LARGE, f"{member.size:,} bytes, limit {self.limits.max_bytes:,}")
        pairs.images.add(stem, suffix)
        if self.wanted is not None and not self.wanted(sample.ordinal):
            return sample
        try:
            sample.data = head + walk.read(member) if len(head) < member.size else head
        except UnreadableMemberError as err:
            return sample.rejected(err.reject, err.detail)
        if len(sample.data) < member.size:
            return sample.rejected(
                Reject.TRUNCATED, f"the shard ends after {len(sample.data):,} of {member.size:,} bytes"
            )
        return sample

    def _pair(self, walk: ArchiveWalk, member: Member, pairs: "_Pairs") -> Iterator[LateLabels]:
        """Bring labels to their image: the one at hand, one that was yielded before, or one that may come."""
        suffix = _suffix(member.name)
        stem = key_of(member.name.removesuffix(suffix))
        labels: Labels = {}
        try:
            labels = self.labels_of(member.name, walk.read(member) if member.size <= MAX_SIDECAR_BYTES else None)
        except UnreadableMemberError as err:
            self.bad_labels.add(member.name, err.detail)
        if pairs.held is not None and pairs.stem == stem:
            pairs.held.labels |= labels
        elif keys := pairs.images.with_stem(stem):
            yield from (LateLabels(key, labels) for key in keys)
        elif not pairs.waiting.add(stem, labels):
            self.skipped[TOO_EARLY] += 1


class _Images:
    """The images that have come: of each stem's hash (64 bits tell a shard's apart, and cost less than keys) their suffixes."""

    def __init__(self) -> None:
        self._suffixes: dict[int, tuple[str, ...]] = {}
        self._same: dict[tuple[str, ...], tuple[str, ...]] = {}  # one object for all images with the same suffixes

    def has(self, stem: str, suffix: str) -> bool:
        return suffix in self._suffixes.get(hash(stem), ())

    def add(self, stem: str, suffix: str) -> None:
        suffixes = (*self._suffixes.get(hash(stem), ()), suffix)
        self._suffixes[hash(stem)] = self._same.setdefault(suffixes, suffixes)

    def with_stem(self, stem: str) -> list[str]:
        """Return the keys of the images that have a stem."""
        return [stem + suffix for suffix in self._suffixes.get(hash(stem), ())]


class _Waiting:
    """Labels whose image has not come yet; the memory that they take is bounded."""

    def __init__(self) -> None:
        self.files = 0
        """How many files they are of."""
        self._labels: dict[str, list[Labels]] = {}
        self._bytes = 0

    def add(self, stem: str, labels: Labels) -> bool:
        """Keep labels, and tell whether there was room."""
        nbytes = _memory(stem, labels)
        if self._bytes + nbytes > MAX_WAITING:
            return False
        self._bytes += nbytes
        self._labels.setdefault(stem, []).append(labels)
        self.files += 1
        return True

    def pop(self, stem: str) -> Labels:
        """Give out the labels of an image."""
        together: Labels = {}
        for labels in self._labels.pop(stem, ()):
            self._bytes -= _memory(stem, labels)
            self.files -= 1
            together |= labels
        return together


@dataclass(slots=True)
class _Pairs:
    """What is known while images and labels are brought together."""

    images: _Images = field(default_factory=_Images)
    waiting: _Waiting = field(default_factory=_Waiting)
    held: Sample | None = None
    """The last image, until the next one comes, since its labels stand behind it."""
    stem: str = ""
    """Of its name: all but the suffix."""


def _suffix(name: str) -> str:
    """Return the ending of a name; a million times, for which `pathlib` takes too long."""
    base = name.rpartition("/")[2]
    dot = base.rfind(".")
    return base[dot:] if 0 < dot < len(base) - 1 else ""


def _memory(stem: str, labels: Labels) -> int:
    """Return about how many bytes of memory labels take."""
    return sum(map(sys.getsizeof, [stem, labels, *labels, *labels.values()])) + 200  # their places in dicts and lists


def _kind(walk: ArchiveWalk, member: Member) -> tuple[NameKind, bytes]:
    """Return what a member is, and what had to be read to know that."""
    kind = kind_of_name(member.name)
    if kind is not NameKind.UNKNOWN:
        return kind, b""
    if member.kind is not MemberKind.FILE:
        return NameKind.OTHER, b""
    try:
        head = walk.read(member, HEAD_BYTES)
    except UnreadableMemberError:
        return NameKind.OTHER, b""
    return NameKind.IMAGE if image_format(head) else NameKind.OTHER, head
