"""Image files below a folder, a file each, with their sidecars beside them."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import repeat
from pathlib import Path

from encoder.errors import HashgrainError, Reason, Reject, why
from encoder.images.labels.sidecars import MAX_SIDECAR_BYTES
from encoder.images.labels.values import Labels
from encoder.images.limits import Limits
from encoder.images.names import escaped, folders_of, from_escaped
from encoder.images.samples import Sample, ShardReader
from encoder.images.shards import ShardKind
from encoder.runtime.files import exists, read_regular


class FolderReader(ShardReader):
    """Reads image files one by one."""

    kind = ShardKind.FILES

    def __iter__(self) -> Iterator[Sample]:
        """Yield every image file; the digest is one of names, sizes and contents."""
        digest = self.hasher()
        for name, sidecars in self._files():
            sample = self._sample(name, sidecars)
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

    def _sample(self, name: str, sidecars: tuple[str, ...]) -> Sample:
        sample = Sample(self.seen, escaped(name))
        self.seen += 1
        if self.wanted is not None and not self.wanted(sample.ordinal):
            sample.labels = self._labels(name, sidecars) if self.labelled else {}
            return sample
        try:
            sample.size, data = _read(self._path(name), self.limits.max_bytes)
        except _NotAFileError:
            return sample.rejected(Reject.NOT_A_FILE, "a device or FIFO")
        except OSError as err:
            return sample.rejected(Reject.UNREADABLE, err.strerror or str(err))
        if data is None:
            return sample.rejected(Reject.TOO_LARGE, f"{sample.size:,} bytes, limit {self.limits.max_bytes:,}")
        sample.data = data
        sample.labels = self._labels(name, sidecars)
        return sample

    def _labels(self, name: str, sidecars: tuple[str, ...]) -> Labels:
        """Return the folders of an image and the labels of its sidecars."""
        labels: Labels = {**folders_of(name)}
        for sidecar in sidecars:
            labels |= self._labels_in(sidecar)
        return labels

    def _labels_in(self, sidecar: str) -> Labels:
        """Return the labels in a file; one that cannot be read costs them, not the image."""
        name = sidecar.rpartition("/")[2]
        try:
            _, data = _read(self._path(sidecar), MAX_SIDECAR_BYTES)
        except _NotAFileError:
            self.bad_labels.add(name, "not a file")
            return {}
        except OSError as err:
            self.bad_labels.add(name, why(err))
            return {}
        return self.labels_of(name, data)


class _NotAFileError(Exception):
    """What lies there is a device, a FIFO or a folder."""


def _read(path: str, limit: int) -> tuple[int, bytes | None]:
    """Return a file's size and, up to a limit, its bytes, by few calls of the system: each costs a turn of the interpreter."""
    # not blocking: a FIFO would be waited for without end
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(opened)
        if not stat.S_ISREG(status.st_mode):
            raise _NotAFileError
        size = status.st_size
        if size > limit:
            return size, None
        data = os.read(opened, size)
        while len(data) < size and (more := os.read(opened, size - len(data))):  # a read brings 2 GiB at most
            data += more
        return size, data
    finally:
        os.close(opened)
