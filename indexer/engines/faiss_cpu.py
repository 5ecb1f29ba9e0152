"""FAISS's binary indexes on a CPU: lists trained and written, files mapped, every code searched.

Numpy arrays in and out. Distances are Hamming distances in bits; rows are FAISS ids.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.errors import NO_MORE, HashgrainError, Reason, unreadable
from encoder.runtime.cores import worker_count
from indexer.engines.faiss_file import ListsWriter, flat_layout
from indexer.engines.faiss_library import faiss
from indexer.matches import Bounds, Matches, eligible, merge, mostly, nearest_eligible
from indexer.row_mask import RowSet

Layout = TypeVar("Layout")
TRAIN_PER_LIST = 64
"""Codes per list that an IVF is trained on. Source: FAISS's k-means warns below 39 points a centroid and stops gaining
above 256; 64 keeps the float copy of the sample small."""
WRITE_BLOCK = 1 << 20
WORD_BYTES = 8
WORDS_PER_PART = 1 << 14
WORDS_AT_ONCE = 32
"""Codes that are compared with all centroids at once: what differs stays in the cache of a core."""
NOBODY = -1
"""What FAISS fills answers up with."""
Ranges = tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32], npt.NDArray[np.int64]]
"""uint64[nq + 1], int32[m] and int64[m]: where the answers of each query begin, distances and rows."""
WORDS_PER_THREAD = 1 << 19
"""Words of 64 bits to compare that are worth a thread: 0.3 ms or more, of which waking it takes a tenth, more on busy cores."""
if hasattr(os, "register_at_fork"):
    # OpenMP's threads do not survive a fork, and its next parallel loop would wait for them for ever
    os.register_at_fork(after_in_child=lambda: faiss.omp_set_num_threads(1))


def train(codes: Codes, nlist: int, seed: int) -> Codes:
    """Return uint8[nlist, code_size], the centroids of inverted lists, by k-means over a sample of the codes.

    Args:
        codes: uint8[n, code_size], may be mapped.
        nlist: at most n.
        seed: of the sample and of k-means.
    """
    rng, nbits = np.random.default_rng(seed), 8 * codes.shape[1]
    sample = np.sort(rng.permutation(len(codes))[: TRAIN_PER_LIST * nlist])
    quantizer = faiss.IndexBinaryFlat(nbits)
    index = faiss.IndexBinaryIVF(quantizer, nbits, nlist)
    index.cp.seed, index.cp.min_points_per_centroid = seed, 1
    index.train(np.ascontiguousarray(codes[sample]))
    return codes_of(quantizer).copy()


def assign(
    codes: Codes, centroids: Codes, progress: Callable[[int, int], None] = lambda *_: None
) -> npt.NDArray[np.int32]:
    """Return int32[n], the nearest centroid of each code; the first among equally near ones.

    Args:
        codes: uint8[n, code_size], may be mapped.
        centroids: uint8[nlist, code_size].
        progress: called with (codes done, codes).
    """
    if centroids.shape[1] == WORD_BYTES:
        return _assign_words(codes, centroids, progress)
    quantizer = faiss.IndexBinaryFlat(8 * centroids.shape[1])
    quantizer.add(np.ascontiguousarray(centroids))
    lists, block = np.empty(len(codes), dtype=np.int32), max(1, WRITE_BLOCK // codes.shape[1])
    # its threads meet after each batch: on busy cores, the usual batches of 32 take four times as long
    quantizer.query_batch_size = block
    for start in range(0, len(codes), block):
        _, nearest = quantizer.search(np.ascontiguousarray(codes[start : start + block]), 1)
        lists[start : start + block] = nearest[:, 0]
        progress(start, len(codes))
    return lists


def _assign_words(codes: Codes, centroids: Codes, progress: Callable[[int, int], None]) -> npt.NDArray[np.int32]:
    """Return what `assign` does for codes of one word, in three quarters of FAISS's time."""
    # copied, since words of a mapped file do not begin where words do in memory, and numpy takes twice as long over those
    targets, lists = np.array(centroids).view(np.uint64)[:, 0], np.empty(len(codes), dtype=np.int32)

    def part(start: int, stop: int) -> None:
        words, shape = np.array(codes[start:stop]).view(np.uint64), (WORDS_AT_ONCE, len(targets))
        differing, distances = (
            np.empty(shape, np.uint64),
            np.empty(shape, np.uint8),
        )  # once: fetching memory costs as much
        for first in range(0, len(words), WORDS_AT_ONCE):
            at = words[first : first + WORDS_AT_ONCE]
            np.bitwise_xor(at, targets, out=differing[: len(at)])
            np.bitwise_count(differing[: len(at)], out=distances[: len(at)])
            lists[start + first : start + first + len(at)] = distances[: len(at)].argmin(axis=1)

    with ThreadPoolExecutor(worker_count()) as pool:
        starts = range(0, len(codes), WORDS_PER_PART)
        for start, _ in zip(starts, pool.map(part, starts, [*starts[1:], len(codes)]), strict=True):
            progress(start, len(codes))
    return lists


