"""Processes that search while generations are published: none fails, and each answer is that of the generation it names.

python -m tests.faults.readers --readers 4 --publishes 200
"""

import argparse
import json
import math
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

from indexer.index import Index
from indexer.settings import SearchSettings
from tests.faults.histories import change_of, rows_of
from tests.faults.model import HOW, LEVELS, QUERIES, Model, act, build_of, keyed, nearest
from tests.support.processes import FORKS

K = 5
Answer = tuple[list[str], list[int]]


def read(path: Path, stop: Path, results: Connection, every: int) -> None:
    """Search until the file `stop` is there, and send what was found, by generation, and how often one was new.

    Args:
        path: of the index.
        stop: a file.
        results: takes `(generation, level, answers)` and at the end the number of searches, or the text of an error.
        every: searches of one opened index, after which it is opened anew instead of refreshed.
    """
    found: dict[tuple[str, str], list[list[Answer]]] = {}
    count = 0
    try:
        index = Index(path)
        while not stop.exists():
            index = Index(path) if count % every == 0 else index
            index.refresh()
            of_generation = index.folder.name
            for level in LEVELS:
                answers = keyed(index, index.search(level, QUERIES, SearchSettings(k=K, exact=True)))
                assert index.folder.name == of_generation, "a search went to another generation by itself"
                known = found.setdefault((of_generation, level), [])
                if answers not in known:
                    known.append(answers)
                count += 1
        results.send((count, found))
    except BaseException:  # noqa: BLE001  whatever a user would see
        results.send((traceback.format_exc(), found))


def campaign(home: Path, readers: int, publishes: int, seed: int, seconds: float) -> tuple[Counter[str], list[object]]:
    """Publish generations under readers; return what was counted, and what went wrong."""
    end, rng, path, stop = time.monotonic() + seconds, random.Random(seed), home / "index", home / "stop"
    counts, bad, model = Counter[str](), list[object](), Model(rows_of(rng, 6))
    build_of(path, model.rows, HOW[1])
    model.published(path)
    pipes = [FORKS.Pipe(duplex=False) for _ in range(readers)]
    processes = [FORKS.Process(target=read, args=(path, stop, theirs, 7)) for _, theirs in pipes]
    for process in processes:
        process.start()
    while counts["published"] < publishes and time.monotonic() < end:
        change = change_of(rng)
        rows = model.then(change, path)
        if change[0] in {"fail", "gc"} or not rows:
            continue
        was = set(model.earlier)
        act(change, path)
        model.rows = rows
        model.published(path)
        counts["published"] += len(set(model.earlier) - was)
        time.sleep(rng.uniform(0, 0.05))
    stop.touch()
    for (mine, _), process in zip(pipes, processes, strict=True):
        searched, found = mine.recv()
        process.join()
        if isinstance(searched, str):
            bad.append(searched.splitlines()[-8:])
        else:
            counts["searches"] += searched
        for (generation, level), each in found.items():
            expected = [nearest(model.earlier[generation], level, query, K) for query in QUERIES]
            counts["generations read, over all readers and levels"] += 1
            bad += [] if each == [expected] else [f"{generation}, {level}: {each} is not {expected}"]
    return counts, bad


def main() -> None:
    """Run a campaign and print what it counted as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--publishes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=math.inf, help="after which no more is begun")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = f"{folder}/state"
        counts, bad = campaign(Path(folder), chosen.readers, chosen.publishes, chosen.seed, chosen.seconds)
    sys.stdout.write(json.dumps({"counts": dict(sorted(counts.items())), "bad": bad}) + "\n")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
