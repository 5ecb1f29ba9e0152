"""What a service's answers take while the scan's kernels are compiled and loaded behind them: `python -m benchmarks.service_loop`.

A process asks one query at a time, at set moments, as requests come to a service: first of FAISS for some seconds, then of `auto`, until
the scan has answered for some seconds. An answer takes from the moment it was asked for. Three caches: one that cannot be written, one
that is empty, and one that has the kernels. The packages are copied, so that the kernels beside their sources are not found; the
bytecode is there, as `pip` leaves it.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer

from benchmarks.search.codes import Codebase, Spread
from indexer.engines.readiness import READINESS
from indexer.settings import Engine, SearchSettings

ROOT = Path(__file__).parents[1]
MOST_SECONDS = 600
NOWHERE = "/dev/null/nowhere"


def main(
    rows: int = 1_000_000,
    bits: int = 128,
    rate: Annotated[float, typer.Option(help="Queries per second; 0: one after the other.")] = 100,
    seconds: Annotated[float, typer.Option(help="Of each phase.")] = 10,
    loop_in: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    if loop_in is not None:
        print(json.dumps(loop(Codebase(loop_in, Spread.CLUSTERED, rows, bits), rate, seconds)))
        return
    with TemporaryDirectory() as name:
        folder = Path(name)
        Codebase(folder, Spread.CLUSTERED, rows, bits).level()
        for package in ("encoder", "indexer", "benchmarks"):
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "indexer/engines/scan/__pycache__").touch()  # where numba would have a folder
        bytecode = {"PYTHONPATH": name, "PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
        everything = (
            "import benchmarks.service_loop, indexer.engines.scan.weighted as last, numba; numba.njit(lambda: 0)()"
        )
        subprocess.run([sys.executable, "-c", everything], env=os.environ | bytecode, cwd=name, check=True)
        print(f"{rows:,} codes of {bits} bits, {rate:g} queries per second, {os.cpu_count()} cores")
        print("cache              engine  answers   median  99.9 %      max  over 1.5 x  scan after")
        caches = {
            "cannot be written": NOWHERE,
            "empty": str(folder / "kernels"),
            "has the kernels": str(folder / "kernels"),
        }
        for cache, path in caches.items():
            environment = os.environ | bytecode | {"NUMBA_CACHE_DIR": path, "HOME": NOWHERE}
            options = ["--rows", rows, "--bits", bits, "--rate", rate, "--seconds", seconds, "--loop-in", name]
            command = [sys.executable, "-m", "benchmarks.service_loop", *map(str, options)]
            done = subprocess.run(command, env=environment, cwd=name, stdout=subprocess.PIPE, text=True, check=True)
            report(cache, json.loads(done.stdout))


def loop(codes: Codebase, rate: float, seconds: float) -> dict[str, list[float]]:
    """Return the seconds that answers took by engine, and after how many of `auto` the scan was there."""
    level, queries = codes.level(), codes.queries(1000)
    kit, taken = level.kit(lists=False), {"faiss": [0.0] * 0, "auto": [0.0] * 0, "scan": [0.0] * 0, "ready": [0.0] * 0}
    begun = asked = time.perf_counter()
    turn = ended = 0.0
    for number in range(sys.maxsize):
        if rate:
            asked += 1 / rate
            time.sleep(max(0, asked - time.perf_counter()))
        else:
            asked = time.perf_counter()
        turn = turn or (asked if asked - begun > seconds else 0)
        engine = Engine.AUTO if turn else Engine.FAISS
        what = "faiss" if not turn else "scan" if kit in READINESS else "auto"
        level.search(queries[number % 1000][None], SearchSettings(10, exact=True, engine=engine), None)
        taken[what].append(time.perf_counter() - asked)
        if what == "scan" and not ended:
            ended = asked + seconds
            taken["ready"].append(asked - turn)
        if (ended and asked > ended) or asked - begun > MOST_SECONDS:
            return taken
    raise AssertionError  # the loop returns


def report(cache: str, taken: dict[str, list[float]]) -> None:
    limit = 1.5 * np.median(taken["faiss"])
    for what in ("faiss", "auto", "scan"):
        of_what = np.array(taken[what] or [np.nan])
        median, rare, most = (1e3 * value for value in (np.median(of_what), np.quantile(of_what, 0.999), of_what.max()))
        over, after = (
            (of_what > limit).sum(),
            f"{taken['ready'][0]:8.1f} s" if what == "scan" and taken["ready"] else "",
        )
        print(f"{cache:18} {what:6} {len(of_what):8} {median:8.3f} {rare:8.2f} {most:8.2f} {over:10} {after}")


if __name__ == "__main__":
    typer.run(main)
