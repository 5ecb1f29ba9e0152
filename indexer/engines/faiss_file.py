"""The two layouts of FAISS's binary indexes that an index has: parsed before FAISS sees a file, and written in blocks.

FAISS believes what a file says of itself: one cut after 13 bytes ends the process, a size that lies takes gigabytes, and lists of
the on-disk kind open any path that they name. Here every number is held against the length of the file first. What is written
is what FAISS writes, byte for byte, but in the memory of a block, and through Python's files, which raise where the disk is full.

Source: faiss/impl/index_write.cpp, release 1.15, `write_index_binary` and `write_InvertedLists`.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.errors import HashgrainError, Reason, unreadable, why
from encoder.runtime.durable import create
from encoder.runtime.files import open_regular
from indexer.matches import Rows

FLAT: Final = b"IBxF"
LISTS: Final = b"IBwF"
MOST_LISTS: Final = 1 << 24
"""FAISS holds about 100 bytes of memory per list, whatever its file holds."""
_HEADER: Final = struct.Struct("<iiqBi")
"""Bits, bytes of a code, codes, whether it is trained, and the metric, which is always 1."""
_COUNT: Final = struct.Struct("<Q")
_NO_DIRECT_MAP: Final = bytes(9)
"""Its kind, and the length of its array."""

Sizes = npt.NDArray[np.uint64]


class FlatLayout(NamedTuple):
    """Where the codes of an IndexBinaryFlat lie in its file."""

    nbits: int
    ntotal: int
    codes_at: int


class ListsLayout(NamedTuple):
    """Where centroids and lists of an IndexBinaryIVF lie in its file."""

    nbits: int
    ntotal: int
    nlist: int
    centroids_at: int
    sizes: Sizes
    """uint64[nlist], entries of each list."""
    lists_at: int
    """Of each list its codes, then its ids as int64."""


def flat_layout(path: Path) -> FlatLayout:
    """Return the layout of an IndexBinaryFlat whose every number agrees with the length of its file.

    Raises:
        HashgrainError: `index-damaged`.
    """
    with _fields(path) as fields:
        layout = fields.flat()
        fields.end()
        return layout


def lists_layout(path: Path) -> ListsLayout:
    """Return the layout of an IndexBinaryIVF over flat centroids whose lists stand in the file, each number checked.

    Raises:
        HashgrainError: `index-damaged`.
    """
    with _fields(path) as fields:
        nbits, ntotal = fields.header(LISTS)
        nlist, _ = fields.count(), fields.count()  # the second is the nprobe of who does not name one
        if not 1 <= nlist <= MOST_LISTS:
            raise _Unfit(f"{nlist:,} lists, from 1 to {MOST_LISTS:,} are read")
        centroids = fields.flat()
        fields.expect("centroids", (centroids.nbits, centroids.ntotal), (nbits, nlist))
        fields.expect("a direct map", fields.take(len(_NO_DIRECT_MAP)), _NO_DIRECT_MAP)
        fields.expect("lists", fields.take(4), b"ilar")
        fields.expect("lists", (fields.count(), fields.count()), (nlist, nbits // 8))
        sizes = fields.sizes(nlist)
        if (held := sum(sizes.tolist())) != ntotal:  # in Python, where sums have no limit
            raise _Unfit(f"{held:,} codes in its lists, expected {ntotal:,}")
        lists_at = fields.at
        fields.skip(ntotal * (nbits // 8 + 8))
        fields.end()
        return ListsLayout(nbits, ntotal, nlist, centroids.codes_at, sizes, lists_at)


def read_centroids(path: Path) -> Codes:
    """Return uint8[nlist, nbits / 8], the centroids of an IndexBinaryIVF.

    Raises:
        HashgrainError: `index-damaged`.
    """
    layout = lists_layout(path)
    count = layout.nlist * layout.nbits // 8
    return np.fromfile(path, np.uint8, count, offset=layout.centroids_at).reshape(layout.nlist, layout.nbits // 8)


class _Unfit(Exception):
    """What a file has that does not fit."""


class _Fields:
    """Reads a file front to back and never past its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size, self.at = file, os.fstat(file.fileno()).st_size, 0

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > self._size:
            raise _Unfit(f"{self._size:,} bytes, at least {self.at:,} expected")

    def take(self, size: int) -> bytes:
        start = self.at
        self.skip(size)
        self._file.seek(start)
        return self._file.read(size)

    def count(self) -> int:
        return int(_COUNT.unpack(self.take(_COUNT.size))[0])

    def expect(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            raise _Unfit(f"{found!r} for {what}, expected {expected!r}")

    def end(self) -> None:
        if self.at != self._size:
            raise _Unfit(f"{self._size:,} bytes, expected {self.at:,}")

    def header(self, kind: bytes) -> tuple[int, int]:
        """Return bits and number of codes."""
        self.expect("the kind of index", self.take(4), kind)
        nbits, code_size, ntotal, trained, metric = _HEADER.unpack(self.take(_HEADER.size))
        self.expect("bytes of a code, trained, metric", (code_size, trained, metric), (nbits // 8, 1, 1))
        if nbits <= 0 or nbits % 8 or ntotal < 0:
            raise _Unfit(f"{ntotal:,} codes of {nbits} bits")
        return nbits, ntotal

    def flat(self) -> FlatLayout:
        nbits, ntotal = self.header(FLAT)
        self.expect("bytes of codes", self.count(), ntotal * nbits // 8)
        codes_at = self.at
        self.skip(ntotal * nbits // 8)
        return FlatLayout(nbits, ntotal, codes_at)

    def sizes(self, nlist: int) -> Sizes:
        """Return uint64[nlist]: FAISS writes all sizes, or the lists that are not empty and theirs."""
        form, length = self.take(4), self.count()
        if form == b"full":
            self.expect("sizes of lists", length, nlist)
            return self._counts(nlist)
        self.expect("sizes of lists", form, b"sprs")
        if length % 2 or length > 2 * nlist:
            raise _Unfit(f"{length:,} numbers and sizes of {nlist:,} lists")
        numbers, of_numbers = self._counts(length).reshape(-1, 2).T
        if (numbers[1:] <= numbers[:-1]).any() or (numbers >= nlist).any():
            raise _Unfit(f"sizes of lists that are not ascending or not among {nlist:,}")
        sizes = np.zeros(nlist, dtype=np.uint64)
        sizes[numbers.astype(np.int64)] = of_numbers
        return sizes

    def _counts(self, count: int) -> Sizes:
        return np.frombuffer(self.take(count * _COUNT.size), dtype="<u8").astype(np.uint64, copy=False)


@contextmanager
def _fields(path: Path) -> Iterator[_Fields]:
    try:
        with open_regular(path) as file:
            yield _Fields(file)
    except (OSError, _Unfit) as err:
        what = f"it has {err}" if isinstance(err, _Unfit) else why(err)
        damaged = HashgrainError(
            Reason.INDEX_DAMAGED, f"{path} cannot be read as a FAISS index ({what}); build the index again"
        )
        raise (unreadable(path, err, damaged) if isinstance(err, OSError) else damaged) from err


class FlatWriter:
    """Writes an IndexBinaryFlat in blocks.

    Args:
        path: where to.
        nbits: of a code.
        ntotal: number of codes that will be appended.
    """

    def __init__(self, path: Path, nbits: int, ntotal: int) -> None:
        self._open = ExitStack()
        self._file = self._open.enter_context(create(path))
        self._file.write(_flat_head(nbits, ntotal))

    def append(self, block: Codes) -> None:
        """Append uint8[n, nbits / 8]."""
        self._file.write(np.ascontiguousarray(block).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, err, trace)


class ListsWriter:
    """Writes an IndexBinaryIVF list after list.

    Args:
        path: where to.
        nbits: of a code.
        centroids: uint8[nlist, nbits / 8].
        sizes: [nlist], entries of each list.
    """

    def __init__(self, path: Path, nbits: int, centroids: Codes, sizes: npt.NDArray[np.integer]) -> None:
        nlist, nprobe, ntotal = len(centroids), 1, int(sizes.sum())
        self._open = ExitStack()
        self._file = self._open.enter_context(create(path))
        self._file.write(
            LISTS
            + _HEADER.pack(nbits, nbits // 8, ntotal, 1, 1)
            + struct.pack("<QQ", nlist, nprobe)
            + _flat_head(nbits, nlist)
            + centroids.tobytes()
            + _NO_DIRECT_MAP
            + b"ilar"
            + struct.pack("<QQ", nlist, nbits // 8)
            + b"full"
            + _COUNT.pack(nlist)
            + sizes.astype("<u8").tobytes()
        )

    def append(self, codes: Codes, ids: Rows) -> None:
        """Append the next list, uint8[size, nbits / 8] and int64[size]; an empty one, too."""
        self._file.write(np.ascontiguousarray(codes).data)
        self._file.write(np.ascontiguousarray(ids, dtype="<i8").data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, err, trace)


def _flat_head(nbits: int, ntotal: int) -> bytes:
    return FLAT + _HEADER.pack(nbits, nbits // 8, ntotal, 1, 1) + _COUNT.pack(ntotal * nbits // 8)


def write_flat(path: Path, nbits: int, ntotal: int, blocks: Iterable[Codes]) -> None:
    """Write an IndexBinaryFlat of `ntotal` codes that come in blocks, in row order."""
    with FlatWriter(path, nbits, ntotal) as writer:
        for block in blocks:
            writer.append(block)
