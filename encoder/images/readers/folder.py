"""Image files below a folder, a file each, with their sidecars beside them."""

import hashlib
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from encoder.errors import HashgrainError, Reason, Reject
from encoder.images.samples import Sample, ShardReader, is_unsafe
from encoder.images.shards import ShardKind
from encoder.images.sidecars import LABEL_SIDECARS, MAX_SIDECAR_BYTES, Labels


class FolderReader(ShardReader):
    """Reads image files one by one."""

    kind = ShardKind.FILES

    def __iter__(self) -> Iterator[Sample]:
        """Yield every image file; the digest is one of names, sizes and contents."""
        digest = hashlib.sha256()
        for name in self.shard.files:
            sample = self._sample(name)
            digest.update(f"{name}\0{sample.size}\0".encode(errors="surrogateescape"))
            digest.update(sample.data)
            self.size += sample.size
            yield sample
        self.sha256 = digest.hexdigest()

    def stamp(self) -> str:
        """Return a digest of names, sizes and times of modification, the sidecars' with them."""
        digest = hashlib.sha256()
        for file in self.shard.files:
            image = Path(self.shard.path, file)
            for path in (image, *map(image.with_suffix, LABEL_SIDECARS)):
                try:
                    status = path.stat()
                except OSError:
                    continue
                digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
            digest.update(file.encode(errors="surrogateescape"))
        return digest.hexdigest()

    def nbytes(self) -> int:
        """Return the bytes of the image files that are there."""
        files = [Path(self.shard.path, name) for name in self.shard.files]
        return sum(file.stat().st_size for file in files if file.exists())

    @staticmethod
    def read_image(path: str, member: str, _offset: int, _size: int, /) -> bytes:
        """Read a file below the folder."""
        try:
            return Path(path, member).read_bytes()
        except OSError as err:
            raise HashgrainError(
                Reason.SHARD_MISSING, f"image {Path(path, member)} could not be read: {err.strerror}"
            ) from err

    def _sample(self, name: str) -> Sample:
        path = Path(self.shard.path, name)
        sample = Sample(self.seen, name.encode(errors="replace").decode())
        self.seen += 1
        if is_unsafe(name.removeprefix("/"), allow_parents=True):
            return sample.rejected(Reject.UNSAFE_NAME, repr(name))
        if self.wanted is not None and not self.wanted(sample.ordinal):
            with suppress(OSError):  # whoever wants the image is told
                sample.labels = self._labels(name) if self.labelled else {}
            return sample
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                return sample.rejected(Reject.NOT_A_FILE, "a device or FIFO would be waited for without end")
            sample.size = status.st_size
            if sample.size > self.limits.max_bytes:
                return sample.rejected(Reject.TOO_LARGE, f"{sample.size:,} bytes, limit {self.limits.max_bytes:,}")
            sample.data = path.read_bytes()
            sample.labels = self._labels(name)
        except OSError as err:
            return sample.rejected(Reject.UNREADABLE, err.strerror or str(err))
        return sample

    def _labels(self, name: str) -> Labels:
        labels: Labels = {}
        for suffix in LABEL_SIDECARS:
            sidecar = Path(self.shard.path, name).with_suffix(suffix)
            if sidecar.is_file() and sidecar.stat().st_size <= MAX_SIDECAR_BYTES:
                labels |= self.labels_of(suffix, sidecar.read_bytes())
        folder = PurePosixPath(name).parent.name
        return labels or ({"folder": folder} if folder else {})
