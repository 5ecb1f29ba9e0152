"""Compressed streams, told by their first bytes and unpacked piece by piece: gzip, bzip2, xz, Zstandard.

One stream behind another is one file (`cat a.gz b.gz`, and what parallel compressors write), with zero bytes between as padding.
Where a stream breaks, what came before is still given out.
"""

import bz2
import io
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_RATIO: Final = 1100
"""Bytes that one stored byte may become, a little more than deflate can make of it (1,032); bzip2 can make a million."""
FREE_BYTES: Final = 1 << 30
"""So many bytes come out of any file, whatever their ratio."""
MEMORY: Final = 256 << 20
"""Bytes that an xz stream may ask for; `xz -9` asks for 65 MiB. Zstandard's own limit is 128 MiB, as `zstd --long` asks for."""
HEAD_BYTES: Final = 10
"""So many first bytes tell the compression."""
_PIECE: Final = 1 << 16


class Compression(StrEnum):
    """What a file is compressed with."""

    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    ZSTD = "Zstandard"


class Stored(Protocol):
    """The bytes of a file as stored."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes; none at the end."""


class Decompressor(Protocol):
    """One stream being unpacked, as `bz2.BZ2Decompressor` and its like are."""

    @property
    def eof(self) -> bool:
        """Whether the stream's end was reached and its checksum was right."""

    @property
    def needs_input(self) -> bool:
        """Whether all that was handed over is used up."""

    @property
    def unused_data(self) -> bytes:
        """What was handed over and lies behind the stream's end."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Return at most so many bytes."""


class Deflate:
    """A stream of zlib's, with the manners of the others.

    Args:
        wbits: 31 for gzip, -15 for bare deflate.
    """

    def __init__(self, wbits: int) -> None:
        self._stream = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        """See `Decompressor`."""
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        """See `Decompressor`."""
        return not (self._stream.eof or self._stream.unconsumed_tail)

    @property
    def unused_data(self) -> bytes:
        """See `Decompressor`."""
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """See `Decompressor`."""
        return self._stream.decompress(self._stream.unconsumed_tail + data, max_length)


DECOMPRESSORS: Final[Mapping[Compression, Callable[[], Decompressor]]] = {
    Compression.GZIP: lambda: Deflate(31),
    Compression.BZIP2: bz2.BZ2Decompressor,
    Compression.XZ: lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY),
    Compression.ZSTD: zstd.ZstdDecompressor,
}
BROKEN: Final = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, zstd.ZstdError)
"""What they raise for data that are not theirs."""
_SIGNATURES: Final = {
    Compression.GZIP: re.compile(rb"\x1f\x8b\x08"),
    Compression.BZIP2: re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),
    Compression.XZ: re.compile(rb"\xfd7zXZ\0"),
    Compression.ZSTD: re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", re.DOTALL),
}
"""Sources: RFC 1952 (with deflate, the only method there is), bzip2's manual, .xz format 1.2, RFC 8878 (or a frame to skip)."""


def compression_of(head: bytes) -> Compression | None:
    """Return what a file is compressed with, None if it is not.

    Args:
        head: its first `HEAD_BYTES` bytes.
    """
    return next((which for which, signature in _SIGNATURES.items() if signature.match(head)), None)


class Unpacked(io.RawIOBase):
    """What a compressed file unpacks to, front to back. It ends where the file breaks, and `broken` says why."""

    def __init__(self, file: Stored, compression: Compression) -> None:
        super().__init__()
        self.broken: str | None = None
        self._file, self._make = file, DECOMPRESSORS[compression]
        self._stream = self._make()
        self._read = self._given = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill a buffer with what comes next; 0 bytes at the end, and where the file breaks."""
        view = memoryview(buffer).cast("B")
        while not self.broken:
            try:
                if (piece := self._next(len(view))) is None:
                    break
            except BROKEN as err:
                self.broken = str(err)
                break
            if piece:
                view[: len(piece)] = piece
                return len(piece)
        return 0

    def _next(self, most: int) -> bytes | None:
        """Return the next bytes, maybe none yet, or None at the end."""
        data = b""
        if self._stream.eof:
            rest = self._stream.unused_data.lstrip(b"\0")
            while not rest and (data := self._file.read(_PIECE)):
                self._read += len(data)
                rest = data.lstrip(b"\0")
            if not rest:
                return None
            self._stream, data = self._make(), rest
        elif self._stream.needs_input:
            data = self._file.read(_PIECE)
            self._read += len(data)
            if not data and not (piece := self._stream.decompress(b"", most)):
                raise EOFError("it ends before its end-of-stream marker")
            if not data:
                return piece
        piece = self._stream.decompress(data, most)
        self._given += len(piece)
        if self._given > FREE_BYTES + MAX_RATIO * self._read:
            raise ValueError(f"it unpacks to over {MAX_RATIO:,} times its size")
        return piece
