"""Random histories of changes to an index, with faults: after each it holds what the model says, and answers as a fresh build.

    python -m tests.faults.histories --count 300 --seed 0

History number n of seed s is that of seed s + n. A change may be killed before any of its steps, have one of them fail, or find the
disk full from one on. Then the index is as before or as after it, both whole, and doing it once more succeeds. What was opened before goes
on to answer as it did. What is killed is a process of its own; all else happens in this one, which lives on after the errors.
"""

import argparse
import errno
import json
import math
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from indexer.index import Index
from indexer.settings import OnDuplicate
from tests.faults.model import (
    HOW,
    KEYS,
    Change,
    Failed,
    Model,
    Row,
    Rows,
    act,
    build_of,
    check_whole,
    current_name,
    keys_of,
)
from tests.faults.steps import Fault, attempt, attempt_here

STEPS = {"add": 90, "add text": 90, "remove": 40, "where": 40, "compact": 90, "fail": 70, "rollback": 40, "gc": 3}
"""About how many steps a change has; a fault at a later one never happens."""
FAULTY = 0.4
"""Part of the changes that something happens to."""


def rows_of(rng: random.Random, least: int) -> Rows:
    """Draw rows."""
    keys = rng.sample(KEYS, rng.randint(least, 12))
    return {key: Row((rng.randrange(3), rng.randrange(3)), rng.randrange(5)) for key in keys}


def change_of(rng: random.Random) -> Change:
    """Draw a change."""
    what = rng.choice(
        ["add", "add", "add", "add text", "remove", "remove", "where", "compact", "compact", "fail", "rollback", "gc"]
    )
    if what == "add":
        return what, rows_of(rng, 0), rng.choice([OnDuplicate.REPLACE, OnDuplicate.FIRST])
    if what in {"add text", "fail"}:
        return what, rows_of(rng, 1), OnDuplicate.REPLACE
    if what == "remove":
        return what, rng.sample(KEYS, rng.randint(0, 8)), None
    if what == "compact":
        return what, rng.random() < 0.5, rng.choice([8, 32, 1 << 24])
    return what, {"where": rng.randrange(5), "rollback": -rng.randint(1, 4), "gc": rng.randint(1, 4)}[what], None


def fault_of(rng: random.Random, what: str) -> Fault | None:
    """Draw what happens to a change."""
    if rng.random() >= FAULTY:
        return None
    at = rng.randrange(STEPS[what])
    return rng.choice([Fault(at), Fault(at), Fault(at, errno.ENOSPC, lasting=True), Fault(at, errno.EIO)])


def one(seed: int, home: Path, counts: Counter[str]) -> None:
    """Go through a history; what should not be is an `AssertionError`."""
    rng = random.Random(seed)
    path, model = home / "living", Model(rows_of(rng, 1))
    build_of(path, model.rows, rng.choice(HOW))
    model.published(path)
    reader: tuple[Index, list[str]] | None = None
    for _ in range(rng.randint(4, 12)):
        change = change_of(rng)
        after, fault = model.then(change, path), fault_of(rng, change[0])
        ended = tried(change, path, model, after, fault, counts)
        if ended != "done" and after is not None and model.rows is not after:  # what did not happen is done again
            tried(change, path, model, model.then(change, path), None, counts)
        if reader is not None:
            assert keys_of(reader[0]) == reader[1]
        if rng.random() < 0.3:
            reader = Index(path), list(model.rows)
    check_whole(path, model.rows, home / "fresh")
    counts["histories"] += 1


def tried(
    change: Change, path: Path, model: Model, after: Rows | None, fault: Fault | None, counts: Counter[str]
) -> str:
    """Try a change, and hold the index against the model before it and after it."""
    was = current_name(path)
    killed = fault is not None and fault.error is None
    ending = (attempt if killed else attempt_here)(lambda: _act(change, path), fault)
    happened = fault is not None and len(ending.steps) > fault.at
    counts[change[0]] += 1
    if fault is not None and happened:
        counts[
            f"{'killed' if fault.error is None else errno.errorcode[fault.error]} at {ending.steps[fault.at][0]}"
        ] += 1
    note = f"{change} with {fault}: {ending.how} {ending.said}, last steps {ending.steps[-3:]}"
    assert ending.how != "failed", note
    assert happened or ending.how == ("refused" if after is None else "done"), note
    assert after is not None or ending.how != "done", note
    changed = current_name(path) != was
    assert not (changed and after is None), note
    before = model.rows
    if after is not None and (changed or ending.how == "done"):
        model.rows = after
    model.published(path)
    assert keys_of(Index(path)) == list(model.rows), note
    assert changed or ending.how != "done" or before == after or change[0] in {"gc", "compact"}, note
    return ending.how


def _act(change: Change, path: Path) -> None:
    try:
        act(change, path)
    except Failed as err:
        from encoder.errors import HashgrainError, Reason

        raise HashgrainError(Reason.BAD_VALUE, "as meant") from err


def campaign(count: int, seed: int, seconds: float = math.inf) -> tuple[Counter[str], list[dict[str, object]]]:
    """Go through histories, or those that there is time for; return what was counted, and those that went wrong."""
    end = time.monotonic() + seconds
    counts, bad = Counter[str](), []
    for number in range(seed, seed + count):
        if time.monotonic() > end:
            break
        with tempfile.TemporaryDirectory() as folder:
            try:
                one(number, Path(folder), counts)
            except Exception:  # noqa: BLE001  the next ones are still of interest
                bad.append({"seed": number, "why": traceback.format_exc().splitlines()[-8:]})
    return counts, bad


def main() -> None:
    """Run a campaign and print what it counted as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=math.inf, help="after which no more is begun")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as state:
        os.environ["XDG_STATE_HOME"] = state
        counts, bad = campaign(chosen.count, chosen.seed, chosen.seconds)
    sys.stdout.write(json.dumps({"counts": dict(sorted(counts.items())), "bad": bad}) + "\n")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