def write_lists(path: Path, codes: Codes, lists: npt.NDArray[np.int32], centroids: Codes) -> None:
    """Write an IndexBinaryIVF over codes; ids are their numbers, and ascend in each list.

    Args:
        path: where to.
        codes: uint8[n, code_size], may be mapped.
        lists: int32[n], the list of each.
        centroids: uint8[nlist, code_size].
    """
    nlist = len(centroids)
    small = lists.astype(np.uint16) if nlist <= 1 << 16 else lists  # numpy sorts 16 bits by counting
    order, sizes = np.argsort(small, kind="stable"), np.bincount(lists, minlength=nlist)
    with ListsWriter(path, 8 * centroids.shape[1], centroids, sizes) as writer:
        for ids in np.split(order, np.cumsum(sizes)[:-1]):
            writer.append(codes[ids], ids)


class FlatIndex:
    """Every code of a level, by row; searched exhaustively, exactly."""

    def __init__(self, path: Path) -> None:
        self._index, _ = read_mapped(path, flat_layout)
        self.nbits: int = self._index.d
        self.ntotal: int = self._index.ntotal
        self.codes = codes_of(self._index)
        """uint8[ntotal, nbits / 8], FAISS's own memory, mapped from the file: read only."""

    def search(self, queries: Codes, bounds: Bounds) -> list[Matches]:
        """Return exactly the k smallest (distance, row) within the radius for uint8[nq, nbits / 8], fewer if fewer are eligible.

        FAISS's flat search keeps the lower id among equal distances; a property test holds it to that. It asks a selector once per
        code, so where few rows are left out more are found, and these dropped.
        """
        queries = np.ascontiguousarray(queries)
        if not self.ntotal:
            return [merge([], None) for _ in queries]
        with threads_for(queries, self.ntotal):
            if bounds.rows is None or not mostly(bounds.rows, self.ntotal):
                return self._search(queries, bounds)
            return found_beyond(queries, bounds, self.ntotal, self._search, self._search)

    def _search(self, queries: Codes, bounds: Bounds) -> list[Matches]:
        selector = _selecting(bounds.rows)
        if bounds.radius is not None:
            radius = beyond(bounds.radius, self.nbits)
            return ranges(self._index.range_search(queries, radius, params=selector), bounds.k)
        distances, rows = self._index.search(queries, min(bounds.k or self.ntotal, self.ntotal), params=selector)
        return hits(distances, rows)


