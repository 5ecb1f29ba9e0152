"""Reading one image back from its shard, by its place."""

from pathlib import Path

from encoder.errors import HashgrainError, Reason
from encoder.images.shards import ShardKind
from encoder.images.tar_walk import read_member


def read_image(kind: ShardKind, path: str, member: str, offset: int, size: int) -> bytes:
    """Read one image back from its place.

    Args:
        kind: of its shard.
        path: the tar or its URL, or the folder of a FILES shard.
        member: FILES: path below `path`.
        offset: tars: of the data, bytes in the uncompressed archive.
        size: tars: of the data, bytes.

    Raises:
        HashgrainError: `shard-missing` or `shard-damaged`.
    """
    if kind is not ShardKind.FILES:
        return read_member(path, offset, size)
    try:
        return Path(path, member).read_bytes()
    except OSError as err:
        raise HashgrainError(
            Reason.SHARD_MISSING, f"image {Path(path, member)} could not be read: {err.strerror}"
        ) from err
