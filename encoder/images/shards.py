"""What a shard is: one unit of work, which becomes one code file."""

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from encoder.runtime.files import FileStatus, exists, is_url


class ShardKind(StrEnum):
    """How a shard holds its images, and so how one of them is read back."""

    TAR = "tar"
    """A plain tar: one seek reaches any image."""
    TAR_GZ = "tar.gz"
    """A tar inside gzip: an image is reached by reading from the front, as in the next three."""
    TAR_BZ2 = "tar.bz2"
    TAR_XZ = "tar.xz"
    TAR_ZST = "tar.zst"
    ZIP = "zip"
    """A zip: one seek reaches any image."""
    PARQUET = "parquet"
    """Rows with a column of images: an image is reached by reading its row group up to it."""
    FILES = "files"
    """Image files below a folder."""
    NONE = "none"
    """No images: codes that were made elsewhere."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One unit of work: it becomes one code file."""

    name: str
    """Unique within a run; the code file is `name` + ".h5"."""
    kind: ShardKind
    path: str
    """The tar file, or the folder that `files` are relative to, absolute; or the URL of a tar."""
    files: tuple[str, ...] = ()
    """FILES only: image paths in order, POSIX style."""
    sidecars: tuple[tuple[str, ...], ...] = ()
    """FILES only: the paths of each file's sidecars; empty where none has any. Labels of a later one win."""
    status: FileStatus | None = None
    """URLs only: as it was when the shard was named, since asking again takes a request."""
    root: str | None = None
    """The folder that the user named and the shard was found in, absolute; None where the shard itself was named."""


def found_from(folder: Path, path: str, relative: str | None) -> str:
    """Return where a shard is: `relative` to a folder if that exists, else `path`."""
    # a folder may be opened through a link; links to shards stay
    if relative is not None and exists(moved := os.path.abspath(folder.resolve() / relative)):  # noqa: PTH100
        return moved
    return path


def relative_to(folder: Path, path: str) -> str | None:
    """Return the path from a folder to a shard that lies beside or below it; None elsewhere, and for a URL."""
    beside = folder.resolve().parent
    if is_url(path) or not Path(path).is_relative_to(beside) or beside == Path(beside.anchor):
        return None
    return os.path.relpath(path, folder.resolve())
