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
from collections.abc import Callable
from datetime import datetime, tzinfo
from functools import cache, partial
from pathlib import Path

from encoder.runtime.publish import PARTIAL
from indexer.index import Index
from indexer.storage import generation
from indexer.storage.current import read_current
from tests.faults.model import act, keys_of, names_of
from tests.faults.operations import Operation, copy_of, operations, state
from tests.faults.shares import Tally, cheaper_forks, tried
from tests.faults.steps import Ending, Fault, attempt

Tree = frozenset[tuple[object, ...]]


def disturbed(operation: Operation, path: Path, fault: Fault, proven: dict[Tree, list[str]] | None = None) -> Ending:
    """Do an operation with a fault, then once more without; what should not be is an `AssertionError`.

    Args:
        operation: what is done.
        path: a folder as it begins with.
        fault: what happens to it.
        proven: by folder that all this was found of, the keys in it; the one that is left is put there, and nothing more is done
            where it is there already.
    """
    before, index = _before(operation.start, operation.state), path / operation.inside
    reader = Index(index) if (index / "CURRENT").exists() else None
    was, stood = _pointer(index), names_of(index)
    ending = attempt(lambda: operation.do(path), fault)
    note = f"{fault}: {ending.how} {ending.said}, last steps {ending.steps[-3:]}"
    assert ending.how != "failed", note
    was_killed = fault.error is None and not fault.part and 0 <= fault.at < len(ending.steps)
    assert ending.how != "done" or not was_killed, note
    assert reader is None or keys_of(reader) == before, note
    left = tree_of(path)
    known_as = None if proven is None else proven.get(left)
    found, changed = operation.state(path) if known_as is None else known_as, _pointer(index) != was
    assert found in (before, operation.after, *([[]] if operation.gap else [])), note
    assert ending.how != "done" or found == operation.after, note
    assert reader is None or changed or found == before, note
    if known_as is not None:
        return ending
    if not changed:  # else a rerun is another change
        again = attempt(lambda: operation.do(path))
        assert again.how == "done", f"{note}; again: {again.said}"
        assert operation.state(path) == operation.after, note
    elif (index / "CURRENT").exists():
        again = attempt(lambda: act(("remove", operation.after[:1], None), index))
        assert again.how == "done", f"{note}; then: {again.said}"
        assert state(index) == operation.after[1:], note
    assert not list(path.rglob(f"*{PARTIAL}")), note
    if (index / "CURRENT").exists():
        known = {*stood, *(change.generation for change in read_current(index)[1].history)}
        assert set(names_of(index)) <= known, f"{note}: one of {names_of(index)} never was the current one"
    if proven is not None:
        proven[left] = found
    return ending


@cache
def _before(start: Path, state: Callable[[Path], list[str]]) -> list[str]:
    return state(start)


def tree_of(path: Path) -> Tree:
    """Return all that is in a folder: names, and of each file its content, or which file it is if it is one that has another name.

    Of a lock only whether somebody is named in it: each process has another number.
    """
    found = list[tuple[object, ...]]()
    for folder, _, files in os.walk(path):
        found.append((folder,))
        for name in files:
            file = Path(folder, name)
            at = file.lstat()
            what = (at.st_ino, at.st_size, at.st_mtime_ns) if at.st_nlink > 1 else (file.read_bytes(),)
            found.append((str(file), at.st_size > 0) if name == ".lock" else (str(file), *what))
    return frozenset(found)


class Still(datetime):
    """A clock that stands."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Still":
        """Return the one time."""
        return cls(2026, 1, 1, tzinfo=tz)


class Trials:
    """Tries faults on an operation, one after another: on a copy of what it begins with, the last one where nothing became of it.

    Args:
        operation: what is done.
        home: folder of copies.
        number: of the process that tries.
    """

    def __init__(self, operation: Operation, home: Path, number: int) -> None:
        self._operation, self._home, self._number = operation, home, number
        self._proven = dict[Tree, list[str]]()
        self._fresh: Tree | None = None
        vars(generation).update(datetime=Still)  # so that what is done twice leaves the same, histories included

    def __call__(self, fault: Fault) -> Ending:
        """Try one; as `disturbed`."""
        path = self._home / f"copy-{self._number}"
        if self._fresh is None or tree_of(path) != self._fresh:
            self._fresh = tree_of(copy_of(self._operation, self._home, self._number))
        return disturbed(self._operation, path, fault, self._proven)


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
    home: Path, kills: int, errors: int, seed: int, only: str = "", seconds: float = math.inf, jobs: int = 1
) -> Tally:
    """Disturb every operation, or what there is time for."""
    end, rng, tally = time.monotonic() + seconds, random.Random(seed), Tally()
    for name, operation in operations(home).items():
        if only not in name:
            continue
        path = copy_of(operation, home)
        operation.do(path)  # what is loaded for it is there before the forks
        cheaper_forks()
        path = copy_of(operation, home)
        whole = attempt(partial(operation.do, path))
        if whole.how != "done" or operation.state(path) != operation.after:
            tally.bad.append({"operation": name, "why": f"undisturbed: {whole.how} {whole.said}"})
            continue
        if wrong := disorder(whole.steps, path):
            tally.bad.append({"operation": name, "why": wrong})
        count = len(whole.steps)
        faults = [("kill", Fault(at)) for at in _chosen(count, kills, rng)]
        faults += [("EIO", Fault(at, errno.EIO)) for at in _chosen(count, errors, rng)]
        faults += [("ENOSPC", Fault(at, errno.ENOSPC, lasting=True)) for at in _chosen(count, errors, rng)]
        tally.add(tried(name, faults, partial(Trials, operation, home), end, jobs))
        tally.counts.update(operations=1, steps=count)
    return tally


def main() -> None:
    """Run a campaign and print what it counted as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--errors", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of an operation's name")
    parser.add_argument("--seconds", type=float, default=math.inf, help="after which no more is begun")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the faults of an operation")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = f"{folder}/state"
        tally = campaign(
            Path(folder), chosen.kills, chosen.errors, chosen.seed, chosen.only, chosen.seconds, chosen.jobs
        )
    sys.stdout.write(json.dumps({"counts": dict(sorted(tally.counts.items())), "bad": tally.bad}) + "\n")
    sys.exit(bool(tally.bad))


if __name__ == "__main__":
    main()
