"""What changes of a large index cost its searches: segments beside one, removed rows, and additions under way.

    python -m benchmarks.living_search --rows 10000000 --add 100000 --folder /scratch

Three indexes of the same rows are searched in turn, so that a busy machine troubles them alike: grown by additions that nobody joined,
joined as far as is due, which is how additions leave an index, and joined whole; they are kept in the folder. Then one row is removed. Then one process asks an index
of `--busy` rows, one query after another, in turns: alone, and while another adds a hundredth of the index per second. Times per query
are medians of milliseconds, and the lowest deciles of those of processor time, which other work on the machine troubles less.
"""

import argparse
import json
import select
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, cast

import numpy as np

from benchmarks.compaction import copy
from benchmarks.living import build, draw, write_code_file
from encoder.bits import Codes
from encoder.levels import Level
from indexer.changes.compact import compact
from indexer.changes.writer import writer
from indexer.index import Index
from indexer.settings import CompactSettings, Engine, SearchSettings

K, QUERIES, ROUNDS = 10, 200, 15
TURN = 1.0
"""Seconds of a turn in which one addition is made."""
WRITER = """
import sys
from pathlib import Path
from indexer.changes.writer import writer
for line in sys.stdin:
    with writer(Path(sys.argv[1]), keep=2) as opened:
        opened.add([Path(line.strip())])
    print("added", flush=True)
"""


def ask(index: Index, codes: Codes, settings: SearchSettings) -> tuple[float, float]:
    """Return the milliseconds of a call, and those of processor time."""
    started, spent = time.perf_counter(), time.process_time()
    index.search(Level.FINE, codes, settings)
    return (time.perf_counter() - started) * 1e3, (time.process_time() - spent) * 1e3


