"""What a shard is: one unit of work, which becomes one code file."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from encoder.runtime.files import FileStatus, status_of

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})


TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")


class ShardKind(StrEnum):
    """How a shard holds its images, and so how one of them is read back."""

    TAR = "tar"
    """A plain tar: one seek reaches any image."""
    TAR_GZ = "tar.gz"
    """A compressed tar: an image is reached by reading from the front."""
    FILES = "files"
    """Image files below a folder."""


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
    status: FileStatus | None = None
    """URLs only: as it was when the shard was named, since asking again takes a request."""

    def tar_status(self) -> FileStatus:
        """Return size and stamp of a tar.

        Raises:
            HashgrainError: `shard-missing`.
        """
        return self.status or status_of(self.path)

    def stamp(self) -> str:
        """Tell cheaply whether a shard changed: sizes and times of modification, no content is read."""
        if self.kind is not ShardKind.FILES:
            return self.tar_status().stamp
        digest = hashlib.sha256()
        for file in self.files:
            image = Path(self.path, file)
            for path in (image, image.with_suffix(".json"), image.with_suffix(".cls")):
                try:
                    status = path.stat()
                except OSError:
                    continue
                digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
            digest.update(file.encode(errors="surrogateescape"))
        return digest.hexdigest()
