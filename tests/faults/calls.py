"""Every system call of every operation, as the one that fails, does half of its work, meets a full disk, or is the last one before a kill.

    python -m tests.faults.calls --each 5

`points.py` ends the steps that the program names. Here the calls themselves are counted, of Python and of the libraries, reading ones
included: `failing.c` is compiled with `cc` and preloaded. What must hold is the same. `--each N` does N things to each operation (0: all
there are), every kind of them as likely: a kind is the name of a call and what happens to it. Encoding is among the operations; what it
finished is not done again.
"""

import argparse
import errno
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from tests.faults.operations import Operation, copy_of, operations
from tests.faults.points import Trials
from tests.faults.shares import Tally, cheaper_forks, tried
from tests.faults.steps import Ending, Fault, attempt

SOURCE: Final = Path(__file__).with_name("failing.c")
PRELOADED: Final = "HASHGRAIN_PRELOADED"
ROOM: Final = frozenset({"create", "write", "mkdir", "link", "rename", "fsync", "truncate"})
"""Calls that a full disk refuses; as in `failing.c`."""
CHANGES: Final = ROOM | {"close", "remove"}
"""Calls before which a kill leaves something else than before the call ahead of them."""
PARTS: Final = frozenset({"read", "write"})
PICTURES: Final = ("encode", "fit", "items", "item gone")
"""Operations on pictures."""
TrialsOf = Callable[[Operation, Path, int], Callable[[Fault], Ending]]


def faults_of(steps: list[tuple[str, str]], home: Path) -> dict[str, list[Fault]]:
    """Return what may happen to an operation of these calls, by kind."""
    found = dict[str, list[Fault]]()
    for at, (name, _) in enumerate(steps):
        found.setdefault(f"EIO at {name}", []).append(Fault(at, errno.EIO, calls=home))
        if name in ROOM:
            found.setdefault(f"ENOSPC from {name} on", []).append(Fault(at, errno.ENOSPC, lasting=True, calls=home))
        if name in CHANGES:
            found.setdefault(f"killed at {name}", []).append(Fault(at, calls=home))
        if name in PARTS:
            found.setdefault(f"half of {name}", []).append(Fault(at, part=True, calls=home))
    return found


def campaign(
    home: Path,
    chosen: dict[str, tuple[Operation, TrialsOf]],
    each: int,
    seed: int,
    kinds: str = "",
    seconds: float = math.inf,
    jobs: int = 1,
) -> Tally:
    """Disturb every operation, or what there is time for."""
    end = time.monotonic() + seconds
    rng, tally = random.Random(seed), Tally()
    for name in rng.sample(sorted(chosen), len(chosen)):
        operation, trials = chosen[name]
        operation.do(copy_of(operation, home))  # what is loaded for it is there before the forks
        cheaper_forks()
        whole = attempt(partial(operation.do, copy_of(operation, home)), Fault(-1, calls=home))
        if whole.how != "done" or not whole.steps:
            why = f"undisturbed: {whole.how} {whole.said}, {len(whole.steps)} calls"
            tally.bad.append({"operation": name, "why": why})
            continue
        of_kind = {kind: faults for kind, faults in faults_of(whole.steps, home).items() if kinds in kind}
        faults = [(kind, fault) for kind, of_it in of_kind.items() for fault in of_it]
        if each:
            faults = [(kind, rng.choice(of_kind[kind])) for kind in rng.choices(list(of_kind), k=each)]

        tally.add(tried(name, faults, partial(trials, operation, home), end, jobs))
        tally.counts.update(operations=1, calls=len(whole.steps))
    return tally


def preloaded(folder: Path) -> dict[str, str]:
    """Return the environment of a process before which the library stands, compiled into a folder."""
    library = folder / "failing.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    return {**os.environ, "LD_PRELOAD": str(library), PRELOADED: "yes"}


def main() -> None:
    """Run a campaign and print what it counted as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="operations, with commas")
    parser.add_argument("--kinds", default="", help="part of the name of a kind: EIO at read")
    parser.add_argument("--seconds", type=float, default=math.inf, help="after which no more is begun, of each half")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the faults of an operation")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if PRELOADED not in os.environ:
            if shutil.which("cc") is None:
                sys.stdout.write(json.dumps({"not tried": "there is no C compiler, cc"}) + "\n")
                return
            again = [sys.executable, "-m", "tests.faults.calls", *sys.argv[1:]]
            sys.exit(subprocess.run(again, env=preloaded(Path(folder)), check=False).returncode)
        os.environ["XDG_STATE_HOME"] = f"{folder}/state"
        tally = _all(Path(folder), chosen)
    sys.stdout.write(json.dumps({"counts": dict(sorted(tally.counts.items())), "bad": tally.bad}) + "\n")
    sys.exit(bool(tally.bad))


def _all(home: Path, asked: argparse.Namespace) -> Tally:
    """Disturb the operations without pictures, and then, once torch is loaded, which makes forks dearer, those with pictures."""
    names, tally = set(asked.only.split(",")) - {""}, Tally()

    def those(chosen: dict[str, tuple[Operation, TrialsOf]]) -> Tally:
        some = {name: each for name, each in chosen.items() if not names or name in names}
        return campaign(home, some, asked.each, asked.seed, asked.kinds, asked.seconds, asked.jobs)

    tally.add(those({name: (operation, Trials) for name, operation in operations(home).items()}))
    if not names or names & set(PICTURES):
        from tests.faults.kills import EncodingTrials, encoding
        from tests.faults.pictures import pictured

        tally.add(those({"encode": (encoding(home), EncodingTrials)}))
        tally.add(those({name: (operation, Trials) for name, operation in pictured(home).items()}))
    return tally


if __name__ == "__main__":
    main()