def in_turn(indexes: Mapping[str, Index], codes: Codes) -> dict[str, object]:
    """Return what a query takes of each index by engine and effort, each asked in turn, and as a multiple of the last index."""
    found: dict[str, object] = {}
    for engine in (Engine.SCAN, Engine.FAISS):
        for exact in (False, True):
            settings = SearchSettings(K, exact=exact, engine=engine)
            some = codes[: QUERIES // 10] if exact else codes
            one, many = ([some[at : at + 1] for at in range(len(some))], [some])
            for what, asked in (("one at a time", one), (f"{len(some)} at once", many)):
                times: dict[str, list[tuple[float, float]]] = {name: [] for name in indexes}
                for turn in range((ROUNDS // 5 if exact else ROUNDS) + 1):
                    for queries in asked:
                        for name, index in indexes.items():
                            taken = ask(index, queries, settings)
                            if turn:  # the first brings files and kernels into memory
                                times[name].append((taken[0] / len(queries), taken[1] / len(queries)))
                found[f"{engine}, {'every code' if exact else 'lists'}, {what}"] = table(times)
    return found


def lines(found: Mapping[str, object]) -> str:
    """Return JSON with a line per entry."""
    return "{" + ",\n ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in found.items()) + "}"


def table(times: Mapping[str, list[tuple[float, float]]]) -> dict[str, object]:
    """Return medians of the time, lowest deciles of processor time, and both as multiples of the last."""
    found = {
        name: np.array([np.median([wall for wall, _ in each]), np.quantile([spent for _, spent in each], 0.1)])
        for name, each in times.items()
    }
    *others, last = found
    return {name: [round(value, 4) for value in of.tolist()] for name, of in found.items()} | {
        f"{name} / {last}": [round(value, 2) for value in (found[name] / found[last]).tolist()] for name in others
    }


def beside_a_writer(index: Path, files: list[Path], codes: Codes) -> dict[str, object]:
    """Ask an index in turns of a second, alone and while another process adds a file per turn; return queries per second."""
    opened, rates = Index(index), {"alone": list[float](), "in a second with an addition": [], "while it runs": []}
    seconds, refreshes = list[float](), list[float]()
    settings = SearchSettings(K, engine=Engine.SCAN)

    def count(until: Callable[[], bool]) -> float:
        started, asked = time.perf_counter(), 0
        while not until():
            ask(opened, codes[asked % len(codes)][None], settings)
            asked += 1
        return asked / (time.perf_counter() - started)

    def after(delay: float) -> Callable[[], bool]:
        end = time.perf_counter() + delay
        return lambda: time.perf_counter() >= end

    command = [sys.executable, "-c", WRITER, str(index)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as adding:
        requests, replies = cast("IO[str]", adding.stdin), cast("IO[str]", adding.stdout)
        for turn, path in enumerate(files):
            alone = count(after(TURN))
            end, done = after(TURN), _readable(replies)
            requests.write(f"{path}\n")
            requests.flush()
            started = time.perf_counter()
            during = count(done)
            took = time.perf_counter() - started
            rest = count(end)
            replies.readline()
            started = time.perf_counter()
            opened.refresh()
            refreshed = time.perf_counter() - started
            count(after(TURN / 10))  # files of the new generation are mapped
            if turn:  # the first imports
                of_turn = (took * during + max(0.0, TURN - took) * rest) / max(took, TURN)
                for name, rate in zip(rates, (alone, of_turn, during), strict=True):
                    rates[name].append(rate)
                seconds.append(took)
                refreshes.append(refreshed)
        requests.close()
    every, *others = (np.array(of) for of in rates.values())
    return {
        "queries per second": {name: round(statistics.median(of)) for name, of in rates.items()},
        "lost": {
            name: round(1 - float(np.median(of / every)), 3) for name, of in zip([*rates][1:], others, strict=True)
        },
        "seconds of an addition": round(statistics.median(seconds), 3),
        "seconds of a refresh": round(statistics.median(refreshes), 4),
        "turns": len(seconds),
    }


def _readable(replies: IO[str]) -> Callable[[], bool]:
    """Return what says whether a line is there to be read."""
    return lambda: bool(select.select([replies], [], [], 0)[0])


def grown(base: Path, folder: Path, added: int, times: int) -> dict[str, Path]:
    """Return copies of an index with rows added: not joined, as joined as is due, and whole."""
    places = {name: folder / name for name in ("grown", "due", "whole")}
    if (places["whole"] / "CURRENT").exists():  # of a run before
        return places
    for name in ("grown", "due"):
        copy(base, places[name])
    for number in range(times):
        path = write_code_file(folder, f"new{number}", added, number + 2)
        for name in ("grown", "due"):
            with writer(places[name], keep=1, compact=name == "due") as opened:
                opened.add([path])
        path.unlink()
    compact(copy(places["due"], places["whole"]), CompactSettings(all=True, keep=1))
    return places


def main() -> None:
    """Build if need be, grow, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--add", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--busy", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--folder", type=Path, default=Path("living"))
    given = parser.parse_args()
    for rows in (given.rows, given.busy):
        if rows and not (given.folder / f"index-{rows}" / "CURRENT").exists():
            given.folder.mkdir(parents=True, exist_ok=True)
            build(given.folder / f"index-{rows}", rows)
    codes = draw(QUERIES, 1)[Level.FINE]
    if given.rows:
        places = grown(given.folder / f"index-{given.rows}", given.folder, given.add, given.times)
        indexes = {name: Index(folder) for name, folder in places.items()}
        print(json.dumps({"segments": {name: len(index.segments) for name, index in indexes.items()}}))
        print(lines(in_turn(indexes, codes)))
        with writer(copy(places["whole"], given.folder / "removed"), keep=2) as opened:
            opened.remove([f"base-{given.rows // 2:08d}"])
        removed = {"one row removed": Index(given.folder / "removed"), "whole": indexes["whole"]}
        print(lines(in_turn(removed, codes)))
        shutil.rmtree(given.folder / "removed")
    if given.busy:
        busy = copy(given.folder / f"index-{given.busy}", given.folder / "busy")
        files = [
            write_code_file(given.folder, f"busy{number}", given.busy // 100, number + 100)
            for number in range(given.turns + 1)
        ]
        print(lines(beside_a_writer(busy, files, codes)))
        for path in files:
            path.unlink()
        shutil.rmtree(busy)


if __name__ == "__main__":
    main()
