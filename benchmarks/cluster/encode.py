"""Images per second of `encode` on a cluster of this machine alone, beside those of the same machine without Ray.

usage: python -m benchmarks.cluster.encode MODEL SHARDS... [--rounds 3]

Both take turns in one run; medians count. The rate is that of the report: it includes the start of the actors, whose process
imports torch, but not that of the cluster, which is there when others have started it.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from encoder.images.expand import expand
from encoder.runtime.cluster import connected
from encoder.stream.job import encode
from encoder.stream.settings import EncodeEngine, EncodeSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("shards", nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    shards = expand(arguments.shards)
    rates: dict[EncodeEngine, list[float]] = {engine: [] for engine in EncodeEngine}
    for _ in range(arguments.rounds):
        bytes_of = {}
        for engine in EncodeEngine:
            with tempfile.TemporaryDirectory() as folder, connected(None):
                started = time.monotonic()
                settings = EncodeSettings(device="cpu", engine=engine)
                report = encode(shards, arguments.model, Path(folder), settings)
                seconds = time.monotonic() - started
                bytes_of[engine] = {path.name: path.read_bytes() for path in Path(folder).glob("*.h5")}
            rates[engine].append(report.encoded / report.seconds)
            print(f"{engine:5} {rates[engine][-1]:8.1f} images/s, {seconds:6.1f} s in all", flush=True)
        if bytes_of[EncodeEngine.LOCAL] != bytes_of[EncodeEngine.RAY]:
            raise SystemExit("the code files differ")
    local, ray = (median(rates[engine]) for engine in EncodeEngine)
    print(
        f"{len(shards)} shards: local {local:.1f}, ray {ray:.1f} images/s, {ray / local:.1%}; the code files are equal"
    )


if __name__ == "__main__":
    main()
