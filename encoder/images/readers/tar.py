"""Tars, plain or gzip-compressed, as webdataset has them: an image and its sidecars share a name up to the suffix.

A tar is read once from front to back in constant memory (apart from its keys, about 100 bytes per image, which duplicate
detection and late sidecars need).
"""

import hashlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import ClassVar

from encoder.errors import HashgrainError, Reason, Reject
from encoder.images.labels import Labels
from encoder.images.names import NameKind, key_of, kind_of_name, skipped_as
from encoder.images.samples import LateLabels, Sample, ShardReader
from encoder.images.shards import ShardKind
from encoder.images.sidecars import MAX_SIDECAR_BYTES
from encoder.images.tar_walk import Member, MemberKind, TarWalk, is_gzip, open_tar, read_member
from encoder.runtime.files import FileStatus, status_of

MAX_ORPHANS = 1000
"""Sidecars kept for an image that has not come yet; one normally stands beside its image."""


class TarReader(ShardReader):
    """Reads a tar, whether it is compressed or not: what tells is its first bytes, not its name."""

    kind = ShardKind.TAR
    suffixes: ClassVar[tuple[str, ...]] = (".tar",)

    @classmethod
    def kind_of(cls, path: str, /) -> ShardKind:
        """Return TAR_GZ for a file that begins as gzip does."""
        return ShardKind.TAR_GZ if is_gzip(path) else ShardKind.TAR

    def __iter__(self) -> Iterator[Sample | LateLabels]:
        """Yield every image-named member; the digest is that of the file.

        Raises:
            HashgrainError: `shard-missing`.
        """
        digest = hashlib.sha256() if self.wanted is None else None
        keys: set[int] = set()  # hashes: 64 bits tell a shard's keys apart, and cost less than the keys
        orphans: dict[str, Labels] = {}
        held: Sample | None = None
        try:
            with open_tar(self.shard.path, hasher=digest) as walk:
                for member in walk:
                    kind, suffix = kind_of_name(member.name), PurePosixPath(member.name).suffix
                    key = key_of(member.name.removesuffix(suffix))
                    if kind is NameKind.LABELS and member.kind is MemberKind.FILE:
                        labels = self.labels_of(member.name, _sidecar(walk, member))
                        if held is not None and held.key == key:
                            held.labels |= labels
                        elif hash(key) in keys:
                            yield LateLabels(key, labels)
                        elif len(orphans) < MAX_ORPHANS:
                            orphans[key] = orphans.get(key, {}) | labels
                        else:
                            self.bad_labels.add(
                                member.name, "its image has not come yet, nor have those of many before"
                            )
                    elif kind is NameKind.IMAGE and member.kind is not MemberKind.FOLDER:
                        if held is not None:
                            yield held
                        held = self._sample(walk, member, key, keys)
                        held.labels |= orphans.pop(key, {})
                    elif member.kind is not MemberKind.FOLDER:
                        self.skipped[skipped_as(member.name)] += 1
                if held is not None:
                    yield held
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

    @staticmethod
    def read_image(path: str, _member: str, offset: int, size: int, /) -> bytes:
        """Read bytes of the uncompressed tar."""
        return read_member(path, offset, size)

    def _status(self) -> FileStatus:
        return self.shard.status or status_of(self.shard.path)

    def _sample(self, walk: TarWalk, member: Member, key: str, keys: set[int]) -> Sample:
        sample = Sample(self.seen, key, member.offset, member.size)
        self.seen += 1
        if member.kind is MemberKind.LINK:
            return sample.rejected(Reject.LINK, "a link has no bytes of its own")
        if member.kind is not MemberKind.FILE:
            return sample.rejected(Reject.NOT_A_FILE, member.kind)
        if hash(key) in keys:
            return sample.rejected(Reject.DUPLICATE_KEY, "an earlier image of this shard has the key")
        if member.size > self.limits.max_bytes:
            return sample.rejected(Reject.TOO_LARGE, f"{member.size:,} bytes, limit {self.limits.max_bytes:,}")
        keys.add(hash(key))
        if self.wanted is not None and not self.wanted(sample.ordinal):
            return sample
        sample.data = walk.read(member)
        if len(sample.data) < member.size:
            return sample.rejected(
                Reject.TRUNCATED, f"the shard ends after {len(sample.data):,} of {member.size:,} bytes"
            )
        return sample


class GzipTarReader(TarReader):
    """Reads a compressed tar."""

    kind = ShardKind.TAR_GZ
    suffixes = (".tar.gz", ".tgz")
    sequential = True


def _sidecar(walk: TarWalk, member: Member) -> bytes | None:
    return walk.read(member) if member.size <= MAX_SIDECAR_BYTES else None
