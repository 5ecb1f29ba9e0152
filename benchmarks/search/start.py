"""The first answer of a process, over an index as users have it: code files, `indexer build`, `indexer query`."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.search.codes import Codebase, Spread
from encoder.codes.file import CodeFileWriter
from encoder.codes.header import CodeHeader, ShardRecord
from encoder.images.duplicates import DIGEST_BYTES
from encoder.images.shards import ShardKind
from encoder.levels import Level

PER_FILE = 1_000_000
RUNS = 7


def seconds_to_first_answer(folder: Path, rows: int) -> dict[str, float]:
    """Return the median seconds of a whole process that answers one query, by what it was told.

    The index has one level of 64 clustered bits with inverted lists. One process before makes sure that what numba compiles is
    on disk, as it is from a machine's second query on.
    """
    index = folder / f"index-{rows}"
    if not index.exists():
        codes = Codebase(folder, Spread.CLUSTERED, rows, 64)
        files = folder / f"codes-{rows}"
        files.mkdir(exist_ok=True)
        for start in range(0, rows, PER_FILE):
            _write_file(codes, start, min(rows, start + PER_FILE), files / f"part-{start:012d}.h5")
        _run("build", str(files), "--out", str(index), "--kind", "ivf", "--levels", "fine")
    ways = {
        "lists": [],
        "flat, our own scan": ["--exact", "--engine", "scan"],
        "flat, engine chosen": ["--exact"],
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for run in range(RUNS + 1):
        for way, options in ways.items():
            begun = time.perf_counter()
            _run("query", f"key:{run:09d}", "--index", str(index), "--level", "fine", *options)
            taken[way].append(time.perf_counter() - begun)
    return {way: statistics.median(times[1:]) for way, times in taken.items()}


def _write_file(codes: Codebase, start: int, stop: int, path: Path) -> None:
    if path.exists():
        return
    bits = {Level.FINE: codes.nbits}
    with CodeFileWriter(path.parent, bits) as writer:
        keys = [f"{row:09d}" for row in range(start, stop)]
        digests = bytes(DIGEST_BYTES * len(keys))
        writer.add_rows(keys, np.zeros((len(keys), 2), np.uint64), digests, {Level.FINE: codes.flat.codes[start:stop]})
        record = ShardRecord(path.stem, ShardKind.TAR, "/nowhere", 0, "0" * 64, "", None, "")
        writer.finish(path, CodeHeader("f" * 64, "fp32", bits, record, 0, 0, 0, 0))


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "indexer", *arguments], check=True, stdout=subprocess.DEVNULL)
