"""The bytes of a shard's file in order: unpacked if it is compressed, hashed if that is wanted, skipped where they are not."""

import io
import os
from contextlib import suppress
from typing import BinaryIO, TypeAlias

from encoder.images.archives.compression import Compression, Unpacked
from encoder.images.archives.hash_thread import Hasher

CHUNK = 1 << 20
"""Bytes one read asks for at most, so that a size nobody wrote costs no memory."""


VIEWED = 32 << 10
"""Bytes of a view, at least: it holds a block of `CHUNK` bytes in memory, which fewer are not worth."""


class HashedFile(io.BufferedIOBase):
    """A file hashed as it is read, a block at a time: once and in order, since it cannot seek."""

    def __init__(self, raw: io.RawIOBase, hasher: Hasher) -> None:
        super().__init__()
        self.block = b""
        """What was read last."""
        self._raw, self._hasher = raw, hasher
        self._at = 0

    def step(self, size: int) -> int:
        """Pass over the next bytes if they lie in the block, and return where they begin there; else return -1."""
        at = self._at
        if not 0 <= size <= len(self.block) - at:
            return -1
        self._at = at + size
        return at

    def read(self, size: int, /) -> bytes:  # type: ignore[override]  # there is no reading it all at once
        """Return the next bytes; fewer than `size` only at the end of the file."""
        parts: list[bytes] = []
        while size and (self._at < len(self.block) or self._fill()):
            parts.append(self.block[self._at : self._at + size])
            self._at += len(parts[-1])
            size -= len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _fill(self) -> bool:
        """Read the next block, which is empty at the end of the file."""
        self.block, self._at = self._raw.read(CHUNK) or b"", 0
        if self.block:
            self._hasher.update(self.block)
        return bool(self.block)


Readable: TypeAlias = BinaryIO | HashedFile
"""What a source reads: a file that can seek, or one that is read whole."""


class Source:
    """The bytes of a file, in order. Where reading breaks they end, and `broken` says why.

    Args:
        file: at its start.
        compression: of the file; the bytes are then what it unpacks to.
        whole: read every byte, so that `drain` ends at the very end of the file. Otherwise what nobody asks for is skipped by
            seeking if the file is not compressed, and it must be seekable.
    """

    def __init__(self, file: Readable, *, compression: Compression | None = None, whole: bool) -> None:
        self.broken: str | None = None
        self.compression = compression
        self.position = 0
        self._file = file
        self._whole = whole
        self._unpacked = Unpacked(file, compression) if compression else None
        self._stream = io.BufferedReader(self._unpacked, CHUNK) if self._unpacked else file
        self._hashed = self._stream if isinstance(self._stream, HashedFile) else None
        self.length = None if compression or whole else file.seek(0, os.SEEK_END)
        if self.length is not None:
            file.seek(0)

    def read(self, size: int) -> bytes:
        """Return the next bytes; fewer where the file ends or breaks."""
        if self._hashed is not None and (at := self._hashed.step(size)) >= 0:
            self.position += size
            return self._hashed.block[at : at + size]
        chunk = self._read_chunk(min(size, CHUNK))
        if len(chunk) == size or not chunk:
            return chunk
        chunks = [chunk]
        size -= len(chunk)
        while size > 0 and (chunk := self._read_chunk(min(size, CHUNK))):
            chunks.append(chunk)
            size -= len(chunk)
        return b"".join(chunks)

    def view(self, size: int) -> bytes | memoryview:
        """Return what `read` returns, as a view of the block in which they lie where these are many bytes of one."""
        if self._hashed is None or size < VIEWED or (at := self._hashed.step(size)) < 0:
            return self.read(size)
        self.position += size
        return memoryview(self._hashed.block)[at : at + size]

    def skip_to(self, end: int) -> None:
        """Go on to a position, or to the end if that comes before; never back."""
        if self.length is not None:
            if end > self.position:
                self.position = self._stream.seek(min(end, self.length))
            return
        if self._hashed is not None and self._hashed.step(end - self.position) >= 0:
            self.position = end
        while self.position < end and self._read_chunk(min(end - self.position, CHUNK)):
            pass

    def drain(self) -> None:
        """Read the rest of a file of which every byte is to be read."""
        with suppress(OSError):  # whoever cannot read on here has damage to report already
            while self._whole and self._file.read(CHUNK):
                pass

    def _read_chunk(self, size: int) -> bytes:
        if self.broken or size <= 0:
            return b""
        try:
            chunk = self._stream.read(size)
        except OSError as err:
            self.broken = f"cannot be read at byte {self.position}: {err}"
            return b""
        self.position += len(chunk)
        if self._unpacked and self._unpacked.broken and len(chunk) < size:
            self.broken = f"{self.compression} stream is broken at byte {self.position}: {self._unpacked.broken}"
        return chunk
