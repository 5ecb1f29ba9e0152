"""Workers killed and machines removed at random moments of encoding on a cluster: the same bytes and counts as on one machine.

    python -m tests.faults.cluster --count 20

Takes the extra `ray`. All machines are processes of this one.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from encoder.images.expand import expand
from encoder.model.builtin import BUILTIN
from encoder.stream.job import encode
from encoder.stream.report import EncodeReport
from encoder.stream.settings import EncodeEngine, EncodeSettings
from tests.support.clusters import add_node, coders, three_nodes
from tests.support.pictures import encoded, write_tar

SHARDS, PICTURES = 9, 120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    wrong, told = list[str](), {"worker": 0, "machine": 0}
    with tempfile.TemporaryDirectory() as home, three_nodes() as cluster:
        root = Path(home)
        for shard in range(SHARDS):
            members = [(f"pic-{number:03d}.jpg", encoded(shard * 7 + number)) for number in range(PICTURES)]
            write_tar(root / f"shards/part-{shard}.tar", members)
        expected = _coded(root, root / "local", EncodeEngine.LOCAL)
        started = time.monotonic()
        _coded(root, root / "calm", EncodeEngine.RAY)
        seconds = time.monotonic() - started
        for number in range(arguments.count):
            what = ("worker", "machine")[number % 2]
            thread = threading.Thread(target=_strike, args=(cluster, what, random.uniform(0.2, 1.0) * seconds))
            thread.start()
            try:
                if _coded(root, root / f"run-{number}", EncodeEngine.RAY) != expected:
                    wrong.append(f"run {number}, {what} lost: other bytes or counts")
            except Exception as err:  # noqa: BLE001  counted and told
                wrong.append(f"run {number}, {what} lost: {err!r}")
            thread.join()
            told[what] += 1
            while len(cluster.list_all_nodes()) < 3:
                add_node(cluster)
            sys.stdout.write(f"{number} {what} {len(wrong)} wrong\n")
    sys.stdout.write(
        json.dumps({"lost": told, "seconds of a calm run": round(seconds, 1), "wrong": wrong}, indent=1) + "\n"
    )
    sys.exit(bool(wrong))


def _coded(root: Path, out: Path, engine: EncodeEngine) -> tuple[dict[str, bytes], tuple[int, ...]]:
    """Encode, and return the code files and the counts."""
    settings = EncodeSettings(batch=8, workers=1, device="cpu", engine=engine)
    report = encode(expand([str(root / "shards")]), BUILTIN, out, settings)
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.h5"))}, _counts(report)


def _counts(report: EncodeReport) -> tuple[int, ...]:
    return report.shards, report.seen, report.rows, report.encoded, report.bytes, report.skipped


def _strike(cluster: Any, what: str, seconds: float) -> None:
    """Kill a worker, or a machine other than the first, which holds the cluster together."""
    time.sleep(seconds)
    if what == "machine":
        cluster.remove_node(random.choice(cluster.list_all_nodes()[1:]), allow_graceful=False)
        return
    until = time.monotonic() + seconds
    while not (found := coders()) and time.monotonic() < until:
        time.sleep(0.05)
    if found:
        with suppress(ProcessLookupError):  # it had just ended
            os.kill(random.choice(found), signal.SIGKILL)


if __name__ == "__main__":
    main()
