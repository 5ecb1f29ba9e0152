"""What a zip lists: its directory, and where that is missing or broken, the headers of its members.

Source: PKWARE, APPNOTE.TXT 6.3.10; Info-ZIP's extra field 0x7075.
"""

import os
import stat
import struct
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np

from encoder.images.archives.archive import MemberKind
from encoder.images.archives.source import CHUNK, Source

MAX_DIRECTORY: Final = 1 << 30
"""Bytes of a directory, which is held in memory: ten million members."""
STARTS: Final = (b"PK\3\4", b"PK\5\6")
"""First bytes of a zip: a member's header, or the end of a directory that lists nothing."""
STORED: Final = 0
"""The method of a member that is not packed."""

_HEADER = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_DESCRIPTORS = (struct.Struct("<4s3L"), struct.Struct("<4sL2Q"))
_IN_64 = 0xFFFFFFFF
_UNIX = frozenset({3, 19})
_ENCRYPTED, _DESCRIBED, _UTF8, _MASKED = 1, 1 << 3, 1 << 11, 1 << 13


class ListingError(Exception):
    """The directory or the header of a member is not one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a zip says of a member."""

    name: bytes
    extra: bytes
    host: int
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    mode: int
    offset: int
    """Of its header, in the file."""

    @property
    def encrypted(self) -> bool:
        """Whether it takes a password."""
        return bool(self.flags & _ENCRYPTED)

    @property
    def described(self) -> bool:
        """Whether checksum and sizes stand behind the data, and not in the header."""
        return bool(self.flags & _DESCRIBED)


class Directory:
    """What a zip's directory lists, in the order of the members' bytes. It is held as it is stored, with two numbers per member.

    Args:
        listed: its entries, one behind another.
        shift: bytes of the file before those that offsets count from, as a program that unpacks itself has them.
        damage: what is wrong already.
    """

    def __init__(self, listed: bytes, shift: int = 0, damage: str | None = None) -> None:
        self.damage = damage
        self._listed, self._shift = listed, shift
        places, offsets = array("Q"), array("Q")
        at = 0
        while at < len(listed):
            entry, end = _parse_entry(listed, at, shift)
            places.append(at)
            offsets.append(entry.offset)
            at = end
        self._places = np.asarray(places)[np.argsort(offsets, kind="stable")] if places else np.empty(0, np.uint64)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Entry]:
        for at in self._places:
            yield _parse_entry(self._listed, int(at), self._shift)[0]


def directory_of(file: BinaryIO) -> Directory:
    """Read the directory of a file, or gather one from the headers of its members."""
    try:
        return _read_directory(file)
    except ListingError as err:
        return Directory(_gather(file), damage=f"{err}; members are taken as their own headers list them")


def _read_directory(file: BinaryIO) -> Directory:
    size = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, size - _END.size - 0xFFFF))
    tail = file.read(size - start)
    at = _find_end(tail)
    _, disk, first_disk, _, count, nbytes, offset, _ = _END.unpack_from(tail, at)
    end = start + at
    if at >= _LOCATOR.size and tail[at - _LOCATOR.size :].startswith(b"PK\6\7"):
        _, _, place, disks = _LOCATOR.unpack_from(tail, at - _LOCATOR.size)
        end, record = _find_end_64(file, (min(place, size), end - _LOCATOR.size - _END_64.size))
        _, _, _, _, disk, first_disk, _, count, nbytes, offset = _END_64.unpack(record)
        disk = max(disk, disks - 1)
    if disk or first_disk:
        raise ListingError("it is one part of a split archive: join the parts with `zip -s 0`")
    if nbytes > MAX_DIRECTORY:
        raise ListingError(f"its directory has {nbytes:,} bytes, more than {MAX_DIRECTORY:,}")
    shift = end - nbytes - offset
    if shift < 0:
        raise ListingError("its directory lies outside the file")
    file.seek(end - nbytes)
    directory = Directory(file.read(nbytes), shift)
    if (len(directory) - count) % (1 << 16):  # writers without zip64 let the number wrap
        raise ListingError(f"its directory lists {len(directory):,} members, not {count:,}")
    return directory


def _find_end(tail: bytes) -> int:
    """Return where the end of the directory stands: where its comment ends the file, else the last that looks like one."""
    at, last = len(tail) - _END.size + 1, -1
    while at > 0 and (at := tail.rfind(b"PK\5\6", 0, at + 3)) >= 0:
        if at + _END.size + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail):
            return at
        last = max(last, at)
    if last < 0:
        raise ListingError("it has no directory at its end")
    return last


def _find_end_64(file: BinaryIO, places: tuple[int, int]) -> tuple[int, bytes]:
    """Return the record that stands at one of two places, and which."""
    for place in places:
        file.seek(max(place, 0))
        record = file.read(_END_64.size)
        if record.startswith(b"PK\6\6") and len(record) == _END_64.size:
            return place, record
    raise ListingError("the end of its directory (zip64) is not where it should be")


