"""Seconds of `encode` over shards that are all done.

usage: python -m benchmarks.cluster.resume [--shards 10000] [--engine local] [--out URL]

The shards are tars of one picture each, encoded first by the built-in model.
"""

import argparse
import tempfile
import time
from pathlib import Path

from encoder.images.expand import expand
from encoder.model.builtin import BUILTIN
from encoder.stream.job import encode
from encoder.stream.settings import EncodeEngine, EncodeSettings
from tests.support.pictures import encoded, write_tar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--engine", type=EncodeEngine, default=EncodeEngine.LOCAL)
    parser.add_argument("--folder", type=Path, help="where shards and codes of an earlier run are")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="resume-"))
    picture = encoded(1)
    for number in range(arguments.shards):
        path = folder / f"shards/part-{number:05d}.tar"
        if not path.exists():
            write_tar(path, [(f"{number:05d}.jpg", picture)])
    shards = expand([str(folder / "shards")])
    for what in ("first", "again", "again"):
        started = time.monotonic()
        engine = EncodeEngine.LOCAL if what == "first" else arguments.engine
        report = encode(shards, BUILTIN, folder / "codes", EncodeSettings(device="cpu", engine=engine))
        print(
            f"{what}: {report.encoded:,} coded, {report.skipped:,} kept, {time.monotonic() - started:.1f} s", flush=True
        )


if __name__ == "__main__":
    main()
