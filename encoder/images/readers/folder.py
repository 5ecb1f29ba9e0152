"""Image files below a folder, a file each, with their sidecars beside them."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice, repeat
from pathlib import Path

from encoder.errors import HashgrainError, Reason, Reject, why
from encoder.images.labels.sidecars import MAX_SIDECAR_BYTES
from encoder.images.labels.values import Labels
from encoder.images.limits import Limits
from encoder.images.names import escaped, folders_of, from_escaped
from encoder.images.readers.read_ahead import Found, read_ahead
from encoder.images.readers.read_whole import NotAFileError, read_whole
from encoder.images.samples import Sample, ShardReader
from encoder.images.shards import ShardKind
from encoder.runtime.files import exists, read_regular

AHEAD_FROM = 512
"""Files of a shard from which on a process that reads them ahead saves more than it costs to start."""


class FolderReader(ShardReader):
    """Reads image files one by one."""

    kind = ShardKind.FILES

    def __iter__(self) -> Iterator[Sample]:
        """Yield every image file; the digest is one of names, sizes and contents."""
        digest = self.hasher()
        ahead = self.wanted is None and len(self.shard.files) >= AHEAD_FROM
        paths = (self._path(name) for image, sidecars in self._files() for name in (image, *sidecars))
        found = read_ahead(paths) if ahead else repeat(None)
        for name, sidecars in self._files():
            sample = self._sample(name, sidecars, found)
            digest.update(f"{name}\0{sample.size}\0".encode(errors="surrogateescape"))
            digest.update(sample.data)
            self.size += sample.size
            yield sample
        self.sha256 = digest.hexdigest()

    def stamp(self) -> str:
        """Return a digest of names, sizes, times of modification and whether they may be read, the sidecars' with them."""
        digest = hashlib.sha256()
        for file, sidecars in self._files():
            for name in (file, *sidecars):
                path = self._path(name)
                try:
                    status = os.stat(path)  # noqa: PTH116  see `_path`
                except OSError:
                    continue
                readable = "" if os.access(path, os.R_OK) else "not readable"
                base = name.rpartition("/")[2]
                stamp = f"{base}\0{status.st_size}\0{status.st_mtime_ns}\0{readable}"
                digest.update(stamp.encode(errors="surrogateescape"))
            digest.update(file.encode(errors="surrogateescape"))
        return digest.hexdigest()

    def nbytes(self) -> int:
        """Return the bytes of the image files that are there."""
        total = 0
        for name in self.shard.files:
            with suppress(OSError):
                total += os.stat(self._path(name)).st_size  # noqa: PTH116  see `_path`
        return total

    @staticmethod
    def read_image(path: str, member: str, _offset: int, size: int, /) -> bytes:
        """Read a file below the folder, of no more bytes than were recorded; none were where a size is 0."""
        file = Path(path, member)
        try:
            return read_regular(file if exists(file) else Path(path, from_escaped(member)), size or Limits().max_bytes)
        except (OSError, ValueError) as err:  # ValueError: a null character, which no file has in its name
            raise HashgrainError(
                Reason.SHARD_MISSING, f"image {file} could not be read: {getattr(err, 'strerror', None) or err}"
            ) from err

    def _path(self, name: str) -> str:
        return os.path.join(self.shard.path, name)  # noqa: PTH118  a `Path` takes longer to make than the file to open

    def _files(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield each image with its sidecars."""
        return zip(self.shard.files, self.shard.sidecars or repeat(()), strict=False)

    def _sample(self, name: str, sidecars: tuple[str, ...], ahead: Iterator[Found]) -> Sample:
        found, *of_sidecars = islice(ahead, 1 + len(sidecars))
        sample = Sample(self.seen, escaped(name))
        self.seen += 1
        if self.wanted is not None and not self.wanted(sample.ordinal):
            sample.labels = self._labels(name, sidecars, of_sidecars) if self.labelled else {}
            return sample
        try:
            sample.size, data = _taken(self._path(name), self.limits.max_bytes, found)
        except NotAFileError:
            return sample.rejected(Reject.NOT_A_FILE, "a device or FIFO")
        except OSError as err:
            return sample.rejected(Reject.UNREADABLE, err.strerror or str(err))
        if data is None:
            return sample.rejected(Reject.TOO_LARGE, f"{sample.size:,} bytes, limit {self.limits.max_bytes:,}")
        sample.data = data
        sample.labels = self._labels(name, sidecars, of_sidecars)
        return sample

    def _labels(self, name: str, sidecars: tuple[str, ...], found: list[Found]) -> Labels:
        """Return the folders of an image and the labels of its sidecars."""
        labels: Labels = {**folders_of(name)}
        for sidecar, read in zip(sidecars, found, strict=True):
            labels |= self._labels_in(sidecar, read)
        return labels

    def _labels_in(self, sidecar: str, found: Found) -> Labels:
        """Return the labels in a file; one that cannot be read costs them, not the image."""
        name = sidecar.rpartition("/")[2]
        try:
            _, data = _taken(self._path(sidecar), MAX_SIDECAR_BYTES, found)
        except NotAFileError:
            self.bad_labels.add(name, "not a file")
            return {}
        except OSError as err:
            self.bad_labels.add(name, why(err))
            return {}
        return self.labels_of(name, data)


def _taken(path: str, limit: int, found: Found) -> tuple[int, bytes | None]:
    """Return as `read_whole` does, what was read ahead if it was."""
    if isinstance(found, bytes):
        return len(found), found if len(found) <= limit else None
    if found is not None:
        raise found
    return read_whole(path, limit)
