"""FAISS's binary indexes, written durably, mapped from disk and searched. The only owner of faiss.

Numpy arrays in and out. Distances are Hamming distances in bits; rows are FAISS ids.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.errors import HashgrainError, Reason

Rows = npt.NDArray[np.int64]
Distances = npt.NDArray[np.int32]

TRAIN_PER_LIST = 64
"""Codes per list that an IVF is trained on. Source: FAISS's k-means warns below 39 points a centroid and stops gaining
above 256; 64 keeps the float copy of the sample small."""
WRITE_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """Rows found for one query, ordered by (distance, row)."""

    rows: Rows
    """int64[m]."""
    distances: Distances
    """int32[m], bits."""


def write_flat(path: Path, nbits: int, ntotal: int, blocks: Iterable[Codes]) -> None:
    """Write an IndexBinaryFlat of `ntotal` codes that come in blocks, in row order, in the memory of its codes once."""
    index = faiss.IndexBinaryFlat(nbits)
    index.xb.resize(ntotal * nbits // 8)  # in one piece: growing by `add` would hold up to twice the codes
    if ntotal:
        memory = faiss.rev_swig_ptr(index.xb.data(), ntotal * nbits // 8).reshape(ntotal, nbits // 8)
        start = 0
        for block in blocks:
            memory[start : start + len(block)] = block
            start += len(block)
    index.ntotal = ntotal
    _write(index, path)


def write_ivf(path: Path, flat: "FlatIndex", nlist: int, seed: int, progress: Callable[[int, int], None]) -> None:
    """Write an IndexBinaryIVF over the codes of a flat index; ids are its rows.

    Args:
        path: where to.
        flat: the codes.
        nlist: number of inverted lists, at most the number of codes.
        seed: of the sample and of k-means.
        progress: called with (codes added, codes).
    """
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.permutation(flat.ntotal)[: TRAIN_PER_LIST * nlist])
    quantizer = faiss.IndexBinaryFlat(flat.nbits)
    index = faiss.IndexBinaryIVF(quantizer, flat.nbits, nlist)
    index.cp.seed, index.cp.min_points_per_centroid = seed, 1
    index.train(np.ascontiguousarray(flat.codes[sample]))
    block = max(1, WRITE_BLOCK * 8 // flat.nbits)
    starts = range(0, flat.ntotal, block)
    lists = np.empty(flat.ntotal, dtype=np.int32)
    for start in starts:
        _, nearest = quantizer.search(np.ascontiguousarray(flat.codes[start : start + block]), 1)
        lists[start : start + block] = nearest[:, 0]
        progress(start, 2 * flat.ntotal)
    for number, size in enumerate(np.bincount(lists, minlength=nlist).tolist()):
        index.invlists.resize(number, size)  # once: growing by `add` would leave every list with slack
    filled = np.zeros(nlist, dtype=np.int64)
    for start in starts:
        of_block = lists[start : start + block]
        order = np.argsort(of_block, kind="stable")
        codes, rows = flat.codes[start : start + block][order], start + order
        numbers, begins = np.unique(of_block[order], return_index=True)
        for number, begin, end in zip(numbers.tolist(), begins, [*begins[1:], len(order)], strict=True):
            part, ids = np.ascontiguousarray(codes[begin:end]), np.ascontiguousarray(rows[begin:end])
            index.invlists.update_entries(
                number, int(filled[number]), len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(part)
            )
            filled[number] += len(ids)
        progress(flat.ntotal + start, 2 * flat.ntotal)
    index.ntotal = flat.ntotal
    _write(index, path)


def _write(index: Any, path: Path) -> None:
    """Write through a Python file: FAISS's own writer reports success when the disk is full."""
    with path.open("wb") as file:
        faiss.write_index_binary(index, faiss.PyCallbackIOWriter(file.write, WRITE_BLOCK))


class FlatIndex:
    """Every code of a level, by row; searched exhaustively, exactly."""

    def __init__(self, path: Path) -> None:
        self._index = _read(path)
        self.nbits: int = self._index.d
        self.ntotal: int = self._index.ntotal
        size = self.ntotal * self.nbits // 8
        flat = faiss.rev_swig_ptr(self._index.xb.data(), size) if size else np.empty(0, dtype=np.uint8)
        self.codes: Codes = flat.reshape(self.ntotal, self.nbits // 8)
        """uint8[ntotal, nbits / 8], FAISS's own memory, mapped from the file: read only."""

    def search(self, queries: Codes, k: int) -> list[Found]:
        """Return exactly the k smallest (distance, row) for uint8[nq, nbits / 8]; fewer when there are fewer codes."""
        if not self.ntotal:
            return [_nothing() for _ in queries]
        distances, rows = self._index.search(np.ascontiguousarray(queries), min(k, self.ntotal))
        return [Found(of_row, of_distance) for of_row, of_distance in zip(rows, distances, strict=True)]

    def within(self, queries: Codes, radius: int) -> list[Found]:
        """Return every row at most `radius` bits away."""
        if not self.ntotal:
            return [_nothing() for _ in queries]
        return _ranges(self._index.range_search(np.ascontiguousarray(queries), radius + 1))


@dataclass(slots=True)
class IvfIndex:
    """Inverted lists over the codes of a level: searches `nprobe` of `nlist` lists, so it may miss rows."""

    index: Any
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def nlist(self) -> int:
        """Number of inverted lists."""
        nlist: int = self.index.nlist
        return nlist

    @property
    def ntotal(self) -> int:
        """Number of codes."""
        ntotal: int = self.index.ntotal
        return ntotal

    def search(self, queries: Codes, k: int, nprobe: int) -> list[Found]:
        """Return up to k rows of the nearest lists by (distance, row).

        Which of the rows that tie for the last place are among them is FAISS's choice.
        """
        parameters = faiss.SearchParametersIVF(nprobe=min(nprobe, self.nlist))
        k = min(k, self.ntotal)
        distances, rows = self.index.search(np.ascontiguousarray(queries), k, params=parameters)
        return [_sorted(of_row[of_row >= 0], at[of_row >= 0]) for of_row, at in zip(rows, distances, strict=True)]

    def within(self, queries: Codes, radius: int, nprobe: int) -> list[Found]:
        """Return the rows of the nearest lists at most `radius` bits away."""
        with self.lock:  # FAISS takes nprobe of a range search from the index itself
            self.index.nprobe = min(nprobe, self.nlist)
            return _ranges(self.index.range_search(np.ascontiguousarray(queries), radius + 1))


def open_ivf(path: Path) -> IvfIndex:
    """Map an IVF from its file."""
    return IvfIndex(_read(path))


def _read(path: Path) -> Any:
    try:
        return faiss.read_index_binary(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as err:
        why = str(err).splitlines()[0].rpartition(": ")[2]
        raise HashgrainError(
            Reason.INDEX_DAMAGED, f"{path} cannot be read as a FAISS index ({why}); build the index again"
        ) from err


def _ranges(answer: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]) -> list[Found]:
    limits, distances, rows = answer
    parts = [slice(start, stop) for start, stop in zip(limits[:-1].tolist(), limits[1:].tolist(), strict=True)]
    return [_sorted(rows[part], distances[part].astype(np.int32)) for part in parts]


def _sorted(rows: Rows, distances: Distances) -> Found:
    order = np.lexsort((rows, distances))
    return Found(rows[order], distances[order])


def _nothing() -> Found:
    return Found(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32))
