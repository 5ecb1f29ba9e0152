"""Whole commands, whose calls fail from the first import on, or which get few handles: none says that it is done when it is not.

    python -m tests.faults.starts --each 10

`calls.py` forks processes that have loaded all they need. Here each run is a command line of its own, and a call of any file counts: of
Python's modules and libraries, too. Before our first line runs, nobody but Python can say anything: a traceback is counted, and is not wrong.
"""

import argparse
import errno
import json
import mmap
import os
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.faults.calls import faults_of, preloaded
from tests.faults.operations import OUT, Operation, copy_of, operations
from tests.faults.shares import Tally
from tests.faults.steps import ROOM, SECONDS, Ending, Fault, endings_number, notes_in

HANDLES: Final = 40
"""Beyond those that a process begins with; a command needs about 20."""
START: Final = """
import ctypes, mmap, resource, runpy, sys
notes, at, ending, error, room, handles, *sys.argv = sys.argv[1:]
with open(notes, "r+b") as file:
    memory = mmap.mmap(file.fileno(), 0)
address = ctypes.byref(ctypes.c_char.from_buffer(memory))
ctypes.CDLL(None).faults_arm(b"", ctypes.c_long(int(at)), int(ending), int(error), address, ctypes.c_long(int(room)))
if int(handles):
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(handles), int(handles)))
runpy.run_module("indexer", run_name="__main__", alter_sys=True)
"""


def commands(home: Path) -> dict[str, Callable[[Path], list[object]]]:
    """Return the arguments of a command for some operations."""
    return {
        "add files": lambda path: ["add", home / "rows/rows.h5", "--index", path],
        "build anew": lambda path: ["build", home / "codes/more.h5", "--out", path],
        "export npy": lambda path: ["export", path / OUT, "--index", home / "many"],
    }


def started(arguments: list[object], fault: Fault, environment: dict[str, str], folder: Path) -> Ending:
    """Run a command in a process of its own, armed before its first import."""
    notes = folder / "notes"
    notes.write_bytes(b"")
    os.truncate(notes, mmap.PAGESIZE + ROOM)
    handles = fault.limit[1] if fault.limit else 0
    words = [notes, fault.at, endings_number(fault), fault.error or 0, ROOM, handles, "indexer", *arguments]
    command = [sys.executable, "-c", START, *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS)
    steps, _ = notes_in(notes.read_bytes())
    if done.returncode < 0:
        return Ending("killed" if fault.error is None and not fault.limit else "failed", str(done), steps)
    how = "done" if done.returncode == 0 else "traceback" if "Traceback" in done.stderr else "refused"
    return Ending(how, done.stderr[-2000:], steps)


def held(operation: Operation, path: Path, ending: Ending, again: Callable[[], Ending]) -> None:
    """Hold what is there against what was said, and run the command once more; what should not be is an `AssertionError`."""
    note = f"{ending.how} {ending.said}, last calls {ending.steps[-3:]}"
    assert ending.how != "failed", note
    found = operation.state(path)
    assert found in (operation.state(operation.start), operation.after), note
    assert ending.how != "done" or found == operation.after, note
    if found != operation.after:
        second = again()
        assert second.how == "done", f"{note}; again: {second.said}"
        assert operation.state(path) == operation.after, note


def campaign(home: Path, each: int, seed: int, environment: dict[str, str]) -> Tally:
    """Start each command so many times with a call that fails, and as often with few handles."""
    rng, tally, chosen = random.Random(seed), Tally(), operations(home)
    for name, arguments in commands(home).items():
        operation = chosen[name]

        def start(path: Path, fault: Fault, arguments: Callable[[Path], list[object]] = arguments) -> Ending:
            return started(arguments(path), fault, environment, home)

        whole = start(copy_of(operation, home), Fault(-1, error=errno.EIO))
        tally.counts.update(operations=1, calls=len(whole.steps))
        if whole.how != "done":
            tally.bad.append({"operation": name, "why": whole.said})
            continue
        of_kind = faults_of(whole.steps, home)
        drawn = [(kind, rng.choice(of_kind[kind])) for kind in rng.choices(list(of_kind), k=each)]
        drawn += [
            ("few handles", Fault(-1, error=errno.EMFILE, limit=(resource.RLIMIT_NOFILE, 3 + rng.randrange(HANDLES))))
            for _ in range(each)
        ]
        for kind, fault in drawn:
            path = copy_of(operation, home)
            ending = start(path, fault)
            tally.counts.update((kind, ending.how))
            try:
                held(operation, path, ending, lambda: start(path, Fault(-1, error=errno.EIO)))  # noqa: B023  called at once
            except AssertionError as err:
                tally.bad.append({"operation": name, "kind": kind, "fault": str(fault), "why": str(err)})
    return tally


def main() -> None:
    """Run a campaign and print what it counted as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = f"{folder}/state"
        environment = preloaded(Path(folder)) | {"PYTHONDONTWRITEBYTECODE": "1"}
        tally = campaign(Path(folder), chosen.each, chosen.seed, environment)
    sys.stdout.write(json.dumps({"counts": dict(sorted(tally.counts.items())), "bad": tally.bad}) + "\n")
    sys.exit(bool(tally.bad))


if __name__ == "__main__":
    main()
