"""The table of shard formats: the reader of each kind of shard, and what kind a file is."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from encoder.errors import HashgrainError, Reason
from encoder.images.archives.compression import Compression, Unpacked, compression_of
from encoder.images.archives.tar_walk import BLOCK, is_header
from encoder.images.archives.zip_directory import STARTS
from encoder.images.limits import Limits
from encoder.images.names import from_escaped
from encoder.images.readers.folder import FolderReader
from encoder.images.readers.not_read import NOT_READ
from encoder.images.readers.parquet import ParquetReader, has_images
from encoder.images.readers.tar import Bzip2TarReader, GzipTarReader, TarReader, XzTarReader, ZstdTarReader
from encoder.images.readers.zip import ZipReader
from encoder.images.roots import Roots
from encoder.images.samples import ShardReader
from encoder.images.shards import Shard, ShardKind
from encoder.runtime.files import parts_of, reading

READERS: Final[Mapping[ShardKind, type[ShardReader]]] = {
    reader.kind: reader
    for reader in (
        TarReader,
        GzipTarReader,
        Bzip2TarReader,
        XzTarReader,
        ZstdTarReader,
        ZipReader,
        ParquetReader,
        FolderReader,
    )
}
ARCHIVE_SUFFIXES: Final = tuple(suffix for reader in READERS.values() for suffix in reader.suffixes)
"""Of the formats whose shards are one file each."""
_TARS: Final = {
    None: ShardKind.TAR,
    Compression.GZIP: ShardKind.TAR_GZ,
    Compression.BZIP2: ShardKind.TAR_BZ2,
    Compression.XZ: ShardKind.TAR_XZ,
    Compression.ZSTD: ShardKind.TAR_ZST,
}


def kind_of(path: str) -> ShardKind | None:
    """Return what kind of shard a file is, None if it is not one.

    Its first bytes tell, whatever it is called; where they do not, its name does, so that a damaged shard is still one.

    Args:
        path: of a file, or its URL.

    Raises:
        HashgrainError: `shard-missing` if it cannot be opened or read.
    """
    named = next((kind for kind, reader in READERS.items() if _name(path).endswith(reader.suffixes or "/")), None)
    if named is None and _name(path).endswith(tuple(NOT_READ)):
        return None  # arrays and checkpoints are zips, too
    with reading(path) as raw:
        head = raw.read(BLOCK) or b""  # at a URL one request
        if head.startswith(STARTS):
            return ShardKind.ZIP
        compression = compression_of(head)
        if named in _TARS.values():
            return _TARS[compression]
        if compression:
            raw.seek(0)
            file = io.BufferedReader(raw, 1 << 16)
            head = io.BufferedReader(Unpacked(file, compression)).read(BLOCK)
    if named is ShardKind.PARQUET or head.startswith(b"PAR1"):
        return ShardKind.PARQUET if has_images(path) else None
    return _TARS[compression] if is_header(head) else named


def suffix_of(path: str) -> str:
    """Return the ending by which a file's name says that it is a shard, as it is spelled there; empty if it does not."""
    suffix = max(filter(_name(path).endswith, ARCHIVE_SUFFIXES), key=len, default="")
    return parts_of(path)[-1][len(_name(path)) - len(suffix) :]


def reader_for(
    shard: Shard, limits: Limits = Limits(), wanted: Callable[[int], bool] | None = None, *, labelled: bool = False
) -> ShardReader:
    """Return what reads a shard; see `ShardReader`."""
    return READERS[shard.kind](shard, limits, wanted, labelled)


def read_image(
    kind: ShardKind, path: str, member: str, offset: int, size: int, roots: Roots = Roots(own=True)
) -> bytes:
    """Read one image back from its place.

    Args:
        kind: kind of its shard.
        path: path of its shard: the archive or its URL, or the folder of a FILES shard.
        member: key of the image, without the shard's prefix.
        offset: first number of its place, as the code file has it.
        size: size of its data in bytes, as the code file has it.
        roots: where it may be read from.

    Raises:
        HashgrainError: `shard-missing`, `shard-damaged` or `not-allowed`.
    """
    if kind is ShardKind.NONE:
        raise HashgrainError(
            Reason.SHARD_MISSING, f"{member!r} has no picture: its code was imported from {path}; take another row"
        )
    for name in {member, from_escaped(member)} if kind is ShardKind.FILES else {""}:
        roots.check(path, str(Path(path, name)))
    return READERS[kind].read_image(path, member, offset, size)


def _name(path: str) -> str:
    return parts_of(path)[-1].lower()
