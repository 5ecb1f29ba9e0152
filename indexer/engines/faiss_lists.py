"""Inverted lists by FAISS: mapped from files and searched, those of several segments as one.

Numpy arrays in and out. Distances are Hamming distances in bits; rows are FAISS ids.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.errors import HashgrainError, Reason
from encoder.runtime.locks import ForkLock
from indexer.engines.faiss_cpu import NOBODY, beyond, codes_of, found_beyond, hits, ranges, read_mapped, threads_for
from indexer.engines.faiss_file import lists_layout
from indexer.engines.faiss_library import faiss
from indexer.matches import Bounds, Distances, Matches, Rows, complete_ties, eligible, merge, mostly, out_of_range

if TYPE_CHECKING:
    from indexer.engines.scan.extents import Lists

TIES = 32
"""Rows that lists are asked for beyond k: where the last one is farther away than the k-th, all that tie with that are there."""
ID_BYTES = 8
BYTES_OF_ID = np.arange(ID_BYTES)


class ListSearch(ABC):
    """Inverted lists: searches `nprobe` of `nlist` lists, so it may miss rows."""

    nbits: int
    nlist: int
    ntotal: int

    @abstractmethod
    def _nearest(self, queries: Codes, k: int, nprobe: int) -> tuple[Distances, Rows]:
        """Return int32[nq, k] and int64[nq, k], distances and rows by distance alone; rows are `NOBODY` where there are fewer."""

    @abstractmethod
    def _within(self, queries: Codes, radius: int, nprobe: int) -> list[Matches]:
        """Return all rows within a distance."""

    def search(self, queries: Codes, bounds: Bounds, nprobe: int) -> list[Matches]:
        """Return exactly the k smallest (distance, row) within the radius in the lists nearest to each query.

        Args:
            queries: uint8[nq, nbits / 8].
            bounds: k, radius and the rows that are eligible.
            nprobe: lists to probe.
        """
        if not self.ntotal:
            return [merge([], None) for _ in queries]
        nprobe = min(nprobe, self.nlist)
        with threads_for(queries, self.nlist + self.ntotal * nprobe // self.nlist):
            queries = np.ascontiguousarray(queries)
            if bounds.rows is None:
                return self._search(queries, bounds, nprobe)
            if not mostly(bounds.rows, self.ntotal):
                return self._search_whole(queries, bounds, nprobe)
            return found_beyond(
                queries,
                bounds,
                self.ntotal,
                lambda some, within: self._search(some, within, nprobe),
                lambda some, within: self._search_whole(some, within, nprobe),
            )

    def _search_whole(self, queries: Codes, bounds: Bounds, nprobe: int) -> list[Matches]:
        """Take all that lies in the lists, of a query at a time: FAISS's lists know no selector, and hold few."""
        everything = Bounds(None, self.nbits if bounds.radius is None else bounds.radius)
        starts = range(len(queries))
        whole = [self._search(queries[start : start + 1], everything, nprobe)[0] for start in starts]
        return [eligible(one, bounds) for one in whole]

    def _search(self, queries: Codes, bounds: Bounds, nprobe: int) -> list[Matches]:
        if bounds.radius is not None:
            found = self._within(queries, min(bounds.radius, self.nbits), nprobe)
            return [Matches(one.rows[: bounds.k], one.distances[: bounds.k]) for one in found]
        k = min(bounds.k or self.ntotal, self.ntotal)
        asked = min(k + TIES, self.ntotal)
        matches = hits(*self._nearest(queries, asked, nprobe))
        # which of the rows that tie for the last place FAISS takes is chance
        full = [at for at, one in enumerate(matches) if len(one.rows) == asked < self.ntotal]
        cut = [at for at in full if matches[at].distances[k - 1] == matches[at].distances[-1]]
        matches = [Matches(one.rows[:k], one.distances[:k]) for one in matches]
        complete_ties(matches, cut, lambda some, distance: self._search(queries[some], Bounds(k, distance), nprobe))
        return matches


