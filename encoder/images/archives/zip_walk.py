"""A zip read front to back as its directory lists it, where every member is checked and no byte is read for two of them.

The directory at the end of the file is the truth; members are read in the order of their bytes, so that the file is read once.
Where the directory is missing or broken, as in a file that was cut, that is damage, and members are those that their own headers
list.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from encoder.errors import HashgrainError, Reason, Reject
from encoder.images.archives.archive import Member, UnreadableMemberError
from encoder.images.archives.compression import MAX_RATIO
from encoder.images.archives.hash_thread import Hasher
from encoder.images.archives.source import CHUNK, HashedFile, Source
from encoder.images.archives.zip_directory import (
    STORED,
    Directory,
    Entry,
    ListingError,
    directory_of,
    entry_of_header,
    kind_of,
    name_of,
)
from encoder.images.archives.zip_member import MemberData
from encoder.runtime.files import AHEAD, open_file, reading

MAX_MEMBER: Final = 1 << 30
"""Bytes of a member that is read back by its place."""
FREE_BYTES: Final = 1 << 20
"""So many bytes may come out of any member, whatever its ratio."""


class ZipWalk:
    """Walk a zip once, front to back.

    Args:
        directory: of the file.
        source: the bytes of the file, at its start.
    """

    def __init__(self, directory: Directory, source: Source) -> None:
        self.damage: str | None = None
        """What is wrong with the archive, None if it is complete; known once the iteration has ended."""
        self._directory, self._source = directory, source
        self._entry: Entry | None = None
        self._data: MemberData | None = None

    def __iter__(self) -> Iterator[Member]:
        """Yield the members in the order of their bytes; the offset of one is that of its header."""
        for entry in self._directory:
            self._entry, self._data = entry, None
            yield Member(name_of(entry), kind_of(entry), entry.offset, entry.size)
        self.damage = self._directory.damage or self._source.broken
        self._source.drain()

    def read(self, member: Member, size: int | None = None, /) -> bytes:
        """Return the next bytes of the member just yielded, all that are left if no size is given.

        They are fewer if the archive ends inside them.

        Raises:
            ValueError: it is not the member just yielded.
            UnreadableMemberError: they are encrypted, packed in a way that is not known, or not what was stored.
        """
        if self._entry is None or self._entry.offset != member.offset:
            raise ValueError(f"{member.name[-80:]!r} is not the member just yielded")
        if self._data is None:
            self._data = _open(self._source, self._entry)
        return self._data.read(member.size if size is None else size)

    view = read


@contextmanager
def open_zip(path: str, *, hasher: Hasher | None = None) -> Iterator[ZipWalk]:
    """Open a zip for one walk.

    Args:
        path: the archive, or its URL.
        hasher: once the iteration has ended, damage or not, it has been fed every byte of the file as stored. Without
            it, what nobody asks for is skipped by seeking.

    Raises:
        HashgrainError: `shard-missing` if the file cannot be opened, or at a URL not be read to its end.
    """
    with open_file(path) as raw, io.BufferedReader(raw, CHUNK) as buffered:
        directory = directory_of(buffered)
    with open_file(path, ahead=AHEAD) as raw:
        file = io.BufferedReader(raw, CHUNK) if hasher is None else HashedFile(raw, hasher)
        yield ZipWalk(directory, Source(file, whole=hasher is not None))


def read_zipped(path: str, offset: int, size: int) -> bytes:
    """Return the `size` bytes of the member whose header is at `offset`, by one seek.

    Raises:
        HashgrainError: `shard-missing` if the file cannot be opened or read; `shard-damaged` if it does
            not hold these bytes.
    """
    with reading(path) as raw:
        source = Source(io.BufferedReader(raw, max(1 << 12, min(size + (1 << 10), CHUNK))), whole=False)
        try:
            return _read_back(source, offset, size)
        except (UnreadableMemberError, ListingError) as err:
            raise HashgrainError(
                Reason.SHARD_DAMAGED,
                f"{path} does not hold the {size} bytes expected at byte {offset} ({source.broken or err}); "
                "restore the file that was encoded, or encode this one",
            ) from err


def _read_back(source: Source, offset: int, size: int) -> bytes:
    source.skip_to(offset)
    if source.position != offset or not 0 <= size <= MAX_MEMBER:
        raise ListingError("there is no such place")
    entry = entry_of_header(source)
    rest = (source.length or 0) - source.position
    if entry.described:
        packed = size if entry.method == STORED else rest
    else:
        packed = entry.packed
        if entry.size != size:
            raise ListingError(f"the member there has {entry.size} bytes")
    if packed > rest:
        raise ListingError("it ends before")
    data = MemberData(source, entry, packed, size, None if entry.described else entry.crc)
    read = data.read(size)
    if len(read) < size:
        raise ListingError("it ends before")
    if entry.described:
        data.check_descriptor()
    return read


def _open(source: Source, entry: Entry) -> MemberData:
    """Go to the data of a member whose entry is known."""
    if entry.offset < source.position:
        raise UnreadableMemberError(Reject.CORRUPT, "its bytes are another member's, too")
    if entry.size > FREE_BYTES + MAX_RATIO * entry.packed:
        raise UnreadableMemberError(Reject.TOO_LARGE, f"it would unpack to over {MAX_RATIO:,} times its size")
    source.skip_to(entry.offset)
    try:
        own = entry_of_header(source)
    except ListingError as err:
        raise UnreadableMemberError(Reject.CORRUPT, str(err)) from err
    if (own.name, own.method) != (entry.name, entry.method):
        raise UnreadableMemberError(Reject.CORRUPT, "its own header has another name or method than the directory")
    return MemberData(source, entry, entry.packed, entry.size, entry.crc)