def _parse_entry(listed: bytes, at: int, shift: int) -> tuple[Entry, int]:
    """Return an entry of the directory, and where the next one begins."""
    if len(listed) < at + _ENTRY.size or listed[at : at + 4] != b"PK\1\2":
        raise ListingError(f"its directory is broken at its byte {at:,}")
    (_, made_by, _, flags, method, _, _, crc, packed, size, of_name, of_extra, of_comment, _, _, mode, offset) = (
        _ENTRY.unpack_from(listed, at)
    )
    names = at + _ENTRY.size
    extras = names + of_name
    end = extras + of_extra + of_comment
    if end > len(listed) or flags & _MASKED:
        raise ListingError(f"its directory is {'encrypted' if flags & _MASKED else f'broken at its byte {at:,}'}")
    extra = listed[extras : extras + of_extra]
    if _IN_64 in (size, packed, offset):
        size, packed, offset = _in_64(extra, size, packed, offset)
    if offset + shift >= 1 << 63:
        raise ListingError(f"its directory is broken at its byte {at:,}")
    entry = Entry(
        listed[names:extras], extra, made_by >> 8, flags, method, crc, packed, size, mode >> 16, offset + shift
    )
    return entry, end


def _in_64(extra: bytes, *values: int) -> tuple[int, ...]:
    """Return the numbers of an entry, those that need 64 bits from its extra field."""
    wide = _extra(extra, 1)
    found = []
    for value in values:
        is_wide = value == _IN_64 and len(wide) >= 8
        found.append(int.from_bytes(wide[:8], "little") if is_wide else value)
        wide = wide[8 * is_wide :]
    return tuple(found)


def _extra(extra: bytes, wanted: int) -> bytes:
    """Return one field of the extra ones, empty if there is none."""
    at = 0
    while at + 4 <= len(extra):
        which, length = struct.unpack_from("<2H", extra, at)
        if which == wanted:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return b""


def name_of(entry: Entry) -> str:
    """Return the name of a member: UTF-8 where that is said or where it is, else the code page of the first PC."""
    raw = entry.name
    if entry.flags & _UTF8:
        name = raw.decode("utf-8", "surrogateescape")
    else:
        if (unicode := _extra(entry.extra, 0x7075))[1:5] == zlib.crc32(raw).to_bytes(4, "little"):
            raw = unicode[5:]
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            name = raw.decode("cp437")
    return name if entry.host in _UNIX else name.replace("\\", "/")


def kind_of(entry: Entry) -> MemberKind:
    """Return what a member is, by what wrote it."""
    mode = entry.mode if entry.host in _UNIX else 0
    if entry.name.endswith((b"/",) if entry.host in _UNIX else (b"/", b"\\")) or stat.S_ISDIR(mode):
        return MemberKind.FOLDER
    if stat.S_ISLNK(mode):
        return MemberKind.LINK
    return MemberKind.FILE if stat.S_IFMT(mode) in {0, stat.S_IFREG} else MemberKind.OTHER


def entry_of_header(source: Source) -> Entry:
    """Return what the header of a member says, at which the source stands, and go on to the member's data.

    Raises:
        ListingError: there is none.
    """
    offset = source.position
    header = source.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(b"PK\3\4"):
        raise ListingError(f"no member begins at byte {offset:,}")
    _, _, flags, method, _, _, crc, packed, size, of_name, of_extra = _HEADER.unpack(header)
    name, extra = source.read(of_name), source.read(of_extra)
    if _IN_64 in (size, packed):
        size, packed = _in_64(extra, size, packed)
    return Entry(name, extra, 3, flags, method, crc, packed, size, 0, offset)


def _gather(file: BinaryIO) -> bytes:
    """Make a directory of the members' own headers, as far as one leads to the next."""
    listed: list[bytes] = []
    length = file.seek(0, os.SEEK_END)
    at = 0
    while True:
        file.seek(min(at, length))
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(b"PK\3\4"):
            return b"".join(listed)
        _, _, flags, method, time, date, crc, packed, size, of_name, of_extra = _HEADER.unpack(header)
        name, extra = file.read(of_name), file.read(of_extra)
        start = at + _HEADER.size + of_name + of_extra
        if _IN_64 in (size, packed):
            size, packed = _in_64(extra, size, packed)
        end = start + packed
        if flags & _DESCRIBED:
            if (found := _described(file, start)) is None:
                return b"".join(listed)
            crc, packed, size, end = found
        wide = struct.pack("<2H3Q", 1, 24, size, packed, at)
        flags, extra = flags & ~_MASKED, extra[: 0xFFFF - len(wide)]
        fields = (
            b"PK\1\2", 3 << 8, 0, flags, method, time, date, crc, _IN_64, _IN_64,
            len(name), len(wide) + len(extra), 0, 0, 0, 0, _IN_64,
        )  # fmt: skip
        listed += [_ENTRY.pack(*fields), name, wide, extra]
        at = end


def _described(file: BinaryIO, start: int) -> tuple[int, int, int, int] | None:
    """Return CRC, sizes and end of a member that has them behind its data, which begin at `start`; None if they are not found."""
    file.seek(start)
    position, window = start, b""
    while block := file.read(CHUNK):
        window += block
        at = -1
        while (at := window.find(b"PK\7\x08", at + 1)) >= 0:
            for form in _DESCRIPTORS:
                if at + form.size <= len(window):
                    _, crc, packed, size = form.unpack_from(window, at)
                    if packed == position + at - start:
                        return crc, packed, size, position + at + form.size
        keep = min(len(window), _DESCRIPTORS[1].size)
        position += len(window) - keep
        window = window[-keep:]
    return None
