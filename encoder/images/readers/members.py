"""Archives of members, as tar and zip are: which of them are images, whose labels others are, and what is left out.

This stands here once; a format brings the walk over its members. An archive is read once from front to back in constant memory
(apart from about 50 bytes per image, which tell its key and its labels again, and labels that wait for their image, up to
`sidecars.MAX_WAITING`). Nothing is ever extracted.
"""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, Final

from encoder.errors import HashgrainError, Reason, Reject
from encoder.images.archives.archive import ArchiveWalk, Member, MemberKind, UnreadableMemberError
from encoder.images.archives.hash_thread import Hasher
from encoder.images.labels.sidecars import MAX_SIDECAR_BYTES, ArchiveSidecars
from encoder.images.labels.table import LabelTable
from encoder.images.labels.values import Labels
from encoder.images.names import NameKind, folders_of, key_of, kind_of_name, skipped_as
from encoder.images.samples import LateLabels, Sample, ShardReader
from encoder.images.signature import HEAD_BYTES, image_format
from encoder.runtime.files import FileStatus, status_of
from encoder.runtime.hash_map import HashMap

INNER: Final = (".tar", ".tgz", ".tar.gz", ".zip")
"""Endings of archives that are not looked into where they lie in another one."""
NO_IMAGE: Final = "label file without an image"


class MembersReader(ShardReader):
    """Reads an archive of members."""

    suffix_in_key: ClassVar[bool] = False
    """Whether a key has the image's suffix; without it, as webdataset has it, `a.jpg` and `a.png` are the same image."""

    @abstractmethod
    def walk(self, hasher: Hasher | None, /) -> AbstractContextManager[ArchiveWalk]:
        """Open the archive for one walk, after which the hasher has had every byte of the file."""

    def table(self) -> LabelTable | None:
        """Return a table of labels that lies beside the archive; label files inside win over it."""
        return None

    def __iter__(self) -> Iterator[Sample | LateLabels]:
        """Yield every image; the digest is that of the file.

        Raises:
            HashgrainError: `shard-missing`.
        """
        digest = self.hasher() if self.wanted is None else None
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
        known = _Known(_Keys(with_suffix=self.suffix_in_key), ArchiveSidecars(self.bad_labels), self.table())
        held: Sample | None = None  # until the next one comes, since its labels stand behind it
        for member in walk:
            if member.kind is MemberKind.FOLDER:
                continue
            kind, head = kind_of_name(member.name), b""
            if kind is NameKind.UNKNOWN:
                kind, head = _kind_by_content(walk, member)
            if kind is NameKind.IMAGE:
                if held is not None:
                    yield held
                held = self._image(walk, member, head, known)
            elif kind is NameKind.LABELS and member.kind is MemberKind.FILE:
                labels = self._labels(walk, member)
                for key in known.keys.of_owners(known.sidecars.sidecar(key_of(member.name), labels)):
                    if held is not None and held.reject is None and held.key == key:
                        held.labels |= labels
                    else:
                        yield LateLabels(key, labels)
            else:
                inner = " inside an archive: unpack it" if member.name.lower().endswith(INNER) else ""
                self.skipped[f"{skipped_as(member.name)}{inner}"] += 1
        if held is not None:
            yield held
        self._count_labels(known)

    def _count_labels(self, known: "_Known") -> None:
        """Count labels that found no image."""
        known.sidecars.close()
        known.keys.close()
        if known.sidecars.texts:
            self.skipped[NO_IMAGE] += known.sidecars.texts
        if known.table:
            for line in known.table.notices():
                self.bad_labels.add(known.table.path.name, line.removeprefix(f"{known.table.path.name}: "))

    def _image(self, walk: ArchiveWalk, member: Member, head: bytes, known: "_Known") -> Sample:
        """Return an image with the labels that have come so far; what was read of it to know it for one is its head."""
        name = key_of(member.name)
        sample = self._sample(walk, member, head, known.keys.parts_of(name, by_content=bool(head)), known.keys)
        labels = known.sidecars.image(name)
        if sample.reject is None:
            if known.table and self._is_wanted(sample):
                sample.labels.update(known.table.labels(sample.key, self.bad_labels))
            if labels:
                sample.labels |= labels
        return sample

    def _sample(self, walk: ArchiveWalk, member: Member, head: bytes, parts: tuple[str, str], keys: "_Keys") -> Sample:
        stem, suffix = parts
        sample = Sample(self.seen, stem + suffix, member.offset, member.size)
        self.seen += 1
        if "/" in member.name:
            sample.labels.update(folders_of(member.name))
        if member.kind is MemberKind.LINK:
            return sample.rejected(Reject.LINK, "a link has no bytes of its own")
        if member.kind is not MemberKind.FILE:
            return sample.rejected(Reject.NOT_A_FILE, member.kind)
        if keys.has(stem, suffix):
            return sample.rejected(Reject.DUPLICATE_KEY, "an earlier image of this shard has the key")
        if member.size > self.limits.max_bytes:
            return sample.rejected(Reject.TOO_LARGE, f"{member.size:,} bytes, limit {self.limits.max_bytes:,}")
        keys.add(stem, suffix)
        if not self._is_wanted(sample):
            return sample
        try:
            if self.views and not head:
                sample.content = walk.view(member)
            else:
                sample.content = head + walk.read(member) if len(head) < member.size else head
        except UnreadableMemberError as err:
            return sample.rejected(err.reject, err.detail)
        if (length := len(sample.content)) < member.size:
            return sample.rejected(Reject.TRUNCATED, f"the shard ends after {length:,} of {member.size:,} bytes")
        return sample

    def _is_wanted(self, sample: Sample) -> bool:
        return self.wanted is None or self.wanted(sample.ordinal)

    def _labels(self, walk: ArchiveWalk, member: Member) -> Labels:
        try:
            return self.labels_of(member.name, walk.read(member) if member.size <= MAX_SIDECAR_BYTES else None)
        except UnreadableMemberError as err:
            self.bad_labels.add(member.name, err.detail)
            return {}


