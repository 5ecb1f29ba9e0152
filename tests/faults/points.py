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
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from encoder.codes.file import CodeFileWriter, list_code_files, open_codes
from encoder.codes.header import CodeHeader, ShardRecord
from encoder.images.duplicates import digest_of
from encoder.images.shards import ShardKind
from encoder.runtime.publish import PARTIAL, exclusive
from indexer.build import build
from indexer.index import Index
from indexer.relocate import Move, relocate
from indexer.settings import BuildSettings, Dedupe, IndexKind, OnDuplicate, TuneSettings
from indexer.storage.manifest import read_current
from indexer.tune import tune
from indexer.verify import verify
from tests.faults.model import (
    FINGERPRINT,
    HOW,
    KEYS,
    LEVELS,
    Change,
    Model,
    Row,
    Rows,
    act,
    build_of,
    codes_of,
    keys_of,
    names_of,
)
from tests.faults.steps import Ending, Fault, attempt

ROWS: Final[Rows] = {key: Row((number % 3, number % 2), number % 5) for number, key in enumerate(KEYS[:20])}
MORE: Final[Rows] = {key: Row((number % 2, number % 3), number % 5) for number, key in enumerate(KEYS[15:30])}
HISTORY: Final[tuple[Change, ...]] = (("add", MORE, OnDuplicate.REPLACE), ("remove", KEYS[10:18], None))
"""After which each change below has something to do."""
CHANGES: Final[dict[str, Change]] = {
    "add": ("add", {key: Row((1, 1), 2) for key in KEYS[25:]}, OnDuplicate.REPLACE),
    "remove": ("remove", KEYS[:7], None),
    "remove where": ("where", 3, None),
    "compact": ("compact", True, 16),
    "rollback": ("rollback", -1, None),
    "gc": ("gc", 1, None),
}


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that is done to a folder."""

    do: Callable[[Path], object]
    start: Path
    """What the folder is a copy of."""
    state: Callable[[Path], list[str]]
    """Returns the keys in the folder, after proof that all that is published there is whole."""
    after: list[str]
    """Keys, once it is done."""


def operations(home: Path) -> dict[str, Operation]:
    """Write what the operations begin with, and return them by name."""
    (home / "codes").mkdir()
    write_codes(home / "codes/more.h5", MORE)
    codes, lists = (
        list_code_files([home / "codes"]),
        BuildSettings(IndexKind.IVF, nlist=3, overwrite=True, dedupe=Dedupe.ON),
    )
    build(codes, home / "one", BuildSettings(IndexKind.FLAT, dedupe=Dedupe.OFF))
    model = Model(ROWS)
    build_of(home / "many", ROWS, HOW[1])
    model.published(home / "many")
    for change in HISTORY:
        rows = model.then(change, home / "many")
        assert rows is not None
        act(change, home / "many")
        model.rows = rows
        model.published(home / "many")
    (home / "nothing").mkdir()
    found = {
        name: Operation(partial(act, change), home / "many", state, list(after))
        for name, change in CHANGES.items()
        for after in [model.then(change, home / "many")]
        if after is not None
    }
    tuned, moved = TuneSettings(levels=LEVELS[:1], k=3, nlists=(3,)), [Move.parse("/nowhere=/elsewhere")]
    return found | {
        "build": Operation(lambda path: build(codes, path, lists), home / "many", state, list(MORE)),
        "build anew": Operation(lambda path: build(codes, path, lists), home / "nothing", state, list(MORE)),
        "tune": Operation(lambda path: tune(path, tuned, {}), home / "one", state, list(MORE)),
        "relocate": Operation(lambda path: relocate(path, moved), home / "one", state, list(MORE)),
        "code file": Operation(_code_file, home / "nothing", state_of_codes, list(MORE)),
    }


def _code_file(path: Path) -> None:
    with exclusive(path):
        write_codes(path / "more.h5", MORE)


def write_codes(path: Path, rows: Rows) -> None:
    """Write a code file."""
    codes = codes_of(rows)
    bits = {level: 8 * each.shape[1] for level, each in codes.items()}
    record = ShardRecord(path.stem, ShardKind.FILES, "/nowhere", 0, "0" * 64, "", None, "")
    digests = b"".join(digest_of(key.encode()) for key in rows)
    with CodeFileWriter(path.parent, bits) as writer:
        writer.add_rows(list(rows), np.zeros((len(rows), 2), np.uint64), digests, codes)
        writer.finish(path, CodeHeader(FINGERPRINT, "fp32", bits, record, 0, 0, 0, 0))


def state(path: Path) -> list[str]:
    """Return the keys of an index that is proven to be whole; none where there is no index."""
    return keys_of(verify(path, lambda *_: None)) if (path / "CURRENT").exists() else []


def state_of_codes(path: Path) -> list[str]:
    """Return the keys of the code files of a folder, each proven to be whole."""
    keys = list[str]()
    for each in path.glob("*.h5"):
        with open_codes(each) as file:
            keys += list(file.keys())
    return keys


def disturbed(operation: Operation, path: Path, fault: Fault) -> Ending:
    """Do an operation with a fault, then once more without; what should not be is an `AssertionError`."""
    before = operation.state(path)
    reader = Index(path) if (path / "CURRENT").exists() else None
    was, stood = _pointer(path), names_of(path)
    ending = attempt(lambda: operation.do(path), fault)
    note = f"{fault}: {ending.how} {ending.said}, last steps {ending.steps[-3:]}"
    assert ending.how != "failed", note
    was_killed = fault.error is None and 0 <= fault.at < len(ending.steps)
    assert ending.how != "done" or not was_killed, note
    found, changed = operation.state(path), _pointer(path) != was
    assert found in (before, operation.after), note
    assert ending.how != "done" or found == operation.after, note
    assert reader is None or changed or found == before, note
    assert reader is None or keys_of(reader) == before, note
    if not changed:  # else a rerun is another change
        again = attempt(lambda: operation.do(path))
        assert again.how == "done", f"{note}; again: {again.said}"
        assert operation.state(path) == operation.after, note
    elif (path / "CURRENT").exists():
        again = attempt(lambda: act(("add", {"last": Row((0, 0), 0)}, OnDuplicate.REPLACE), path))
        assert again.how == "done", f"{note}; then: {again.said}"
        assert state(path) == [*operation.after, "last"], note
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

    def copy(operation: Operation) -> Path:
        shutil.rmtree(home / "copy", ignore_errors=True)
        return Path(shutil.copytree(operation.start, home / "copy"))

    for name, operation in operations(home).items():
        if only not in name:
            continue
        path = copy(operation)
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
                ending = disturbed(operation, copy(operation), fault)
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
