"""Generations that are published while a service answers: is each answer right for the generation it names, and is memory given back?

    python -m benchmarks.service.swaps --rows 20000 --generations 200 --connections 64

Connections ask by key without a pause, each for the 10 nearest of all rows; a process of its own adds and removes rows meanwhile. The
codes and keys of every generation are kept here, and each answer is held against brute force on the generation that it names.
"""

import argparse
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.living import build, write_code_file
from encoder.bits import Codes, hamming
from encoder.errors import HashgrainError
from encoder.levels import Level
from indexer.changes.compact import compact
from indexer.changes.writer import writer
from indexer.client import Client
from indexer.index import Index
from indexer.query import Answer, ByKey
from indexer.settings import CompactSettings
from tests.support.services import serving

K = 10


class Generation:
    """What an index held."""

    def __init__(self, index: Index) -> None:
        rows = index.live_rows()
        self.keys = [index.key(row) for row in rows.tolist()]
        self.codes: Codes = index.codes(Level.FINE, rows)
        self.rows = {key: at for at, key in enumerate(self.keys)}

    def is_right(self, answer: Answer) -> bool:
        """Hold an answer against brute force: the same keys at the same distances, ties by row."""
        own = self.rows[answer.query.removeprefix("key:")]
        distances = hamming(self.codes[own : own + 1], self.codes)[0]
        order = np.lexsort((np.arange(len(distances)), distances))[:K]
        return [(hit.key, hit.distance) for hit in answer] == [(self.keys[at], int(distances[at])) for at in order]


def ask(
    client: Client, keys: list[str], seed: int, stop: threading.Event, answers: list[Answer], failed: Counter[str]
) -> None:
    """Ask until told to stop."""
    rng = np.random.default_rng(seed)
    while not stop.is_set():
        try:
            answers.append(client.query(ByKey(keys[rng.integers(len(keys))]), level="fine", k=K, exact=True))
        except HashgrainError as err:
            failed[err.reason] += 1


def publish(path: Path, codes: list[Path], generations: int, known: dict[str, Generation], pause: float) -> None:
    """Add and remove in turn, and keep what each generation holds."""
    for number in range(generations):
        with writer(path, compact=False) as changed:
            if number % 2:
                changed.remove(
                    [f"{codes[number // 2 % len(codes)].stem}-{row:08d}" for row in range(50)], missing_ok=True
                )
            else:
                changed.add([codes[number // 2 % len(codes)]])
        index = Index(path)
        known[index.generation] = Generation(index)
        if number % 20 == 19:  # a generation of its own, with other row numbers
            compact(path, CompactSettings())
            index = Index(path)
            known[index.generation] = Generation(index)
        time.sleep(pause)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--generations", type=int, default=200)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument(
        "--pause", type=float, default=0.6, help="seconds between two generations; a service looks twice per second"
    )
    given = parser.parse_args()
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "index"
        build(path, given.rows)
        codes = [write_code_file(Path(scratch), f"new{number}", 200, number + 5) for number in range(10)]
        index = Index(path)
        known: dict[str, Generation] = {index.generation: Generation(index)}
        keys = known[index.generation].keys[:5000]
        answers, failed, stop = list[Answer](), Counter[str](), threading.Event()
        with serving(path, "--no-model") as service, Client(f"http://127.0.0.1:{service.port}") as client:
            client.query(ByKey(keys[0]), k=K)
            before = service.memory
            threads = [
                threading.Thread(target=ask, args=(client, keys, seed, stop, answers, failed))
                for seed in range(given.connections)
            ]
            for thread in threads:
                thread.start()
            publish(path, codes, given.generations, known, given.pause)
            time.sleep(1)
            stop.set()
            for thread in threads:
                thread.join()
            time.sleep(70)  # the former generation is kept for a minute
            after = service.memory
        say(known, answers, failed, {"generations": given.generations, "memory": round(after / before, 3)})


def say(known: Mapping[str, Generation], answers: list[Answer], failed: Counter[str], more: dict[str, Any]) -> None:
    """Check a sample of the answers of each generation, and print one line."""
    wrong = checked = unknown = 0  # steps of a compaction have generations of their own, which nobody here has seen
    seen = Counter(answer.generation for answer in answers)
    left = Counter[str]()
    for answer in answers:
        left[answer.generation] += 1
        if answer.generation not in known:
            unknown += 1
        elif left[answer.generation] <= 50:
            checked += 1
            wrong += not known[answer.generation].is_right(answer)
    print(
        json.dumps(
            more
            | {
                "answers": len(answers),
                "named": len(seen),
                "checked": checked,
                "wrong": wrong,
                "unknown": unknown,
                "failed": dict(failed),
            }
        )
    )


if __name__ == "__main__":
    main()
