"""Every system behind one call: codes in, distances out, at some effort.

What is timed is what a user of the system calls, from numpy codes to its own kind of answer; making a matrix of that is not.
All use as many threads as there are cores where they can: FAISS answers a single query on one thread, usearch too. FAISS's threads
are kept off the core that asks, as this engine keeps its own: left alone, some kernels let both share a core (docs/LOG.md).
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from benchmarks.search.codes import Codebase
from encoder.bits import Codes
from encoder.runtime.cores import worker_count
from indexer.engines.scan.threads import Helpers
from indexer.settings import Engine, SearchSettings

Distances = npt.NDArray[np.int64]
NOTHING = np.iinfo(np.int32).max
"""In the place of a distance where nothing was found."""
LINKS, BUILD_EFFORT = 16, 128
"""Of graphs: neighbours of a node, and candidates looked at for each while building (usearch's defaults)."""


@dataclass(frozen=True, eq=False)
class System:
    """One way of searching."""

    name: str
    search: Callable[[Codes, int, int], Any]
    """Queries, k and effort to the system's own answer."""
    distances: Callable[[Any, int], Distances]
    """That answer and k to int[nq, k]."""
    efforts: Sequence[int] = (0,)
    """From the least; a system that has nothing to choose has one."""
    exact: bool = False


def exact_systems(codes: Codebase) -> Iterator[System]:
    """Yield this engine and FAISS's two modes over the same memory."""
    level = codes.level()
    flat = faiss.read_index_binary(str(codes.path("flat")), faiss.IO_FLAG_MMAP_IFC)
    yield System(
        "hashgrain flat",
        lambda queries, k, _: level.search(queries, SearchSettings(k, exact=True, engine=Engine.SCAN), None),
        _of_found,
        exact=True,
    )
    for use_heap in (True, False):
        yield System(
            f"FAISS flat, {'heap' if use_heap else 'counting'}", _faiss_flat(flat, use_heap), _of_pair, exact=True
        )


def exact_peers(codes: Codebase) -> Iterator[System]:
    """Yield the exhaustive searches of others."""
    from usearch.index import MetricKind, search

    own = np.array(codes.flat.codes)
    yield System(
        "usearch exact",
        lambda queries, k, _: search(own, queries, k, MetricKind.Hamming, exact=True, threads=worker_count()),
        _of_usearch,
        exact=True,
    )
    table = _lance_table(own)
    yield System("LanceDB flat", lambda queries, k, _: _ask_lance(table, queries, k, None), _of_lance, exact=True)


def list_systems(codes: Codebase, nlist: int) -> Iterator[System]:
    """Yield this engine and FAISS over the same inverted lists; the effort is nprobe."""
    level = codes.level(nlist)
    ivf = level.parts[0].ivf
    assert ivf is not None  # noqa: S101 - built with lists
    efforts = [1 << power for power in range(nlist.bit_length()) if 2 << power <= nlist]

    def ask_scan(queries: Codes, k: int, nprobe: int) -> Any:
        return level.search(queries, SearchSettings(k, nprobe=nprobe, engine=Engine.SCAN), None)

    def ask_faiss(queries: Codes, k: int, nprobe: int) -> Any:
        return ivf.index.search(queries, k, params=faiss.SearchParametersIVF(nprobe=nprobe))

    yield System("hashgrain IVF", ask_scan, _of_found, efforts)
    yield System("FAISS IVF", _apart(ask_faiss), _of_pair, efforts)


def approximate_peers(codes: Codebase) -> dict[str, Callable[[], System]]:
    """Return what builds graphs, hash tables and the lists of others, by name."""
    makers = {"FAISS HNSW": _hnsw, "FAISS MultiHash": _multi_hash, "usearch HNSW": _usearch, "LanceDB IVF": _lance}
    return {name: partial(make, codes) for name, make in makers.items()}


@cache
def _faiss_threads() -> Helpers:
    """Return the threads that FAISS uses beside the one that asks, made by its first search of many queries."""
    threads, helpers, codes = Path("/proc/self/task"), Helpers(), np.zeros((1024, 8), np.uint8)
    before = set(threads.iterdir()) if threads.exists() else set()
    index = faiss.IndexBinaryFlat(64)
    index.add(codes)
    index.search(codes, 1)
    for thread in set(threads.iterdir() if before else ()) - before:
        helpers.add(int(thread.name))
    return helpers


def _apart(ask: Callable[[Codes, int, int], Any]) -> Callable[[Codes, int, int], Any]:
    def ask_apart(queries: Codes, k: int, effort: int) -> Any:
        _faiss_threads().keep_off()
        return ask(queries, k, effort)

    return ask_apart


def _faiss_flat(flat: Any, use_heap: bool) -> Callable[[Codes, int, int], Any]:
    def ask(queries: Codes, k: int, _: int) -> Any:
        flat.use_heap = use_heap
        return flat.search(queries, k)

    return _apart(ask)


def _hnsw(codes: Codebase) -> System:
    index = faiss.IndexBinaryHNSW(codes.nbits, LINKS)
    index.hnsw.efConstruction = BUILD_EFFORT
    index.add(codes.flat.codes)

    def ask(queries: Codes, k: int, effort: int) -> Any:
        return index.search(queries, k, params=faiss.SearchParametersHNSW(efSearch=effort))

    return System("FAISS HNSW", _apart(ask), _of_pair, _doubling(16, 1024))


def _multi_hash(codes: Codebase) -> System:
    """Return as many tables as there are pieces of about log2(rows) bits; the effort is 1 + flips of a piece."""
    piece = max(8, codes.rows.bit_length())
    index = faiss.IndexBinaryMultiHash(codes.nbits, codes.nbits // piece, piece)
    index.add(codes.flat.codes)

    def ask(queries: Codes, k: int, effort: int) -> Any:
        index.nflip = effort - 1
        return index.search(queries, k)

    return System("FAISS MultiHash", _apart(ask), _of_pair, (1, 2, 3, 4))


def _usearch(codes: Codebase) -> System:
    from usearch.index import Index

    index = Index(
        ndim=codes.nbits, metric="hamming", dtype="b1", connectivity=LINKS, expansion_add=BUILD_EFFORT, multi=False
    )
    index.add(np.arange(codes.rows), np.array(codes.flat.codes), threads=worker_count())

    def ask(queries: Codes, k: int, effort: int) -> Any:
        index.expansion_search = effort
        return index.search(queries, k, threads=worker_count())

    return System("usearch HNSW", ask, _of_usearch, _doubling(16, 2048))


def _lance(codes: Codebase) -> System:
    from lancedb.index import IvfFlat

    table = _lance_table(np.array(codes.flat.codes))
    nlist = round(codes.rows**0.5)
    table.create_index("vector", config=IvfFlat(distance_type="hamming", num_partitions=nlist))
    return System(
        "LanceDB IVF", lambda queries, k, effort: _ask_lance(table, queries, k, effort), _of_lance, _doubling(1, nlist)
    )


def _lance_table(codes: Codes) -> Any:
    import lancedb
    import pyarrow as pa

    folder = tempfile.TemporaryDirectory()
    rows = pa.FixedSizeListArray.from_arrays(pa.array(codes.reshape(-1)), codes.shape[1])
    table: Any = lancedb.connect(folder.name).create_table("codes", pa.table({"vector": rows}))
    table.folder = folder  # kept as long as the table
    return table


def _ask_lance(table: Any, queries: Codes, k: int, nprobe: int | None) -> Any:
    asked = table.search(queries if len(queries) > 1 else queries[0], vector_column_name="vector")
    asked = asked.distance_type("hamming").limit(k).with_row_id(True).select(["_distance"])
    return (asked.bypass_vector_index() if nprobe is None else asked.nprobes(nprobe)).to_arrow()


def _doubling(start: int, stop: int) -> list[int]:
    return [start << power for power in range((stop // start).bit_length())]


def _of_found(answer: Any, k: int) -> Distances:
    return _filled([one.distances for one in answer], k)


def _of_pair(answer: Any, _: int) -> Distances:
    distances: Distances = answer[0].astype(np.int64)
    return distances


def _of_usearch(answer: Any, k: int) -> Distances:
    if answer.distances.ndim == 1:
        return _filled([answer.distances], k)
    counts = getattr(answer, "counts", None)
    counts = [k] * len(answer.distances) if counts is None else counts
    return _filled([row[:count] for row, count in zip(answer.distances, counts, strict=True)], k)


def _of_lance(answer: Any, k: int) -> Distances:
    found = answer["_distance"].to_numpy()
    if "query_index" not in answer.column_names:
        return _filled([found], k)
    numbers = answer["query_index"].to_numpy()
    return _filled([np.sort(found[numbers == number]) for number in range(numbers.max() + 1)], k)


def _filled(rows: Sequence[npt.NDArray[Any]], k: int) -> Distances:
    matrix = np.full((len(rows), k), NOTHING, dtype=np.int64)
    for row, found in zip(matrix, rows, strict=True):
        row[: len(found)] = found[:k]
    return matrix
