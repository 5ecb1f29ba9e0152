"""Every step of every operation, as the place where it is killed, and as the one that fails: the index stays whole, and a rerun completes.

    python -m tests.faults.points --errors 5

An operation is done once undisturbed, and its steps are counted. Then, each time on a copy of the same start, it is killed before a step,
or the step fails with EIO, or the disk is full from it on. `--kills N` and `--errors N` take the first, the last and N random ones (0: all).
The undisturbed run also shows the order of what it does: a file is synced after its last write and before it or its folder gets its name,
and a folder after its last entry and before the pointer is written.
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
from functools import partial
from pathlib import Path

from encoder.runtime.publish import PARTIAL
from indexer.index import Index
from indexer.storage.current import read_current
from tests.faults.model import act, keys_of, names_of
from tests.faults.operations import Operation, copy_of, operations, state
from tests.faults.steps import Ending, Fault, attempt


def disturbed(operation: Operation, path: Path, fault: Fault) -> Ending:
    """Do an operation with a fault, then once more without; what should not be is an `AssertionError`."""
    before = operation.state(path)
    reader = Index(path) if (path / "CURRENT").exists() else None
    was, stood = _pointer(path), names_of(path)
    ending = attempt(lambda: operation.do(path), fault)
    note = f"{fault}: {ending.how} {ending.said}, last steps {ending.steps[-3:]}"
    assert ending.how != "failed", note
    was_killed = fault.error is None and not fault.part and 0 <= fault.at < len(ending.steps)
    assert ending.how != "done" or not was_killed, note
    found, changed = operation.state(path), _pointer(path) != was
    assert found in (before, operation.after, *([[]] if operation.gap else [])), note
    assert ending.how != "done" or found == operation.after, note
    assert reader is None or changed or found == before, note
    assert reader is None or keys_of(reader) == before, note
    if not changed:  # else a rerun is another change
        again = attempt(lambda: operation.do(path))
        assert again.how == "done", f"{note}; again: {again.said}"
        assert operation.state(path) == operation.after, note
    elif (path / "CURRENT").exists():
        again = attempt(lambda: act(("remove", operation.after[:1], None), path))
        assert again.how == "done", f"{note}; then: {again.said}"
        assert state(path) == operation.after[1:], note
    assert not list(path.glob(f"*{PARTIAL}")), note
    if (path / "CURRENT").exists():
        known = {*stood, *(change.generation for change in read_current(path)[1].history)}
        assert set(names_of(path)) <= known, f"{note}: one of {names_of(path)} never was the current one"
    return ending


def _pointer(path: Path) -> bytes:
    pointer = path / "CURRENT"
    return pointer.read_bytes() if pointer.exists() else b""


def disorder(steps: list[tuple[str, str]], path: Path) -> list[str]:
    """Return what an operation did in an order that a power cut could make a hole of."""
    dirty, entries, wrong = set[str](), set[str](), list[str]()
    for name, at in steps:
        above = str(Path(at).parent)
        if name in {"create", "write"}:
            dirty.add(at)
        if name in {"create", "mkdir", "link"}:
            entries.add(above)
        if name == "fsync":
            dirty.discard(at)
        if name == "sync-folder":
            entries.discard(at)
        if name in {"unlink", "rmtree"}:
            dirty = {each for each in dirty if not each.startswith(at)}
            entries = {each for each in entries if not each.startswith(at)}
        if name == "rename":
            of = f"{at}{PARTIAL}"
            wrong += [
                f"{each} has its name before it is on the disk" for each in dirty | entries if each.startswith(of)
            ]
            entries.add(above)
        if name == "pointer" and str(path) in entries:
            wrong.append(f"{path} is not on the disk before the pointer is written")
    return wrong + [f"the end comes before the sync of {each}" for each in dirty]


def _chosen(count: int, most: int, rng: random.Random) -> list[int]:
    if most == 0 or count <= most + 2:
        return list(range(count))
    return sorted({0, count - 1, *rng.sample(range(count), most)})


def campaign(
    home: Path, kills: int, errors: int, seed: int, only: str = "", seconds: float = math.inf
) -> tuple[Counter[str], list[dict[str, object]]]:
    """Disturb every operation, or what there is time for; return what was counted, and what went wrong."""
    end = time.monotonic() + seconds
    rng, counts, bad = random.Random(seed), Counter[str](), list[dict[str, object]]()

    for name, operation in operations(home).items():
        if only not in name:
            continue
        path = copy_of(operation, home)
        whole = attempt(partial(operation.do, path))
        if whole.how != "done" or operation.state(path) != operation.after:
            bad.append({"operation": name, "why": f"undisturbed: {whole.how} {whole.said}"})
            continue
        if wrong := disorder(whole.steps, path):
            bad.append({"operation": name, "why": wrong})
        counts["operations"] += 1
        counts["steps"] += len(whole.steps)
        count = len(whole.steps)
        faults = [Fault(at) for at in _chosen(count, kills, rng)]
        faults += [Fault(at, errno.EIO) for at in _chosen(count, errors, rng)]
        faults += [Fault(at, errno.ENOSPC, lasting=True) for at in _chosen(count, errors, rng)]
        for fault in faults:
            if time.monotonic() > end:
                return counts, bad
            kind = "killed" if fault.error is None else errno.errorcode[fault.error]
            try:
                ending = disturbed(operation, copy_of(operation, home), fault)
                counts[kind] += 1
                counts[f"{kind}, done all the same"] += ending.how == "done"
            except Exception:  # noqa: BLE001  the next ones are still of interest
                bad.append(
                    {"operation": name, "step": whole.steps[fault.at], "why": traceback.format_exc().splitlines()[-6:]}
                )
    return counts, bad


def main() -> None:
    """Run a campaign and print what it counted as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--errors", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of an operation's name")
    parser.add_argument("--seconds", type=float, default=math.inf, help="after which no more is begun")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = f"{folder}/state"
        counts, bad = campaign(Path(folder), chosen.kills, chosen.errors, chosen.seed, chosen.only, chosen.seconds)
    sys.stdout.write(json.dumps({"counts": dict(sorted(counts.items())), "bad": bad}) + "\n")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
