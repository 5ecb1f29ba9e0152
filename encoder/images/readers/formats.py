"""The table of shard formats: the reader of each kind of shard, and the suffixes of the files that are shards."""

from collections.abc import Callable, Mapping
from typing import Final

from encoder.images.limits import Limits
from encoder.images.readers.folder import FolderReader
from encoder.images.readers.tar import GzipTarReader, TarReader
from encoder.images.samples import ShardReader
from encoder.images.shards import Shard, ShardKind

READERS: Final[Mapping[ShardKind, type[ShardReader]]] = {
    reader.kind: reader for reader in (TarReader, GzipTarReader, FolderReader)
}
ARCHIVES: Final[Mapping[str, type[ShardReader]]] = {
    suffix: reader for reader in READERS.values() for suffix in reader.suffixes
}
"""By suffix, the formats whose shards are one file each."""
ARCHIVE_SUFFIXES: Final = tuple(ARCHIVES)


def reader_for(
    shard: Shard, limits: Limits = Limits(), wanted: Callable[[int], bool] | None = None, *, labelled: bool = False
) -> ShardReader:
    """Return what reads a shard; see `ShardReader`."""
    return READERS[shard.kind](shard, limits, wanted, labelled)


def read_image(kind: ShardKind, path: str, member: str, offset: int, size: int) -> bytes:
    """Read one image back from its place.

    Args:
        kind: kind of its shard.
        path: path of its shard: the archive or its URL, or the folder of a FILES shard.
        member: key of the image, without the shard's prefix.
        offset: where its data begin, as the code file has it.
        size: size of its data in bytes, as the code file has it.

    Raises:
        HashgrainError: `shard-missing` or `shard-damaged`.
    """
    return READERS[kind].read_image(path, member, offset, size)
