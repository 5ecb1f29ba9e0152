"""A tar read front to back, where nothing is lost without a word.

`tarfile` ends its iteration silently at many cuts and flipped bits. Here an archive is complete only if every header
has its checksum, every member its bytes, and the end its two zero blocks with nothing behind them but zeros and further
archives (`cat a.tar b.tar`); anything else is told in `TarWalk.damage`. Member data have no checksum in a tar: only a
digest of the file finds a flip there.

Nothing is ever extracted, and no name is judged here: it may be absolute, hold `..`, or stand twice.

Source: POSIX.1-2024, pax, "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format".
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from struct import Struct
from typing import NamedTuple
from zlib import adler32

from encoder.errors import HashgrainError, Reason
from encoder.images.archives.archive import Member, MemberKind
from encoder.images.archives.compression import HEAD_BYTES, Compression, compression_of
from encoder.images.archives.hash_thread import Hasher
from encoder.images.archives.source import CHUNK, HashedFile, Readable, Source
from encoder.runtime.files import AHEAD, open_file, reading

BLOCK = 512
MAX_EXTENSION = 1 << 20
"""Bytes of one long name or pax header; real ones hold a path."""
MAX_PACKED_MEMBER = 1 << 30
"""Bytes of one member of a compressed tar, which can claim a thousand times what the file holds."""
MAX_PADDING = 1 << 20
"""Zero bytes after an end-of-archive marker. `tar` fills up 10 KiB; more is a file allocated but never written."""

_ZEROS = bytes(BLOCK)
_EXTENSIONS = b"gxXLK"  # about the headers after them: pax for all, pax for one (POSIX, Solaris), GNU long names
_NO_DATA = b"123456"  # links, devices, folders, FIFOs: no data follow, whatever the size field says
_PAX_RECORD = re.compile(rb"(\d{1,7}) ([^=]+)=")  # then the value and a newline; the length is of all that
_PAX_SPARSE = frozenset({b"GNU.sparse.size", b"GNU.sparse.realsize"})
_PAX_KEPT = _PAX_SPARSE | {b"GNU.sparse.name", b"path", b"size"}


_KINDS = {ord("1"): MemberKind.LINK, ord("2"): MemberKind.LINK, ord("5"): MemberKind.FOLDER}
_KINDS |= dict.fromkeys(b"\x0007", MemberKind.FILE)


_FIELDS = Struct("100s24x12s20xB100x6s82x155s12x")  # name, size, type flag, magic, prefix


class _Header(NamedTuple):
    start: int
    flag: int
    name: bytes
    size: int  # -1 if the field holds no size
    has_map: bool  # blocks of a GNU sparse map stand between it and the data


class _DamageError(Exception):
    """Ends the walk; its text becomes `TarWalk.damage`."""


class TarWalk:
    """Walk a tar once, front to back, holding no more than the member being read.

    Args:
        file: the bytes of the file, at its start.
        compression: of the file.
        whole: read every byte in order, to the very end of the file, also after damage. Otherwise data nobody asks for
            are skipped by seeking if the tar is plain, and `file` must be seekable.
    """

    def __init__(self, file: Readable, *, compression: Compression | None = None, whole: bool = True) -> None:
        self.damage: str | None = None
        """What is wrong with the archive and where, None if it is complete; known once the iteration has ended."""
        self._source = Source(file, compression=compression, whole=whole)

    def __iter__(self) -> Iterator[Member]:
        """Yield the members in archive order; the last one before damage may be cut short.

        The data of one are `size` bytes at `offset` of the uncompressed stream.
        """
        try:
            yield from self._members()
            self.damage = self._source.broken
        except _DamageError as err:
            self.damage = self._source.broken or str(err)
        self._source.drain()

    def read(self, member: Member, size: int | None = None, /) -> bytes:
        """Return the next bytes of the member just yielded, all that are left if no size is given.

        They are fewer if the archive ends or breaks inside them.

        Raises:
            ValueError: it is not the member just yielded, or was read before.
        """
        left = self._left(member)
        return self._source.read(left if size is None else min(left, size))

    def view(self, member: Member, /) -> bytes | memoryview:
        """Return what `read` returns, maybe as a view of the block in which it lies, see `Source.view`.

        Raises:
            ValueError: as `read`.
        """
        return self._source.view(self._left(member))

    def _left(self, member: Member) -> int:
        """Return the bytes of the member just yielded that have not been read."""
        left = member.offset + member.size - self._source.position
        if not 0 < left <= member.size and member.size:
            raise ValueError(f"{_shown(member.name)} is not the member just yielded, or was read before")
        return left

    def _members(self) -> Iterator[Member]:
        for_all: dict[bytes, bytes] = {}
        for_next: dict[bytes, bytes] | None = None
        header = self._next_header() or self._next_archive()
        while header:
            if header.flag not in _EXTENSIONS:
                member = self._resolve(header, for_all | for_next if for_next else for_all)
                for_next = None
                yield member
                self._finish(member.offset, member.size, member.name)
            elif header.flag == ord("g"):
                for_all |= self._read_extension(header)
            else:
                for_next = (for_next or {}) | self._read_extension(header)
            header = self._next_header()
            if header is None:
                if for_next is not None:
                    raise _DamageError(f"an extended header without its member before byte {self._source.position}")
                for_all = {}
                header = self._next_archive()

    def _next_header(self) -> _Header | None:
        """Read the next header, or None for the end-of-archive marker."""
        start = self._source.position
        block = self._source.read(BLOCK)
        if len(block) == BLOCK and block != _ZEROS:
            return _parse_header(block, start)
        if not block:
            raise _DamageError(f"no end-of-archive marker at byte {start}")
        if len(block) < BLOCK:
            raise _DamageError(f"ends inside a header at byte {self._source.position}")
        if self._source.read(BLOCK) != _ZEROS:
            raise _DamageError(f"only half an end-of-archive marker at byte {start}")
        return None

    def _read_extension(self, header: _Header) -> dict[bytes, bytes]:
        if not 0 <= header.size <= MAX_EXTENSION:
            raise _DamageError(f"impossible size of the extended header at byte {header.start}")
        offset = self._source.position
        data = self._source.read(header.size)
        self._finish(offset, header.size)
        if header.flag == ord("L"):
            return {b"path": _until_nul(data)}
        return {} if header.flag == ord("K") else _parse_pax(data, header.start)

    def _resolve(self, header: _Header, extended: dict[bytes, bytes]) -> Member:
        """Make a member of its header and the extended ones before it, where an empty value means none."""
        start, flag, raw_name, size, more_map = header
        while more_map:
            more_map = self._source.read(BLOCK)[504:505] not in (b"", b"\0")
        kind = _KINDS.get(flag, MemberKind.OTHER)
        if extended:
            raw_name = extended.get(b"GNU.sparse.name") or extended.get(b"path") or raw_name
            if digits := extended.get(b"size"):
                size = int(digits) if digits.isdigit() and len(digits) < 20 else -1
            if not _PAX_SPARSE.isdisjoint(extended):
                kind = MemberKind.OTHER
        name = raw_name.decode("utf-8", "surrogateescape")
        if not 0 <= size < 1 << 63:
            raise _DamageError(f"impossible size of {_shown(name)} at byte {start}")
        if size > MAX_PACKED_MEMBER and (packed := self._source.compression):
            raise _DamageError(f"{_shown(name)} at byte {start} claims {size} bytes inside {packed}")
        if kind is MemberKind.FILE and name.endswith("/"):  # how folders were marked before they had a type
            kind = MemberKind.FOLDER
        return Member(name, kind, self._source.position, 0 if flag in _NO_DATA else size)

    def _finish(self, offset: int, size: int, name: str | None = None) -> None:
        """Go on to the block after `size` bytes at `offset`, which are a member's, or those of an extended header."""
        end = offset + -(-size // BLOCK) * BLOCK
        self._source.skip_to(end)
        if self._source.position < end:
            what = "an extended header" if name is None else _shown(name)
            raise _DamageError(f"ends inside {what} at byte {self._source.position}")

    def _next_archive(self) -> _Header | None:
        """Read the first header of an archive behind this one, or None if nothing but zero bytes comes."""
        end = self._source.position
        while block := self._source.read(BLOCK):
            start = self._source.position - len(block)
            if used := block.lstrip(b"\0"):
                if len(block) == BLOCK and _checksum_is_right(block):
                    return _parse_header(block, start)
                raise _DamageError(f"data after the end-of-archive marker at byte {start + len(block) - len(used)}")
            if self._source.position - end > MAX_PADDING:
                raise _DamageError(f"over {MAX_PADDING} zero bytes after the end-of-archive marker at byte {end}")
        return None


@contextmanager
def open_tar(path: str, *, hasher: Hasher | None = None) -> Iterator[TarWalk]:
    """Open a tar, compressed or not, for one walk.

    Args:
        path: the archive, or its URL.
        hasher: once the iteration has ended, damage or not, it has been fed every byte of the file as stored. Without
            it, data nobody asks for are skipped by seeking if the tar is plain.

    Raises:
        HashgrainError: `shard-missing` if the file cannot be opened, or at a URL not be read to its end.
    """
    with open_file(path, ahead=AHEAD) as raw:
        compression = _compression_of(raw)
        file = io.BufferedReader(raw, CHUNK) if hasher is None else HashedFile(raw, hasher)
        yield TarWalk(file, compression=compression, whole=hasher is not None)


def read_member(path: str, offset: int, size: int) -> bytes:
    """Return `size` bytes at `offset` of the uncompressed stream: by one seek if plain, from the start if compressed.

    Raises:
        HashgrainError: `shard-missing` if the file cannot be opened or read; `shard-damaged` if it does
            not hold these bytes.
    """
    with reading(path) as raw:
        compression = _compression_of(raw)
        at_once = AHEAD if compression else max(1, min(size, CHUNK))  # at a URL, a request each
        source = Source(io.BufferedReader(raw, at_once), compression=compression, whole=False)
        source.skip_to(offset)
        most = MAX_PACKED_MEMBER if source.length is None else source.length - offset
        data = source.read(size) if source.position == offset and size <= most else b""
    if len(data) == size:
        return data
    raise HashgrainError(
        Reason.SHARD_DAMAGED,
        f"{path} does not hold the {size} bytes expected at byte {offset} ({source.broken or 'it ends before'}); "
        "restore the file that was encoded, or encode this one and build the index again",
    )


def is_header(block: bytes) -> bool:
    """Whether a file's first block is a tar's: a header with its checksum, or that of an empty archive."""
    return len(block) == BLOCK and (block == _ZEROS or _checksum_is_right(block))


def _compression_of(file: io.RawIOBase) -> Compression | None:
    """Look at the first bytes of a file, and go back to its start."""
    head = file.read(HEAD_BYTES) or b""
    file.seek(0)
    return compression_of(head)


def _checksum_is_right(block: bytes) -> bool:
    field = block[148:156]
    return _number(field) == _sum(block) - sum(field) + 8 * ord(" ")  # its own field counts as spaces


def _sum(block: bytes) -> int:
    """Return the sum of a block's bytes, ten times as fast as `sum`: Adler-32 begins with it, exact below 65,521."""
    return (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2


def _parse_header(block: bytes, start: int) -> _Header:
    if not _checksum_is_right(block):
        raise _DamageError(f"bad header checksum at byte {start}")
    name, size, flag, magic, prefix = _FIELDS.unpack(block)
    name = _until_nul(name)
    if magic == b"ustar\0" and (prefix := _until_nul(prefix)):  # other formats keep other things there
        name = prefix + b"/" + name
    has_map = flag == ord("S") and block[482] != 0
    return _Header(start, flag, name, _number(size), has_map)


def _parse_pax(data: bytes, start: int) -> dict[bytes, bytes]:
    kept = {}
    position = 0
    while position < len(data):
        prefix = _PAX_RECORD.match(data, position)
        end = position + int(prefix[1]) if prefix else 0
        if not prefix or end <= prefix.end() or data[end - 1 : end] != b"\n":
            raise _DamageError(f"malformed pax record in the extended header at byte {start}")
        if prefix[2] in _PAX_KEPT:
            kept[prefix[2]] = data[prefix.end() : end - 1]
        position = end
    return kept


def _number(field: bytes) -> int:
    """Read octal digits, or GNU's base 256 after a byte 0x80; -1 for anything else, such as a negative number."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    return -1 if digits.strip(b"01234567") else int(digits or b"0", 8)


def _until_nul(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _shown(name: str) -> str:
    return repr(name[-80:])  # a name can be as long as a pax header
