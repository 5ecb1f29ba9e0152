"""Operations that get files, handles or memory of so much and no more: one line, never a signal, and the index stays as it was.

python -m tests.faults.limits --each 12
"""

import argparse
import json
import math
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Final

from tests.faults.operations import copy_of, operations
from tests.faults.points import disturbed
from tests.faults.steps import Fault

LIMITS: Final = {
    "file size": (resource.RLIMIT_FSIZE, 4096),
    "handles": (resource.RLIMIT_NOFILE, 60),
    "memory": (resource.RLIMIT_AS, 64 << 20),
}
"""What is limited, and below what: with as much each operation completes."""


def campaign(
    home: Path, each: int, seed: int, seconds: float, only: str = ""
) -> tuple[Counter[str], list[dict[str, object]]]:
    """Give every operation too little, so many times of each kind; return what was counted, and what went wrong."""
    end, rng = time.monotonic() + seconds, random.Random(seed)
    counts, bad = Counter[str](), list[dict[str, object]]()
    chosen = {name: operation for name, operation in operations(home).items() if only in name}
    for number in range(each):
        for name, operation in chosen.items():
            for kind, (which, most) in LIMITS.items():
                if time.monotonic() > end:
                    return counts, bad
                amount = 0 if number == 0 else int(most * rng.random() ** 2)
                try:
                    ending = disturbed(operation, copy_of(operation, home), Fault(-1, limit=(which, amount)))
                    assert ending.how == "done" or ending.said.startswith(("no-resources", "write-failed")), ending.said
                    counts[kind] += 1
                    counts[f"{kind}: {ending.how}"] += 1
                except Exception:  # noqa: BLE001  the next ones are still of interest
                    why = traceback.format_exc().splitlines()[-30:]
                    bad.append({"operation": name, "limit": kind, "amount": amount, "why": why})
    return counts, bad


def main() -> None:
    """Run a campaign and print what it counted as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of an operation's name")
    parser.add_argument("--seconds", type=float, default=math.inf, help="after which no more is begun")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = f"{folder}/state"
        counts, bad = campaign(Path(folder), chosen.each, chosen.seed, chosen.seconds, chosen.only)
    sys.stdout.write(json.dumps({"counts": dict(sorted(counts.items())), "bad": bad}) + "\n")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
