"""kill -9 at random moments of encoding, building, adding, removing, compacting: all that is published is whole, and a rerun completes.

    python -m tests.faults.kills --count 60

Of encoding, what was finished before the kill is not done again.
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
from functools import partial
from pathlib import Path

from encoder.codes.file import open_codes
from encoder.errors import HashgrainError, Reason
from encoder.images.expand import expand
from encoder.model.builtin import BUILTIN
from encoder.runtime.publish import PARTIAL
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings
from tests.faults.operations import Operation, copy_of, operations, state_of_codes
from tests.faults.points import disturbed
from tests.faults.steps import Ending, Fault, attempt
from tests.support.pictures import encoded, write_tar

SHARDS, PICTURES = 4, 6
KILLED = ("encode", "build", "build anew", "add", "remove", "compact")


def encoding(home: Path) -> Operation:
    """Write shards, and return their encoding."""
    for shard in range(SHARDS):
        first = shard * PICTURES
        members = [(f"pic-{number:03d}.jpg", encoded(number)) for number in range(first, first + PICTURES)]
        write_tar(home / f"shards/part-{shard}.tar", members)
    keys = [f"pic-{number:03d}" for number in range(SHARDS * PICTURES)]
    return Operation(partial(_encode, home / "shards"), home / "nothing", _coded, keys)


def _encode(shards: Path, path: Path) -> None:
    report = encode(expand([str(shards)]), BUILTIN, path, EncodeSettings(batch=4, workers=1))
    if report.damaged:  # an exit code of 1
        raise HashgrainError(Reason.SHARD_DAMAGED, str(report.damaged))


def _coded(path: Path) -> list[str]:
    return sorted(state_of_codes(path))


def killed_encoding(operation: Operation, path: Path, fault: Fault) -> Ending:
    """Kill an encoding, and do it once more; what should not be is an `AssertionError`."""
    ending = attempt(partial(operation.do, path), fault)
    note = f"{fault}: {ending.how} {ending.said}, last steps {ending.steps[-3:]}"
    assert ending.how != "failed", note
    keys = operation.state(path)
    assert len(keys) == len(set(keys)), note
    assert set(keys) <= set(operation.after), note
    finished = {each: each.stat().st_ino for each in path.glob("*.h5") if not _is_of_damage(each)}
    assert len(keys) >= PICTURES * len(finished), note
    again = attempt(partial(operation.do, path))
    assert again.how == "done", f"{note}; again: {again.said}"
    assert operation.state(path) == operation.after, note
    assert {each: each.stat().st_ino for each in finished} == finished, note
    assert not list(path.glob(f"*{PARTIAL}")), note
    return ending


def _is_of_damage(path: Path) -> bool:
    with open_codes(path) as file:
        return bool(file.header.shard.damage)


class EncodingTrials:
    """Tries faults on an encoding, one after another; as `points.Trials`."""

    def __init__(self, operation: Operation, home: Path, number: int) -> None:
        self._operation, self._home, self._number = operation, home, number

    def __call__(self, fault: Fault) -> Ending:
        """Try one; as `killed_encoding`."""
        return killed_encoding(self._operation, copy_of(self._operation, self._home, self._number), fault)


def campaign(home: Path, count: int, seed: int, seconds: float) -> tuple[Counter[str], list[dict[str, object]]]:
    """Kill so many times, or as often as there is time for; return what was counted, and what went wrong."""
    end, rng = time.monotonic() + seconds, random.Random(seed)
    counts, bad = Counter[str](), list[dict[str, object]]()
    chosen = operations(home) | {"encode": encoding(home)}
    took = dict.fromkeys(KILLED, 0.0)
    while counts["killed"] < count and time.monotonic() < end:
        for name in KILLED:
            operation = chosen[name]
            path = copy_of(operation, home)
            if not took[name]:
                began = time.monotonic()
                attempt(partial(operation.do, path))
                took[name] = time.monotonic() - began
                continue
            fault = Fault(-1, after=rng.uniform(0.0, 1.0) * took[name])
            try:
                ending = (killed_encoding if name == "encode" else disturbed)(operation, path, fault)
                counts["killed" if ending.how == "killed" else "done before"] += 1
                counts[f"{ending.how} {name}"] += 1
            except Exception:  # noqa: BLE001  the next ones are still of interest
                bad.append({"operation": name, "why": traceback.format_exc().splitlines()[-6:]})
    return counts, bad


def main() -> None:
    """Run a campaign and print what it counted as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=math.inf, help="after which no more is begun")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = f"{folder}/state"
        counts, bad = campaign(Path(folder), chosen.count, chosen.seed, chosen.seconds)
    sys.stdout.write(json.dumps({"counts": dict(sorted(counts.items())), "bad": bad}) + "\n")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
