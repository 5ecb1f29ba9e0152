"""Compare searches over the same codes in the same run, and write tables and a plot.

usage: python -m benchmarks.search [--rows 1000000,10000000] [--bits 64,128,256] [--only exact,lists,peers,growth,start]
                                   [--folder bench-search] [--avx2] [--graph-rows 1000000]

exact    every code is compared: this engine, FAISS in both modes, a bare read of the memory, and, up to --graph-rows codes, the
         exhaustive searches of usearch and LanceDB; batches of 1, 64 and 1,000, k 10 and 100
lists    the same inverted lists searched by this engine and by FAISS, at the fewest lists probed (a power of two) that reach
         recall@10 0.95
peers    up to --graph-rows codes: graphs, hash tables and lists of others at the least effort with recall@10 0.95, against this
         engine's quicker one of flat and lists
growth   64 bits, clustered, 100 thousand to 50 million codes: flat and lists at recall@10 0.95
start    the whole process of a first query on a mapped index of the largest --rows

Codes are clustered and uniform (see codes.py). A time is a median, systems take turns, distances are checked against FAISS's.
What is done is kept in FOLDER/search.json, so that a run that was cut goes on; the report is FOLDER/search.md. `--avx2` asks
FAISS and numba for no more than AVX2, and keeps its own file.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

PARTS = ("exact", "lists", "peers", "growth", "start")
AVX2 = {"FAISS_SIMD_LEVEL": "AVX2", "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}
"""Without the last, numba adds what the processor has to what the named one had."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1000000,10000000")
    parser.add_argument("--bits", default="64,128,256")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--folder", type=Path, default=Path("bench-search"))
    parser.add_argument("--graph-rows", type=int, default=1_000_000)
    parser.add_argument("--growth-rows", default="100000,300000,1000000,3000000,10000000,50000000")
    parser.add_argument("--avx2", action="store_true")
    arguments = parser.parse_args()
    if arguments.avx2 and any(os.environ.get(name) != value for name, value in AVX2.items()):
        command = [sys.executable, "-m", "benchmarks.search", *sys.argv[1:]]  # both are read when they are imported
        sys.exit(subprocess.run(command, env=os.environ | AVX2, check=False).returncode)

    from benchmarks.search.cases import Bench
    from benchmarks.search.report import write_report

    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(folder, folder / ("search-avx2.json" if arguments.avx2 else "search.json"), arguments.graph_rows)
    rows, bits = _numbers(arguments.rows), _numbers(arguments.bits)
    for part in arguments.only.split(","):
        match part:
            case "exact":
                bench.exact(rows, bits)
            case "lists":
                bench.lists(rows, bits)
            case "peers":
                bench.peers(rows, bits)
            case "growth":
                bench.growth(_numbers(arguments.growth_rows))
            case "start":
                bench.start(max(rows))
            case _:
                parser.error(f"--only {part!r}: the parts are {', '.join(PARTS)}")
    print(write_report(bench.done, bench.kept.with_suffix(".md")))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    main()