def read_mapped(path: Path, layout: Callable[[Path], Layout]) -> tuple[Any, Layout]:
    """Map a file that was parsed before: FAISS never sees one that is not what it says, to the byte."""
    parsed = layout(path)
    try:
        return faiss.read_index_binary(str(path), faiss.IO_FLAG_MMAP_IFC), parsed
    except RuntimeError as err:
        why = str(err).splitlines()[0].rpartition(": ")[2]
        damaged = HashgrainError(
            Reason.INDEX_DAMAGED, f"{path} cannot be read as a FAISS index ({why}); build the index again"
        )
        # FAISS says in words alone that the system refused
        short = next((OSError(code, os.strerror(code)) for code in NO_MORE if os.strerror(code) in str(err)), None)
        raise (damaged if short is None else unreadable(path, short, damaged)) from err


class _Memory:
    """FAISS's memory for numpy: an array made of it keeps the index alive, which `faiss.rev_swig_ptr` alone does not."""

    def __init__(self, flat: Any) -> None:
        self._flat = flat
        bytes_there = faiss.rev_swig_ptr(flat.xb.data(), flat.ntotal * flat.code_size)
        self.__array_interface__ = bytes_there.reshape(flat.ntotal, flat.code_size).__array_interface__


def codes_of(flat: Any) -> Codes:
    """Return uint8[ntotal, code_size], the memory of an IndexBinaryFlat."""
    return np.asarray(_Memory(flat)) if flat.ntotal else np.empty((0, flat.code_size), dtype=np.uint8)


def _selecting(rows: RowSet | None) -> Any:
    """Return FAISS's word for the rows that count."""
    return None if rows is None else faiss.SearchParameters(sel=faiss.IDSelectorBitmap(rows.view(np.uint8)))


def beyond(radius: int, nbits: int) -> int:
    """Return FAISS's radius, which is exclusive and an int32; no distance is over `nbits`."""
    return min(radius, nbits) + 1


@contextmanager
def threads_for(queries: Codes, compared: int) -> Iterator[None]:
    """Let FAISS use one thread per query at most, since it gives a query to one, and one for little work.

    Others would be woken all the same, wait on busy cores, and spin there while torch codes the next image.

    Args:
        queries: uint8[nq, code_size].
        compared: codes that each is compared with.
    """
    most = faiss.omp_get_max_threads()
    words = compared * (queries.size + 7) // 8
    faiss.omp_set_num_threads(max(1, min(len(queries), most, words // WORDS_PER_THREAD)))  # of the thread that calls
    try:
        yield
    finally:
        faiss.omp_set_num_threads(most)


def found_beyond(
    queries: Codes,
    bounds: Bounds,
    there: int,
    search: Callable[[Codes, Bounds], list[Matches]],
    search_slowly: Callable[[Codes, Bounds], list[Matches]],
) -> list[Matches]:
    """Find more than is wanted by a search that knows no rows to leave out, and leave these to the slow one that take too many."""
    if bounds.radius is not None or bounds.k is None or bounds.rows is None:
        return [eligible(one, bounds) for one in search(queries, Bounds(None, bounds.radius))]
    found = nearest_eligible(lambda some, k: search(some, Bounds(k)), queries, bounds.k, bounds.rows, there)
    left = [at for at, one in enumerate(found) if one is None]
    slowly = iter(search_slowly(queries[left], bounds) if left else [])
    return [next(slowly) if one is None else one for one in found]


def hits(distances: npt.NDArray[np.int32], rows: npt.NDArray[np.int64]) -> list[Matches]:
    """Order what FAISS found, and leave out what it fills up with, which is farther than any row."""
    order = np.lexsort((rows, distances))
    each = np.arange(len(order))[:, None]
    rows, distances = rows[each, order], distances[each, order]
    counts = np.count_nonzero(rows != NOBODY, axis=1).tolist()
    return [Matches(of_row[:count], at[:count]) for of_row, at, count in zip(rows, distances, counts, strict=True)]


def ranges(answer: Ranges, k: int | None) -> list[Matches]:
    """Order what FAISS found within a radius, and return the first k of each query; None: all."""
    limits, distances, rows = answer
    parts = [slice(start, stop) for start, stop in pairwise(limits.tolist())]
    return [merge([Matches(rows[part], distances[part].astype(np.int32))], k) for part in parts]
