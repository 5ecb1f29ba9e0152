"""Search on the GPU against the scan: the same answers, how fast by number of queries, and what memory it takes."""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
import torch

from benchmarks.gpu_check.check import Check
from benchmarks.search.codes import Codebase, Spread
from encoder.bits import Codes
from indexer.matches import Matches
from indexer.search.level_index import LevelIndex
from indexer.settings import Engine, SearchSettings

ROWS: Final = 10_000_000
BITS: Final = 64
SEGMENTS: Final = 8
K: Final = 10
QUERIES: Final = (1, 8, 64, 1024)
SECONDS: Final = 1.0


def search(check: Check) -> None:
    """Compare; on a CPU, FAISS's own search stands in for the GPU's."""
    folder = check.folder / "search"
    folder.mkdir(exist_ok=True)
    codes = Codebase(folder, Spread.CLUSTERED, check.count(ROWS), BITS)
    counts = QUERIES if check.on_gpu else QUERIES[:3]
    level, queries = codes.level(), codes.queries(max(counts))
    check.result("codes", codes.rows, f"of {BITS} bits")
    before = _free(check)
    if check.on_gpu:
        from indexer.engines.faiss_gpu import GpuFlat, _resources

        _resources()
        check.result("memory of the resources", (before - _free(check)) / 2**20, "MiB")
        flat = GpuFlat(codes.flat)
        check.result("memory of the codes", (before - _free(check)) / 2**20, "MiB, resources included")
        for count in counts:  # also where the level leaves so few to the scan: this decides where it does
            _measure(check, f"GPU alone, {count} queries", partial(flat.search, queries[:count], K))
        del flat
    engine = Engine.GPU if check.on_gpu else Engine.FAISS
    for count in counts:
        for each in (engine, Engine.SCAN):
            _measure(check, f"{each}, {count} queries", partial(_found, level, queries[:count], each))
    _same(check, "one segment", level, queries, engine)
    part = Codebase(folder, Spread.CLUSTERED, check.count(ROWS) // SEGMENTS, BITS)
    before = _free(check)
    split = LevelIndex([*part.level().parts] * SEGMENTS, list(range(0, (SEGMENTS + 1) * part.rows, part.rows)), print)
    _same(check, f"{SEGMENTS} segments", split, queries, engine)
    _measure(check, f"{engine}, {SEGMENTS} segments, {max(counts)} queries", lambda: _found(split, queries, engine))
    check.result(f"memory of {SEGMENTS} segments", (before - _free(check)) / 2**20, "MiB")


def _found(level: LevelIndex, queries: Codes, engine: Engine) -> list[Matches]:
    return level.search(queries, SearchSettings(K, engine=engine, exact=True), None)


def _same(check: Check, what: str, level: LevelIndex, queries: Codes, engine: Engine) -> None:
    found, truth = (_found(level, queries, each) for each in (engine, Engine.SCAN))
    pairs = zip(found, truth, strict=True)
    same = sum(np.array_equal(a.rows, b.rows) and np.array_equal(a.distances, b.distances) for a, b in pairs)
    check.hold(f"{what}: answers of {engine} as the scan's, of {len(queries)}", same, holds=same == len(queries))


def _measure(check: Check, what: str, work: Callable[[], object]) -> None:
    work()
    began, times = time.perf_counter(), 0
    while not times or time.perf_counter() - began < check.seconds(SECONDS):
        work()
        times += 1
    check.result(what, 1e3 * (time.perf_counter() - began) / times, "ms")


def _free(check: Check) -> int:
    return torch.cuda.mem_get_info(check.device)[0] if check.on_gpu else 0
