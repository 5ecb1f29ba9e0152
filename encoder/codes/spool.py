"""Where a file's columns wait until their sizes are known, and how they get to a disk that may be full."""

import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from encoder.runtime.publish import BLOCK

MEMORY_PER_COLUMN = 4 << 20
"""Bytes of a column that are held in memory before it is spooled to an unnamed file."""


class PatientFile(io.FileIO):
    """A file that keeps its first failed write for later: libhdf5 can crash the process when its disk is full.

    Source: h5py issue 914, and an exit by SIGSEGV seen at some file size limits (tests/e2e/test_disk_full.py).
    """

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write, or pretend to after a failure."""
        view = memoryview(data).cast("B")
        try:
            while self.failure is None and len(view):
                view = view[super().write(view) :]
        except OSError as err:
            self.failure = err
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None, /) -> int:
        """Set the size, or pretend to after a failure."""
        try:
            return self.tell() if self.failure else super().truncate(size)
        except OSError as err:
            self.failure = err
            return self.tell()


class Spool:
    """Bytes appended now and copied into the file later: in memory while small, else in an unnamed file."""

    def __init__(self, folder: Path) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(MEMORY_PER_COLUMN, "w+b", dir=str(folder))  # noqa: SIM115  closed by `close`
        self.size = 0

    def append(self, data: bytes) -> None:
        """Append bytes."""
        self._file.write(data)
        self.size += len(data)

    def blocks(self) -> Iterator[bytes]:
        """Yield everything from the front, in blocks."""
        self._file.seek(0)
        while block := self._file.read(BLOCK):
            yield block

    def lines(self) -> Iterator[bytes]:
        """Yield everything from the front, line by line."""
        self._file.seek(0)
        return iter(self._file)

    def close(self) -> None:
        """Let go of the memory or the unnamed file."""
        self._file.close()


class TextSpool:
    """A column of strings, spooled as its two arrays."""

    def __init__(self, folder: Path) -> None:
        self.text, self.offsets = Spool(folder), Spool(folder)
        self.offsets.append(bytes(8))

    def extend(self, strings: Sequence[str]) -> None:
        """Append rows."""
        encoded = [string.encode() for string in strings]
        ends = self.text.size + np.cumsum([len(string) for string in encoded], dtype="<u8")
        self.text.append(b"".join(encoded))
        self.offsets.append(ends.astype("<u8", copy=False).tobytes())

    def close(self) -> None:
        """Let go of the memory or the unnamed file."""
        self.text.close()
        self.offsets.close()
