"""The data of one member of a zip, unpacked piece by piece and checked."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Mapping
from typing import Final

from encoder.errors import Reject
from encoder.images.archives.archive import UnreadableMemberError
from encoder.images.archives.compression import BROKEN, DECOMPRESSORS, MEMORY, Compression, Decompressor, Deflate
from encoder.images.archives.source import Source
from encoder.images.archives.zip_directory import STORED, Entry

_PIECE = 1 << 16


class MemberData:
    """The data of a member, unpacked piece by piece.

    Args:
        source: at the data.
        entry: of the member.
        packed: bytes that they take in the file, at most.
        size: of the data.
        crc: of the data; None where it stands behind them.
    """

    def __init__(self, source: Source, entry: Entry, packed: int, size: int, crc: int | None) -> None:
        if entry.encrypted:
            raise UnreadableMemberError(Reject.UNREADABLE, "it is encrypted; unpack the zip with its password")
        if entry.method != STORED and entry.method not in _METHODS:
            what = _NOT_READ.get(entry.method, "unknown")
            raise UnreadableMemberError(
                Reject.UNREADABLE, f"it is packed by method {entry.method} ({what}); pack the zip anew with deflate"
            )
        self._source, self._left, self._size, self._crc = source, packed, size, crc
        self._stream = None if entry.method == STORED else _METHODS[entry.method]()
        self._given = self._own_crc = 0
        if self._stream is None and packed != size:
            raise UnreadableMemberError(Reject.CORRUPT, f"it has {packed:,} bytes, not {size:,}")

    def read(self, size: int) -> bytes:
        """Return the next bytes, checked once all were read; fewer where the file ends."""
        size = min(size, self._size - self._given)
        if self._stream is None:
            data = self._read_packed(size)
        else:
            try:
                data = self._unpack(self._stream, size)
            except BROKEN as err:
                raise UnreadableMemberError(Reject.CORRUPT, str(err)) from err
        self._given += len(data)
        self._own_crc = zlib.crc32(data, self._own_crc)
        if self._given == self._size and self._crc not in (None, self._own_crc):
            raise UnreadableMemberError(Reject.CORRUPT, "its checksum is wrong")
        return data

    def check_descriptor(self) -> None:
        """Check the checksum that stands behind the data."""
        behind = b"" if self._stream is None else self._stream.unused_data[:8]
        behind += self._source.read(8 - len(behind))
        if self._own_crc.to_bytes(4, "little") not in (behind[:4], behind[4:] if behind[:4] == b"PK\7\x08" else b""):
            raise UnreadableMemberError(Reject.CORRUPT, "its checksum is wrong")

    def _read_packed(self, size: int) -> bytes:
        data = self._source.read(min(size, self._left))
        self._left -= len(data)
        return data

    def _unpack(self, stream: Decompressor, size: int) -> bytes:
        """Return the next bytes of a packed member; at its end, make sure that nothing comes behind them."""
        pieces = []
        last = self._given + size == self._size
        while (size or last) and not stream.eof:
            wants = stream.needs_input
            data = self._read_packed(_PIECE) if wants else b""
            piece = stream.decompress(data, size or 1)
            if len(piece) > size:
                raise ValueError("it unpacks to more than its size")
            if wants and not (data or piece):
                break
            pieces.append(piece)
            size -= len(piece)
        if size and (stream.eof or not self._left):
            raise EOFError("it unpacks to less than its size")
        return b"".join(pieces)


class _Lzma:
    """A stream of LZMA as zips have it: with properties before it, and an end that is marked or not."""

    def __init__(self) -> None:
        self._head = b""
        self._stream: lzma.LZMADecompressor | None = None

    @property
    def eof(self) -> bool:
        """See `Decompressor`."""
        return self._stream is not None and self._stream.eof

    @property
    def needs_input(self) -> bool:
        """See `Decompressor`."""
        return self._stream is None or self._stream.needs_input

    @property
    def unused_data(self) -> bytes:
        """See `Decompressor`."""
        return b"" if self._stream is None else self._stream.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """See `Decompressor`."""
        if self._stream is None:
            self._head += data
            end = 4 + int.from_bytes(self._head[2:4], "little")
            if len(self._head) < max(end, 4):
                return b""
            self._stream = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MEMORY)
            data = self._head[4:end] + b"\xff" * 8 + self._head[end:]  # as a file .lzma whose size is not told
        return self._stream.decompress(data, max_length)


_METHODS: Final[Mapping[int, Callable[[], Decompressor]]] = {
    8: lambda: Deflate(-15),
    12: bz2.BZ2Decompressor,
    14: _Lzma,
    93: DECOMPRESSORS[Compression.ZSTD],
    95: DECOMPRESSORS[Compression.XZ],
}
_NOT_READ = {1: "Shrink", 6: "Implode", 9: "Deflate64", 97: "WavPack", 98: "PPMd", 99: "AES encryption"}
