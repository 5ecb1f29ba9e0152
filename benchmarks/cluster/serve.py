"""Queries through slices held by a Ray cluster of this machine, beside the service that holds the index itself.

    python -m benchmarks.cluster.serve --rows 1000000 --segments 8

One index of drawn codes in several segments, flat. All services run at once and are asked in turn, one query at a time, by one
connection each, so that whatever else this machine does is shared by all. Milliseconds of the client: median and 99th percentile.
"""

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.living import FINGERPRINT, draw, numbered
from benchmarks.service.load import bodies, say
from encoder.runtime.publish import exclusive
from indexer.index import Index
from indexer.settings import BuildSettings, Dedupe, IndexKind
from indexer.storage.generation import next_generation
from indexer.storage.manifest import Manifest
from indexer.storage.row_source import ArrayRows
from indexer.storage.segment_writer import write_segment
from tests.support.services import Service, serving

WARM = 100
"""Queries before those that count."""


def build(index: Path, rows: int, segments: int) -> None:
    """Write the index of arrays."""
    settings = BuildSettings(kind=IndexKind.FLAT, dedupe=Dedupe.OFF)
    with exclusive(index), next_generation(index) as new:
        records = [
            write_segment(
                new.folder / new.segment_name(),
                [ArrayRows(f"drawn{at}", numbered(f"base{at}", rows // segments), draw(rows // segments, at), {})],
                [],
                settings,
                {},
                lambda *_: None,
            )
            for at in range(segments)
        ]
        new.publish(Manifest(FINGERPRINT, "fp32", None, records, {}, dedupe=Dedupe.OFF), "build", added=rows, keep=1)


class Asker:
    """A connection that stays open."""

    def __init__(self, service: Service) -> None:
        self._connection = HTTPConnection("127.0.0.1", service.port, timeout=60)

    def ask(self, body: dict[str, Any]) -> tuple[float, Any]:
        """Return milliseconds, and the hits."""
        sent = json.dumps(body)
        began = time.perf_counter()
        self._connection.request("POST", "/v1/search", sent, {"Content-Type": "application/json"})
        answer = self._connection.getresponse().read()
        taken = 1e3 * (time.perf_counter() - began)
        return taken, json.loads(answer)["answers"][0]["hits"]


def compare(services: dict[str, Service], asked: Sequence[dict[str, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """Return milliseconds by service, of the same queries in turn; all have to answer the same."""
    askers = {name: Asker(service) for name, service in services.items()}
    taken: dict[str, list[float]] = {name: [] for name in services}
    for number, body in enumerate(asked):
        hits = None
        for name, asker in askers.items():
            ms, found = asker.ask(body)
            if hits is not None and found != hits:
                raise SystemExit(f"{name} answers {body} otherwise")
            hits = found
            if number >= WARM:
                taken[name].append(ms)
    return {name: np.array(values) for name, values in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--segments", type=int, default=8)
    parser.add_argument("--slices", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--queries", type=int, default=1000)
    given = parser.parse_args()
    with TemporaryDirectory() as scratch, ExitStack() as stack:
        path = Path(scratch) / "index"
        build(path, given.rows, given.segments)
        services = {"local": stack.enter_context(serving(path, "--no-model"))}
        for slices in given.slices:
            options = ("--no-model", "--engine", "ray", "--slices", slices)
            services[f"ray, {slices}"] = stack.enter_context(serving(path, *options))
        index = Index(path)
        for kind in ("code", "key"):
            taken = compare(services, bodies(index, kind)[: WARM + given.queries])
            for name, ms in taken.items():
                p50, p99 = np.percentile(ms, [50, 99])
                say(
                    rows=given.rows, by=kind, service=name, p50=round(p50, 2), p99=round(p99, 2),
                    added=round(p50 - float(np.median(taken["local"])), 2),
                )  # fmt: skip
        memory = {name: round(service.memory / 1e6) for name, service in services.items()}
        say(memory_mb=memory)


if __name__ == "__main__":
    main()