class IvfIndex(ListSearch):
    """Inverted lists over the codes of a level, mapped from a file.

    Raises:
        HashgrainError: `index-damaged`.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, ForkLock()
        self.index, layout = read_mapped(path, lists_layout)
        """FAISS's own."""
        self.nlist, self.ntotal, self.nbits = layout.nlist, layout.ntotal, layout.nbits
        self._sizes = layout.sizes.astype(np.int64)
        self.centroids = codes_of(self.quantizer)
        """uint8[nlist, nbits / 8], mapped, read only."""

    @property
    def quantizer(self) -> Any:
        """FAISS's own index of the centroids."""
        return faiss.downcast_IndexBinary(self.index.quantizer)

    def members(self, number: int) -> tuple[Codes, Rows]:
        """Return uint8[m, nbits / 8] and int64[m], the codes of a list and their ids; mapped, valid as long as this object."""
        lists, size = self.index.invlists, self.index.invlists.list_size(number)
        if not size:
            return np.empty((0, self.nbits // 8), dtype=np.uint8), np.empty(0, dtype=np.int64)
        codes = faiss.rev_swig_ptr(lists.get_codes(number), size * self.nbits // 8)
        return codes.reshape(size, -1), faiss.rev_swig_ptr(lists.get_ids(number), size)

    def fault(self) -> str | None:
        """Say what is wrong with the ids in the lists, or None: for readers of files that others made."""
        seen = np.zeros(self.ntotal, dtype=np.bool_)
        for number in range(self.nlist):
            _, ids = self.members(number)
            if out_of_range(ids, self.ntotal) or seen[ids].any():
                return f"list {number} holds a code that is not there or in another list, too"
            seen[ids] = True
        return None if seen.all() else "its lists do not hold every code"

    def _nearest(self, queries: Codes, k: int, nprobe: int) -> tuple[Distances, Rows]:
        distances, rows = self.index.search(queries, k, params=faiss.SearchParametersIVF(nprobe=nprobe))
        self._check_ids(rows[rows != NOBODY])
        return distances, rows

    def _within(self, queries: Codes, radius: int, nprobe: int) -> list[Matches]:
        with self._lock:  # FAISS takes nprobe of a range search from the index itself
            self.index.nprobe = nprobe
            limits, distances, rows = self.index.range_search(queries, beyond(radius, self.nbits))
        self._check_ids(rows)
        return ranges((limits, distances, rows), None)

    def _check_ids(self, rows: Rows) -> None:
        """Ids come from the file as they are, and lead to rows."""
        if out_of_range(rows, self.ntotal):
            raise self.damaged()

    def damaged(self) -> HashgrainError:
        """Return what is to be raised where an id leads nowhere."""
        return HashgrainError(
            Reason.INDEX_DAMAGED, f"{self._path} holds ids beyond its {self.ntotal:,} codes; build the index again"
        )

    @cached_property
    def _starts(self) -> Rows:
        """int64[nlist], where the codes of each list lie in `memory`."""
        sizes = self._sizes * (self.nbits // 8 + ID_BYTES)
        return np.cumsum(sizes) - sizes

    @cached_property
    def ids_at(self) -> Rows:
        """int64[nlist], where the ids of each list lie in `memory`, 8 bytes each."""
        return self._starts + self._sizes * (self.nbits // 8)

    @cached_property
    def memory(self) -> npt.NDArray[np.uint8]:
        """uint8[bytes], list after list, of each its codes, then its ids; mapped, valid as long as this object."""
        lists, filled = self.index.invlists, np.flatnonzero(self._sizes)
        if not len(filled):
            return np.empty(0, dtype=np.uint8)
        first, last = filled[[0, -1]].tolist()
        memory: npt.NDArray[np.uint8] = faiss.rev_swig_ptr(
            lists.get_codes(first), self.ntotal * (self.nbits // 8 + ID_BYTES)
        )
        if int(lists.get_codes(last)) != memory.ctypes.data + int(self._starts[last]):
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"faiss {faiss.__version__} does not map {self._path} as it stands on the disk; install faiss 1.15",
            )
        return memory

    @cached_property
    def _table(self) -> npt.NDArray[np.uint64]:
        """uint64[nlist, 3], where the codes and ids of each list lie, and how many there are."""
        address = self.memory.ctypes.data
        return np.stack([address + self._starts, address + self.ids_at, self._sizes], axis=1).astype(np.uint64)

    def lists(self, first_row: int, centroids: Codes) -> "Lists":
        """Return where centroids and lists lie in FAISS's memory.

        Args:
            first_row: what is added to an id to give its row.
            centroids: its own, or equal ones of another file.
        """
        from indexer.engines.scan.extents import Lists, extents, flat_extents
        from indexer.engines.scan.kernels import CODES, EXTENT_FIELDS, FIRST_ROW, IDS, ROWS

        table = np.zeros((self.nlist, EXTENT_FIELDS), dtype=np.uint64)
        table[:, [CODES, IDS, ROWS]], table[:, FIRST_ROW] = self._table, first_row
        members = extents(table, self.nbits // 8, (self.index,))
        return Lists(flat_extents([centroids], [0]), members)


class JoinedLists(ListSearch):
    """Inverted lists of several files with the same centroids, searched as one: nothing is copied.

    Args:
        parts: at least one; `share_centroids`.
        first_rows: what is added to the ids of each to give their rows.
    """

    def __init__(self, parts: Sequence[IvfIndex], first_rows: Sequence[int]) -> None:
        self._parts, self._firsts, first = parts, np.array(first_rows), parts[0]
        self._entries = np.array([part.ntotal for part in parts], dtype=np.uint64)
        self._ids_at = np.concatenate([part.ids_at for part in parts])
        self.nlist, self.nbits, self.ntotal = first.nlist, first.nbits, sum(part.ntotal for part in parts)
        self._quantizer, lists = first.quantizer, faiss.InvertedListsPtrVector()
        for part in parts:
            lists.push_back(part.index.invlists)
        self._stack = faiss.VStackInvertedLists(lists.size(), lists.data())  # list l of part p is its p * nlist + l
        self._index = faiss.IndexBinaryIVF(self._quantizer, self.nbits, self._stack.nlist)
        self._index.replace_invlists(self._stack, False)

    def _nearest(self, queries: Codes, k: int, nprobe: int) -> tuple[Distances, Rows]:
        numbers, shape = self._probed(queries, nprobe), (len(queries), k)
        distances, found = np.empty(shape, dtype=np.int32), np.empty(shape, dtype=np.int64)
        probe = faiss.SearchParametersIVF(nprobe=numbers.shape[1])
        arrays = (numbers, np.zeros_like(numbers, dtype=np.int32), distances, found)
        self._index.search_preassigned_c(
            len(queries), faiss.swig_ptr(queries), k, *map(faiss.swig_ptr, arrays), True, probe
        )
        return distances, self._rows_of(found)

    def _within(self, queries: Codes, radius: int, nprobe: int) -> list[Matches]:
        # FAISS's range search says ids alone, which several parts have
        of_parts = [part._within(queries, radius, nprobe) for part in self._parts]
        return [
            merge(
                [Matches(first + one.rows, one.distances) for first, one in zip(self._firsts, of_query, strict=True)],
                None,
            )
            for of_query in zip(*of_parts, strict=True)
        ]

    def _probed(self, queries: Codes, nprobe: int) -> Rows:
        """Return int64[nq, parts * nprobe], the lists of each part that are nearest to each query."""
        _, nearest = self._quantizer.search(queries, nprobe)
        numbers = nearest[:, None] + self.nlist * np.arange(len(self._parts))[:, None]
        return np.ascontiguousarray(numbers.reshape(len(queries), -1))

    def _rows_of(self, found: Rows) -> Rows:
        """Return the rows of what FAISS found: the number of a list in the upper half, a place in it in the lower."""
        rows, filled = np.full(found.shape, NOBODY, dtype=np.int64), found != NOBODY
        pairs = found[filled]
        numbers = pairs >> 32
        owners, at = numbers // self.nlist, self._ids_at[numbers] + ID_BYTES * (pairs & 0xFFFFFFFF)
        ids = np.empty(len(pairs), dtype=np.int64)
        for owner in np.flatnonzero(np.bincount(owners)).tolist():
            mine = np.flatnonzero(owners == owner)
            ids[mine] = self._parts[owner].memory[at[mine, None] + BYTES_OF_ID].view(np.int64)[:, 0]
        if (odd := ids.view(np.uint64) >= self._entries[owners]).any():
            raise self._parts[owners[np.argmax(odd)]].damaged()
        rows[filled] = ids + self._firsts[owners]
        return rows


def share_centroids(parts: Sequence[IvfIndex]) -> bool:
    """Return whether lists of the same number have the same centroid in each file."""
    return all(np.array_equal(part.centroids, parts[0].centroids) for part in parts[1:])
