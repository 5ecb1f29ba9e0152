"""Build and search synthetic codes: memory of the build, milliseconds a query and recall@10 of flat and IVF.

usage: search.py [--rows 10000000] [--nlist 4096] [--queries 64] [--keep FOLDER] [--uniform]

One code file a million rows with levels fine (64 bits), mid (128) and coarse (256). Codes are clustered, as learned codes
are: a row is one of rows / 100 random centres with each bit flipped with probability 0.1; `--uniform` draws random bits,
the case where no inverted list can help. Queries are rows with 5 % of the bits flipped. `indexer build` runs as a process of
its own; its peak resident memory is what the operating system counted. recall@10 counts results no farther than the 10th
exact distance, which is fair to ties. Every time is the median of 5 runs.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes, pack
from encoder.codefile import CodeFileWriter, CodeHeader, ShardRecord
from encoder.levels import Level
from encoder.shards import ShardKind
from indexer.config import SearchSettings
from indexer.found import Found
from indexer.index import Index

BITS = {Level.FINE: 64, Level.MID: 128, Level.COARSE: 256}
PER_FILE = 1_000_000
RUNS = 5
K = 10


def flips(rng: np.random.Generator, shape: tuple[int, int], share: int) -> npt.NDArray[np.uint8]:
    """Return uint8[shape], each bit set with probability share / 256."""
    return pack(rng.integers(0, 256, (shape[0], 8 * shape[1]), dtype=np.uint8) < share)


def write_files(folder: Path, rows: int, *, uniform: bool) -> None:
    """Write the code files."""
    rng = np.random.default_rng(0)
    centres = {
        level: rng.integers(0, 256, (max(1, rows // 100), nbits // 8), dtype=np.uint8) for level, nbits in BITS.items()
    }
    for start in range(0, rows, PER_FILE):
        count = min(PER_FILE, rows - start)
        owner = rng.integers(0, len(centres[Level.FINE]), count)
        codes = {
            level: rng.integers(0, 256, (count, nbits // 8), dtype=np.uint8)
            if uniform
            else centres[level][owner] ^ flips(rng, (count, nbits // 8), 26)
            for level, nbits in BITS.items()
        }
        record = ShardRecord(f"part-{start}", ShardKind.TAR, "/nowhere", 0, "0" * 64, "", None, "")
        with CodeFileWriter(folder, BITS) as writer:
            for row in range(count):
                writer.add(f"{start + row:09d}", (0, 0), {}, {level: codes[level][row].tobytes() for level in BITS})
            writer.finish(
                folder / f"part-{start // PER_FILE:04d}.h5", CodeHeader("f" * 64, "fp32", BITS, record, 0, 0, 0, 0)
            )


def build(folder: Path, index: Path, nlist: int) -> None:
    """Build in a process of its own and print its peak memory against the bound."""
    started = time.monotonic()
    command = [sys.executable, "-m", "indexer", "build", str(folder), "--out", str(index), "--kind", "ivf"]
    subprocess.run([*command, "--nlist", str(nlist), "--levels", ",".join(BITS)], check=True)
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    size = sum(path.stat().st_size for path in index.rglob("*") if path.is_file())
    bound = 1.3 * size + 300e6
    print(
        f"\nbuilt in {seconds:.0f} s; index {size / 1e6:,.0f} MB; peak memory {peak / 1e6:,.0f} MB = {peak / bound:.0%} of the bound (1.3 x index + 300 MB)\n"
    )


def milliseconds(search: Callable[[], list[Found]], queries: int) -> float:
    """Return the median time of a query, one warm-up before."""
    search()
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        search()
        times.append((time.perf_counter() - started) * 1e3 / queries)
    return statistics.median(times)


def recall(found: list[Found], exact: list[Found]) -> float:
    """Return the share of results no farther than the k-th exact one."""
    return float(
        np.mean([(mine.distances <= truth.distances[-1]).sum() / K for mine, truth in zip(found, exact, strict=True)])
    )


def one_by_one(index: Index, level: Level, codes: Codes, settings: SearchSettings) -> list[Found]:
    """Search for one query after another."""
    return [index.search(level, code[None], settings)[0] for code in codes]


def measure(index: Index, queries: int) -> None:
    """Print the table."""
    rng = np.random.default_rng(1)
    nlist = index.segments[0].record.levels[Level.FINE].nlist or 1
    print(f"| bits | search | ms a query, single | ms a query, batch of {queries} | recall@{K} |")
    print("|---|---|---|---|---|")
    for level, nbits in BITS.items():
        rows = rng.integers(0, index.rows, queries)
        codes = index.codes(level, rows) ^ flips(rng, (queries, nbits // 8), 13)
        exact = index.search(level, codes, SearchSettings(K, exact=True))
        settings = {"flat": SearchSettings(K, exact=True)}
        settings |= {
            f"ivf nprobe {nprobe}": SearchSettings(K, nprobe=nprobe)
            for nprobe in (1, 4, 16, 64, 256)
            if nprobe <= nlist
        }
        for name, setting in settings.items():
            single = milliseconds(partial(one_by_one, index, level, codes[:16], setting), 16)
            batch = milliseconds(partial(index.search, level, codes, setting), queries)
            print(
                f"| {nbits} | {name} | {single:.3f} | {batch:.3f} | {recall(index.search(level, codes, setting), exact):.3f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--nlist", type=int, default=4096)
    parser.add_argument("--queries", type=int, default=64)
    parser.add_argument("--keep", type=Path, help="folder for codes and index; used again if it is there")
    parser.add_argument("--uniform", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        codes, index = folder / "codes", folder / "index"
        if not codes.exists():
            codes.mkdir(parents=True)
            write_files(codes, arguments.rows, uniform=arguments.uniform)
        if not index.exists():
            build(codes, index, arguments.nlist)
        measure(Index(index), arguments.queries)


if __name__ == "__main__":
    main()
