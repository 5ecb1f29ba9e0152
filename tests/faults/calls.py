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
import traceback
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Final

from tests.faults.kills import encoding, killed_encoding
from tests.faults.operations import copy_of, operations
from tests.faults.points import disturbed
from tests.faults.steps import Fault, attempt

SOURCE: Final = Path(__file__).with_name("failing.c")
PRELOADED: Final = "HASHGRAIN_PRELOADED"
ROOM: Final = frozenset({"create", "write", "mkdir", "link", "rename", "fsync", "truncate"})
"""Calls that a full disk refuses; as in `failing.c`."""
CHANGES: Final = ROOM | {"close", "remove"}
"""Calls before which a kill leaves something else than before the call ahead of them."""
PARTS: Final = frozenset({"read", "write"})


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
    home: Path, each: int, seed: int, only: str = "", kinds: str = "", seconds: float = math.inf
) -> tuple[Counter[str], list[dict[str, object]]]:
    """Disturb every operation, or what there is time for; return what was counted, and what went wrong."""
    end = time.monotonic() + seconds
    rng, counts, bad = random.Random(seed), Counter[str](), list[dict[str, object]]()
    chosen = operations(home) | {"encode": encoding(home)}
    for name in [only] if only else rng.sample(sorted(chosen), len(chosen)):
        operation = chosen[name]
        whole = attempt(partial(operation.do, copy_of(operation, home)), Fault(-1, calls=home))
        if whole.how != "done" or not whole.steps:
            bad.append({"operation": name, "why": f"undisturbed: {whole.how} {whole.said}, {len(whole.steps)} calls"})
            continue
        counts["operations"] += 1
        counts["calls"] += len(whole.steps)
        of_kind = {kind: faults for kind, faults in faults_of(whole.steps, home).items() if kinds in kind}
        everything = [(kind, fault) for kind, faults in of_kind.items() for fault in faults]
        drawn = [(kind, rng.choice(of_kind[kind])) for kind in rng.choices(list(of_kind), k=each)]
        for kind, fault in drawn if each else everything:
            if time.monotonic() > end:
                return counts, bad
            try:
                path = copy_of(operation, home)
                ending = (killed_encoding if name == "encode" else disturbed)(operation, path, fault)
                counts[kind] += 1
                counts[ending.how] += 1
            except Exception:  # noqa: BLE001  the next ones are still of interest
                why = traceback.format_exc().splitlines()[-6:]
                bad.append({"operation": name, "kind": kind, "step": whole.steps[fault.at], "why": why})
    return counts, bad


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
    parser.add_argument("--only", default="", help="an operation")
    parser.add_argument("--kinds", default="", help="part of the name of a kind: EIO at read")
    parser.add_argument("--seconds", type=float, default=math.inf, help="after which no more is begun")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if PRELOADED not in os.environ:
            if shutil.which("cc") is None:
                sys.stdout.write(json.dumps({"not tried": "there is no C compiler, cc"}) + "\n")
                return
            again = [sys.executable, "-m", "tests.faults.calls", *sys.argv[1:]]
            sys.exit(subprocess.run(again, env=preloaded(Path(folder)), check=False).returncode)
        os.environ["XDG_STATE_HOME"] = f"{folder}/state"
        counts, bad = campaign(Path(folder), chosen.each, chosen.seed, chosen.only, chosen.kinds, chosen.seconds)
    sys.stdout.write(json.dumps({"counts": dict(sorted(counts.items())), "bad": bad}) + "\n")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
