"""What changes of a large index cost its searches: segments beside one, removed rows, and additions under way.

    python -m benchmarks.living_search --rows 10000000 --add 100000 --folder /scratch

Three indexes of the same rows are searched in turn, so that a busy machine troubles them alike: grown by additions, compacted as far
as is due, and compacted whole. Then one row is removed, and queries are timed while a process of its own adds rows.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.living import build, draw, write_code_file
from encoder.bits import Codes
from encoder.levels import Level
from indexer.changes.compact import compact
from indexer.changes.writer import writer
from indexer.index import Index
from indexer.settings import CompactSettings, Engine, SearchSettings

K, BATCH, ROUNDS = 10, 200, 15
EFFORTS = {"lists": SearchSettings(K), "exact": SearchSettings(K, exact=True)}
ADD = "import sys; from pathlib import Path; from indexer.changes.writer import writer\nwith writer(Path(sys.argv[1])) as w: w.add([Path(sys.argv[2])])"


def ask(index: Index, codes: Codes, settings: SearchSettings) -> float:
    """Return milliseconds per query of a batch."""
    started = time.perf_counter()
    index.search(Level.FINE, codes, settings)
    return (time.perf_counter() - started) * 1e3 / len(codes)


def in_turn(indexes: dict[str, Index], codes: Codes) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield milliseconds per query of each index by engine and effort: the median of rounds that take one after another."""
    for engine in (Engine.SCAN, Engine.FAISS):
        for effort, settings in EFFORTS.items():
            some = codes if engine is Engine.SCAN or effort == "lists" else codes[: BATCH // 10]
            asked = SearchSettings(settings.k, exact=settings.exact, engine=engine)
            times: dict[str, list[float]] = {name: [] for name in indexes}
            for _ in range(ROUNDS + 1):  # the first brings files and kernels into memory
                for name, index in indexes.items():
                    times[name].append(ask(index, some, asked))
            yield f"{engine}, {effort}", {name: statistics.median(each[1:]) for name, each in times.items()}


def while_adding(index: Index, codes: Codes, files: list[Path]) -> dict[str, float]:
    """Return milliseconds per query, one at a time, between and during additions by another process."""
    quiet, busy = list[float](), list[float]()
    for path in files:
        quiet += [ask(index, codes[at : at + 1], EFFORTS["lists"]) for at in range(BATCH)]
        with subprocess.Popen([sys.executable, "-c", ADD, str(index.path), str(path)]) as adding:
            while adding.poll() is None:
                busy += [ask(index, codes[at : at + 1], EFFORTS["lists"]) for at in range(20)]
        index.refresh()
    return {"quiet": statistics.median(quiet), "while adding": statistics.median(busy)}


def main() -> None:
    """Build if need be, grow, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--add", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path("living"))
    given = parser.parse_args()
    base, places = (
        given.folder / f"index-{given.rows}",
        {name: given.folder / name for name in ("grown", "due", "whole")},
    )
    if not base.exists():
        base.parent.mkdir(parents=True, exist_ok=True)
        build(base, given.rows)
    for folder in places.values():
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, places["grown"])
    for number in range(given.times):
        path = write_code_file(given.folder, f"new{number}", given.add, number + 2)
        with writer(places["grown"], keep=1) as opened:
            opened.add([path])
        path.unlink()
    for name in ("due", "whole"):
        shutil.copytree(places["grown"], places[name])
        compact(places[name], CompactSettings(all=name == "whole", keep=1))
    codes = draw(given.rows, 1)[Level.FINE][:: given.rows // BATCH][:BATCH]
    indexes = {name: Index(folder) for name, folder in places.items()}
    content = {
        "segments": {name: len(index.segments) for name, index in indexes.items()},
        "ms per query": {what: rounded(times) for what, times in in_turn(indexes, codes)},
    }
    with writer(places["whole"], keep=2) as opened:
        opened.remove([f"base-{given.rows // 2:08d}"])
    removed = {"whole": indexes["whole"], "one row removed": Index(places["whole"])}
    content["ms per query, removed"] = {what: rounded(times) for what, times in in_turn(removed, codes)}
    files = [write_code_file(given.folder, f"later{number}", given.add, number + 50) for number in range(5)]
    content["ms of a query"] = rounded(while_adding(Index(places["due"]), codes, files))
    print(json.dumps(content, indent=1))


def rounded(times: dict[str, float]) -> dict[str, float]:
    """Return times as they are read."""
    return {name: round(value, 4) for name, value in times.items()}


if __name__ == "__main__":
    main()
