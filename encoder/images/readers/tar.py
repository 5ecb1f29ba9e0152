"""Tars, plain or compressed, as webdataset has them: an image and its labels share a name up to the suffix."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar

from encoder.images.readers.members import MembersReader
from encoder.images.shards import ShardKind
from encoder.images.tar_walk import TarWalk, open_tar, read_member

if TYPE_CHECKING:
    from hashlib import _Hash


class TarReader(MembersReader):
    """Reads a tar, whether it is compressed or not: what tells is its first bytes, not its name."""

    kind = ShardKind.TAR
    suffixes: ClassVar[tuple[str, ...]] = (".tar",)

    def walk(self, hasher: "_Hash | None", /) -> AbstractContextManager[TarWalk]:
        """See `MembersReader.walk`."""
        return open_tar(self.shard.path, hasher=hasher)

    @staticmethod
    def read_image(path: str, _member: str, offset: int, size: int, /) -> bytes:
        """Read bytes of the uncompressed tar."""
        return read_member(path, offset, size)


class GzipTarReader(TarReader):
    """Reads a tar inside gzip."""

    kind = ShardKind.TAR_GZ
    suffixes = (".tar.gz", ".tgz")
    sequential = True


class Bzip2TarReader(TarReader):
    """Reads a tar inside bzip2."""

    kind = ShardKind.TAR_BZ2
    suffixes = (".tar.bz2", ".tbz2", ".tbz")
    sequential = True


class XzTarReader(TarReader):
    """Reads a tar inside xz."""

    kind = ShardKind.TAR_XZ
    suffixes = (".tar.xz", ".txz")
    sequential = True


class ZstdTarReader(TarReader):
    """Reads a tar inside Zstandard."""

    kind = ShardKind.TAR_ZST
    suffixes = (".tar.zst", ".tzst")
    sequential = True
