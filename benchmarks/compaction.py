"""What joining segments takes and gives over a day of additions.

    python -m benchmarks.compaction --rows 10000000 --add 100000 --folder /scratch

An index of random codes (four levels of 64 bits, inverted lists) is built once and kept in the folder. To a copy of it, which shares
its files, a hundred additions are made, each followed by what is due. After twenty, the time of a query is held against that of the
same rows joined to one segment. Then an index of a tenth of `--grown` rows grows tenfold, and what its lists find is measured before,
after, and with new centroids.
"""

import argparse
import json
import os
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.living import FINGERPRINT, build, draw, numbered
from encoder.levels import Level
from encoder.runtime.publish import exclusive
from indexer.changes.compact import compact
from indexer.changes.history import gc
from indexer.changes.writer import writer
from indexer.index import Index
from indexer.settings import BuildSettings, CompactSettings, Dedupe, Engine, IndexKind, Retrain, SearchSettings
from indexer.snapshot import Snapshot
from indexer.storage.generation import next_generation
from indexer.storage.level_writer import usual_nlist
from indexer.storage.manifest import Manifest
from indexer.storage.row_source import ArrayRows
from indexer.storage.segment_writer import write_segment
from indexer.tune import measure_lists

ADDITIONS = 100
MIDDLE = 20
"""Additions after which queries are timed."""
QUERIES = 200
ROUNDS = 5
LISTS, EVERY = SearchSettings(10), SearchSettings(10, exact=True)


def copy(old: Path, new: Path) -> Path:
    """Copy an index by links, in place of a copy that is there."""
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(old, new, copy_function=os.link)
    return new


def milliseconds(indexes: Sequence[Index], engine: Engine, effort: SearchSettings, queries: int) -> list[float]:
    """Return the median time of one query to each of several indexes, asked in turns so that each sees the same machine."""
    level, first = Level.FINE, indexes[0]
    asked = first.codes(level, np.linspace(0, first.ntotal - 1, queries).astype(np.int64))
    times: list[list[float]] = [[] for _ in indexes]
    for turn, query in enumerate(np.tile(asked, (ROUNDS, 1))):
        for index, taken in zip(indexes, times, strict=True):
            started = time.perf_counter()
            index.search(level, query[None], replace(effort, engine=engine))
            if turn >= queries:  # the first round maps files and loads kernels
                taken.append(time.perf_counter() - started)
    return [statistics.median(taken) * 1e3 for taken in times]


def day(base: Path, folder: Path, added: int) -> dict[str, object]:
    """Add, join what is due, and count bytes."""
    index = copy(base, folder / "day")
    written, joined, seconds, most, middle = 0, 0, list[float](), 0, dict[str, object]()
    for number in range(ADDITIONS):
        source = ArrayRows(f"day {number}", numbered(f"day{number:03d}", added), draw(added, number + 2), {})
        with writer(index, keep=1, compact=False) as opened:
            opened.add_rows([source], FINGERPRINT)
        started = time.perf_counter()
        report = compact(index, CompactSettings(keep=1))
        seconds.append(time.perf_counter() - started)
        written, joined, most = written + opened.report.bytes, joined + report.bytes, max(most, report.segments)
        if number + 1 == MIDDLE:
            middle = compared(index, folder)
        print(f"{number + 1}: {report.segments} segments, {joined / written:.2f} bytes per byte", flush=True)
    gc(index, 1)
    shutil.rmtree(index)
    return {
        "bytes written per byte added": round(joined / written, 2),
        "most segments": most,
        "seconds of the longest": round(max(seconds), 1),
        "seconds of all": round(sum(seconds), 1),
    } | middle


def compared(index: Path, folder: Path) -> dict[str, object]:
    """Return the time of a query, and of one of the same rows in one segment."""
    one = copy(index, folder / "one")
    compact(one, CompactSettings(all=True, keep=1))
    opened, times = [Index(index), Index(one)], {}
    for engine in (Engine.FAISS, Engine.SCAN):
        for name, effort, queries in (("lists", LISTS, QUERIES), ("every code", EVERY, QUERIES // 10)):
            several, single = milliseconds(opened, engine, effort, queries)
            took = {"ms": round(several, 3), "of one segment": round(single, 3), "times": round(several / single, 2)}
            times[f"{engine}, {name}"] = took
    segments = len(opened[0].segments)
    shutil.rmtree(one)
    return {f"a query after {MIDDLE} additions, {segments} segments": times}


def grow(folder: Path, rows: int) -> dict[str, object]:
    """Let an index grow tenfold; return recall@10 at the same number of lists probed, and with new lists."""
    index, tenth = folder / "grown", rows // 10
    shutil.rmtree(index, ignore_errors=True)
    settings = BuildSettings(IndexKind.IVF, nlist=usual_nlist(tenth), dedupe=Dedupe.OFF)
    source = ArrayRows("drawn", numbered("base", tenth), draw(tenth, 1), {})
    with exclusive(index), next_generation(index) as new:
        record = write_segment(new.folder / new.segment_name(), [source], [], settings)
        manifest = Manifest(FINGERPRINT, "fp32", None, [record], {}, kind=settings.kind, dedupe=Dedupe.OFF)
        new.publish(manifest, "build", added=tenth, keep=1)
    found = {"before": measured(index)}
    for number in range(9):
        source = ArrayRows(f"more {number}", numbered(f"more{number}", tenth), draw(tenth, number + 2), {})
        with writer(index, keep=1) as opened:
            opened.add_rows([source], FINGERPRINT)
    found["after"] = measured(index)
    compact(index, CompactSettings(retrain=Retrain.NOW, keep=1))
    found["new lists"] = measured(index)
    shutil.rmtree(index)
    return {f"grown tenfold to {rows:,}": found}


def measured(index: Path) -> dict[str, float | int | None]:
    """Return what the lists of a level find, and how even they are."""
    opened = Snapshot(index)
    aged, record = measure_lists(opened, Level.FINE), opened.manifest.segments[0].levels[Level.FINE]
    return {
        "lists": record.nlist,
        "probed": record.nprobe,
        "recall@10": round(aged.recall, 4),
        "imbalance": round(aged.imbalance, 2),
    }


def main() -> None:
    """Build if need be, change a copy, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--add", type=int, default=100_000)
    parser.add_argument("--grown", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, default=Path("living"))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    index = given.folder / f"index-{given.rows}"
    if not (index / "CURRENT").exists():
        build(index, given.rows)
        print()
    print(json.dumps({"rows": given.rows, "added": given.add} | day(index, given.folder, given.add)))
    print(json.dumps(grow(given.folder, given.grown)))


if __name__ == "__main__":
    main()
