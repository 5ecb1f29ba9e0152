"""Images of a shard, one after another, with their labels and places: no decoding, nothing written to disk.

A tar is read once from front to back in constant memory (apart from its keys, about 100 bytes per image, which duplicate
detection and late sidecars need). Every image-named member is *seen*: it comes out with its bytes or with a `Reject`.
"""

import hashlib
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from encoder.errors import HashgrainError, Reason, Reject
from encoder.images.limits import Limits
from encoder.images.shards import IMAGE_SUFFIXES, Shard, ShardKind
from encoder.images.sidecars import MAX_SIDECAR_BYTES, SIDECARS, Labels, parse_labels
from encoder.images.tar_walk import Member, MemberKind, TarWalk, open_tar

MAX_ORPHANS = 1000
"""Sidecars kept for an image that has not come yet; one normally stands beside its image."""


@dataclass(slots=True)
class Sample:
    """One image seen."""

    ordinal: int
    """Position among the images seen in its shard."""
    key: str
    """Member or file name; a tar's without the image suffix, as webdataset has it."""
    offset: int = 0
    """Of the bytes, in the uncompressed tar; 0 in a file."""
    size: int = 0
    data: bytes = b""
    labels: Labels = field(default_factory=dict)
    reject: Reject | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LateLabels:
    """Labels whose image came earlier in the shard, with other members between."""

    key: str
    labels: Labels


@dataclass(slots=True)
class ShardReader:
    """Reads one shard; iterate it once, then look at what it says of the whole.

    Args:
        shard: what to read.
        limits: an image of more bytes is rejected unread.
        wanted: for a sampling pass: the ordinals of the images whose bytes are wanted. Others come without bytes, a
            plain tar is not read where it can be skipped, and no digest is made.
    """

    shard: Shard
    limits: Limits = field(default_factory=Limits)
    wanted: Callable[[int], bool] | None = None
    seen: int = 0
    bad_labels: int = 0
    """Sidecars that were not valid labels; their images are kept."""
    damage: str | None = None
    """Why the shard is not whole, or None."""
    sha256: str = ""
    size: int = 0
    """Bytes of the tar, or of all image files."""

    def __iter__(self) -> Iterator[Sample | LateLabels]:
        if self.shard.kind is ShardKind.FILES:
            return self._files()
        return self._tar()

    def _files(self) -> Iterator[Sample]:
        digest = hashlib.sha256()
        for name in self.shard.files:
            sample = self._file(name)
            digest.update(f"{name}\0{sample.size}\0".encode(errors="surrogateescape"))
            digest.update(sample.data)
            self.size += sample.size
            yield sample
        self.sha256 = digest.hexdigest()

    def _file(self, name: str) -> Sample:
        path = Path(self.shard.path, name)
        sample = Sample(self.seen, name.encode(errors="replace").decode())
        self.seen += 1
        if _unsafe(name.removeprefix("/"), allow_parents=True):
            return _rejected(sample, Reject.UNSAFE_NAME, repr(name))
        if self.wanted is not None and not self.wanted(sample.ordinal):
            return sample
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                return _rejected(sample, Reject.NOT_A_FILE, "a device or FIFO would be waited for without end")
            sample.size = status.st_size
            if sample.size > self.limits.max_bytes:
                return _rejected(sample, Reject.TOO_LARGE, f"{sample.size:,} bytes, limit {self.limits.max_bytes:,}")
            sample.data = path.read_bytes()
            for suffix in SIDECARS:
                sidecar = path.with_suffix(suffix)
                if sidecar.is_file() and sidecar.stat().st_size <= MAX_SIDECAR_BYTES:
                    sample.labels |= self._labels(suffix, sidecar.read_bytes())
        except OSError as err:
            return _rejected(sample, Reject.UNREADABLE, err.strerror or str(err))
        if not sample.labels and (folder := PurePosixPath(name).parent.name):
            sample.labels = {"folder": folder}
        return sample

    def _tar(self) -> Iterator[Sample | LateLabels]:
        digest = hashlib.sha256() if self.wanted is None else None
        keys: set[int] = set()  # hashes: 64 bits tell a shard's keys apart, and cost less than the keys
        orphans: dict[str, Labels] = {}
        held: Sample | None = None
        try:
            with open_tar(self.shard.path, hasher=digest) as walk:
                for member in walk:
                    path = PurePosixPath(member.name)
                    key, suffix = member.name.removesuffix(path.suffix).removeprefix("./"), path.suffix.lower()
                    if suffix in SIDECARS and member.kind is MemberKind.FILE:
                        labels = self._labels(suffix, _sidecar(walk, member))
                        if held is not None and held.key == key:
                            held.labels |= labels
                        elif hash(key) in keys:
                            yield LateLabels(key, labels)
                        elif len(orphans) < MAX_ORPHANS:
                            orphans[key] = orphans.get(key, {}) | labels
                        else:
                            self.bad_labels += 1
                    elif suffix in IMAGE_SUFFIXES and member.kind is not MemberKind.FOLDER:
                        if held is not None:
                            yield held
                        held = self._member(walk, member, key, keys)
                        held.labels |= orphans.pop(key, {})
                if held is not None:
                    yield held
            self.damage = walk.damage
            self.size = self.shard.tar_status().size
        except OSError as err:
            raise HashgrainError(
                Reason.SHARD_MISSING, f"shard {self.shard.path} could not be read: {err.strerror or err}"
            ) from err
        self.sha256 = "" if digest is None else digest.hexdigest()

    def _member(self, walk: TarWalk, member: Member, key: str, keys: set[int]) -> Sample:
        sample = Sample(self.seen, key.encode(errors="replace").decode(), member.offset, member.size)
        self.seen += 1
        if _unsafe(member.name):
            return _rejected(sample, Reject.UNSAFE_NAME, repr(member.name)[:200])
        if member.kind is MemberKind.LINK:
            return _rejected(sample, Reject.LINK, "a link has no bytes of its own")
        if member.kind is not MemberKind.FILE:
            return _rejected(sample, Reject.NOT_A_FILE, member.kind)
        if hash(key) in keys:
            return _rejected(sample, Reject.DUPLICATE_KEY, "an earlier image of this shard has the key")
        if member.size > self.limits.max_bytes:
            return _rejected(sample, Reject.TOO_LARGE, f"{member.size:,} bytes, limit {self.limits.max_bytes:,}")
        keys.add(hash(key))
        if self.wanted is not None and not self.wanted(sample.ordinal):
            return sample
        sample.data = walk.read(member)
        if len(sample.data) < member.size:
            return _rejected(
                sample, Reject.TRUNCATED, f"the shard ends after {len(sample.data):,} of {member.size:,} bytes"
            )
        return sample

    def _labels(self, suffix: str, data: bytes) -> Labels:
        try:
            return parse_labels(suffix, data)
        except ValueError:
            self.bad_labels += 1
            return {}


def _sidecar(walk: TarWalk, member: Member) -> bytes:
    return walk.read(member) if member.size <= MAX_SIDECAR_BYTES else b""


def _rejected(sample: Sample, reject: Reject, detail: str) -> Sample:
    sample.reject, sample.detail, sample.data = reject, detail, b""
    return sample


def _unsafe(name: str, *, allow_parents: bool = False) -> bool:
    """Whether a name could mean a place outside its archive, or cannot be printed or stored."""
    parts = name.split("/")
    if name.startswith("/") or (".." in parts and not allow_parents) or any(ord(char) < 32 for char in name):
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return True
    return False
