"""Tars, plain or compressed, as webdataset has them: an image and its labels share a name up to the suffix.

Beside one may lie the table that img2dataset leaves, `00000.parquet` beside `00000.tar`: its columns are labels, too.
"""

from contextlib import AbstractContextManager
from typing import ClassVar

from encoder.images.archives.hash_thread import Hasher
from encoder.images.archives.tar_walk import TarWalk, open_tar, read_member
from encoder.images.labels.table import LabelTable
from encoder.images.labels.table_files import shard_table_path, table_of_shard
from encoder.images.readers.members import MembersReader
from encoder.images.shards import ShardKind
from encoder.runtime.files import status_of


class TarReader(MembersReader):
    """Reads a tar, whether it is compressed or not: what tells is its first bytes, not its name."""

    kind = ShardKind.TAR
    suffixes: ClassVar[tuple[str, ...]] = (".tar",)

    def walk(self, hasher: Hasher | None, /) -> AbstractContextManager[TarWalk]:
        """See `MembersReader.walk`."""
        return open_tar(self.shard.path, hasher=hasher)

    def table(self) -> LabelTable | None:
        """Return what img2dataset left beside the tar."""
        return table_of_shard(self.shard.path, self.bad_labels)

    def stamp(self) -> str:
        """Return the stamp of the file, with that of the table beside it."""
        table = shard_table_path(self.shard.path)
        own = self._status().stamp
        return own if table is None else f"{own} {status_of(str(table)).stamp}"

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