class _Keys:
    """The keys that have come: of each stem's hash (64 bits tell a shard's apart, and cost less than keys) the suffixes.

    Args:
        with_suffix: whether a key has one.
    """

    def __init__(self, *, with_suffix: bool) -> None:
        self._with_suffix = with_suffix
        self._suffixes = HashMap()
        self._lists: list[tuple[str, ...]] = [()]  # each once, since most images have the same
        self._numbers: dict[tuple[str, ...], int] = {(): 0}

    def parts_of(self, name: str, *, by_content: bool = False) -> tuple[str, str]:
        """Return the stem and the suffix of an image's key; what was known by its content alone has a name without a suffix."""
        suffix = "" if by_content else _suffix(name)
        return name.removesuffix(suffix), suffix if self._with_suffix else ""

    def has(self, stem: str, suffix: str) -> bool:
        return suffix in self._of(hash(stem))

    def add(self, stem: str, suffix: str) -> None:
        suffixes = (*self._of(stem_hash := hash(stem)), suffix)
        if (number := self._numbers.setdefault(suffixes, len(self._lists))) == len(self._lists):
            self._lists.append(suffixes)
        self._suffixes[stem_hash] = number

    def close(self) -> None:
        self._suffixes.clear()

    def _of(self, stem_hash: int) -> tuple[str, ...]:
        return self._lists[self._suffixes.get(stem_hash) or 0]

    def of_owners(self, owners: list[str]) -> Iterator[str]:
        """Return the keys of the images that a sidecar belongs to, see `ArchiveSidecars.sidecar`."""
        for owner in owners:
            stem, suffix = self.parts_of(owner)
            if suffix and self.has(stem, suffix):
                yield stem + suffix
                continue
            own = owner if hash(owner) in self._suffixes else stem
            yield from (own + suffix for suffix in self._of(hash(own)))


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of an archive's images and labels while it is read."""

    keys: _Keys
    sidecars: ArchiveSidecars
    table: LabelTable | None


def _suffix(name: str) -> str:
    """Return the ending of a name; a million times, for which `pathlib` takes too long."""
    dot = name.rfind(".")
    return name[dot:] if name.rfind("/") + 1 < dot < len(name) - 1 else ""


def _kind_by_content(walk: ArchiveWalk, member: Member) -> tuple[NameKind, bytes]:
    """Return what a member is whose name does not tell, and what had to be read to know that."""
    if member.kind is not MemberKind.FILE:
        return NameKind.OTHER, b""
    try:
        head = walk.read(member, HEAD_BYTES)
    except UnreadableMemberError:
        return NameKind.OTHER, b""
    return NameKind.IMAGE if image_format(head) else NameKind.OTHER, head
