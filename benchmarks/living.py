"""What changes of a large index take: rows added until they are found, and removed until they are not.

    python -m benchmarks.living --rows 10000000 --add 100000 --folder /scratch

An index of random codes (four levels of 64 bits, inverted lists) is built once and kept in the folder. Then code files are added, one
after another, each timed from the call until a query of a reader that opens the index finds the last row of it, at every level.
The share of a rebuild is that of writing the same index from arrays in memory with centroids that are drawn from the codes, which is less
than what a build from code files takes, k-means included.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from encoder.bits import Codes
from encoder.codes.file import CodeFileWriter
from encoder.codes.header import CodeHeader, ShardRecord
from encoder.codes.strings import TextColumn
from encoder.images.shards import ShardKind
from encoder.levels import Level
from encoder.runtime.publish import exclusive
from indexer.changes.writer import writer
from indexer.index import Index
from indexer.settings import BuildSettings, Dedupe, SearchSettings
from indexer.storage.generation import next_generation
from indexer.storage.level_writer import SharedLists, new_lists, wanted_lists
from indexer.storage.manifest import LevelRecord, Manifest
from indexer.storage.row_source import ArrayRows
from indexer.storage.segment_writer import write_segment

FINGERPRINT = "f" * 64
BITS = 64
CENTRES = 1 << 14
"""Codes lie around so many, as learned ones do around classes."""
FLIPS = 6
"""Bits that are turned, on average, on the way from a centre to a code."""


def draw(rows: int, seed: int) -> dict[Level, Codes]:
    """Return uint8[rows, 8] by level."""
    centres = np.random.default_rng(0).integers(0, 1 << 64, CENTRES, dtype=np.uint64)
    codes = {}
    for number, level in enumerate(Level):
        rng = np.random.default_rng([seed, number])
        drawn = centres[rng.integers(0, CENTRES, rows)]
        for _ in range(FLIPS):
            drawn ^= np.uint64(1) << rng.integers(0, BITS, rows, dtype=np.uint64)
        codes[level] = drawn.view(np.uint8).reshape(rows, BITS // 8)
    return codes


def numbered(prefix: str, rows: int) -> TextColumn:
    """Return the keys PREFIX-00000000 and so on."""
    digits = np.arange(rows)[:, None] // 10 ** np.arange(7, -1, -1) % 10 + ord("0")
    start = np.frombuffer(f"{prefix}-".encode(), np.uint8)
    text = np.concatenate([np.tile(start, (rows, 1)), digits.astype(np.uint8)], axis=1)
    return TextColumn(text.ravel(), np.arange(rows + 1, dtype=np.uint64) * np.uint64(text.shape[1]))


def build(index: Path, rows: int) -> float:
    """Write the index of arrays; return seconds."""
    codes, settings, shared = draw(rows, 1), BuildSettings(dedupe=Dedupe.OFF), dict[Level, SharedLists]()
    for level, of_level in codes.items():
        if (lists := wanted_lists(rows, settings)) is not None:
            chosen = np.random.default_rng(2).choice(rows, lists.nlist, replace=False)
            shared[level] = new_lists(LevelRecord(BITS, "", None, None, None), of_level[chosen], lists.nprobe, rows)
    source = ArrayRows("drawn", numbered("base", rows), codes, {})
    started = time.perf_counter()
    with exclusive(index), next_generation(index) as new:
        record = write_segment(new.folder / new.segment_name(), [source], [], settings, shared, print_progress)
        new.publish(Manifest(FINGERPRINT, "fp32", None, [record], {}, dedupe=Dedupe.OFF), "build", added=rows, keep=1)
    return time.perf_counter() - started


def print_progress(share: float, what: str) -> None:
    """Show where a build is."""
    print(f"\r{share:6.1%} {what:40}", end="", flush=True)


def write_code_file(folder: Path, name: str, rows: int, seed: int) -> Path:
    """Write a code file of drawn rows."""
    codes = draw(rows, seed)
    path = folder / f"{name}.h5"
    with CodeFileWriter(folder, dict.fromkeys(Level, BITS)) as file:
        places = np.stack([512 * np.arange(rows), np.full(rows, 400)], axis=1).astype(np.uint64)
        file.add_rows([f"{name}-{row:08d}" for row in range(rows)], places, b"d" * 16 * rows, codes)
        shard = ShardRecord(name, ShardKind.TAR, f"/nowhere/{name}.tar", 0, "0" * 64, "", None, "")
        file.finish(path, CodeHeader(FINGERPRINT, "fp32", {}, shard, 0, 0, 0, 0))
    return path


def add_and_find(index: Path, codes: Path, key: str) -> int:
    """Add a code file, and find its last row in an index that is opened after; return bytes written."""
    with writer(index, compact=False) as opened:
        opened.add([codes])
    reader = Index(index)
    row = reader.find(key)
    for level in Level:
        [found] = reader.search(level, reader.codes(level, np.array([row])), SearchSettings(200))
        if row not in found.rows:
            raise SystemExit(f"{key} is not found at level {level}")
    return opened.report.bytes


def main() -> None:
    """Build if need be, change, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--add", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("living"))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    index, kept = given.folder / f"index-{given.rows}", given.folder / f"index-{given.rows}.json"
    if not kept.exists():
        kept.write_text(json.dumps({"rebuild": build(index, given.rows)}))
        print()
    rebuild = json.loads(kept.read_text())["rebuild"]
    tag = f"{time.time_ns():x}"[-8:]
    files = [write_code_file(given.folder, f"new{tag}{number}", given.add, number + 2) for number in range(given.times)]
    before, written, times = Index(index).manifest.live, list[int](), list[float]()
    for path in files:
        started = time.perf_counter()
        written.append(add_and_find(index, path, f"{path.stem}-{given.add - 1:08d}"))
        times.append(time.perf_counter() - started)
        print(f"{path.name}: {times[-1]:.3f} s", flush=True)

    def remove(keys: list[str]) -> None:
        with writer(index, compact=False) as opened:
            opened.remove(keys, missing_ok=True)  # an earlier run's are gone

    started = time.perf_counter()
    remove([f"base-{given.rows // 2:08d}"])
    middle = time.perf_counter()
    remove([f"{path.stem}-{row:08d}" for path in files for row in range(given.add)])
    one, many = middle - started, time.perf_counter() - middle
    for path in files:
        path.unlink()
    median = statistics.median(times)
    print(
        json.dumps(
            {
                "rows": before,
                "added": given.add,
                "seconds until found": {"median": round(median, 3), "worst": round(max(times), 3)},
                "share of a rebuild": round(median / rebuild, 4),
                "seconds of a rebuild": round(rebuild, 1),
                "MB written by an addition": round(statistics.median(written) / 1e6, 1),
                "seconds of a removal": {"1 key": round(one, 3), f"{given.add * given.times:,} keys": round(many, 3)},
            }
        )
    )


if __name__ == "__main__":
    main()
