"""A service under everything that clients may do to it, while an honest one asks at a steady rate.

    python -m benchmarks.service.hostile

An index is built of drawn pictures, coded by the built-in model, and of 20,000 rows of drawn codes. `indexer serve` answers on it, with
a folder to write to. Each kind of harm (`attacks.py`), and thousands of requests that schemathesis draws from the OpenAPI document, is
a case. What has to be kept:

- answers are 4xx, or 429 and 503 with `Retry-After`; where a kind may be answered otherwise, its row says so. No 5xx else, by the
  service's own count;
- memory that is of no file grows by 50 MB at most, over what it was while the honest client was alone, at any moment;
- of the honest client every query by key and by code is answered, 99 of 100 within a second; photos may be told to come again.

`--only` runs some kinds, `--share` a part of each. One table at the end; the exit code is 1 when something was not kept.
"""

import argparse
import asyncio
import json
import os
import re
import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.service.attacks import JSON, KINDS, PICTURE, Target
from benchmarks.service.honest import Asking, Stream, asking, p99, share
from encoder.codes.file import CodeFileWriter, list_code_files, open_codes
from encoder.codes.header import CodeHeader, ShardRecord
from encoder.images.expand import expand
from encoder.images.shards import ShardKind
from encoder.levels import Level
from encoder.model.builtin import BUILTIN
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings
from indexer.build import build
from indexer.index import Index
from indexer.settings import BuildSettings
from pipelines.drawn.collection import draw_shards
from tests.support.services import Service, serving

ROWS = 20_000
MOST_MORE = 50e6
"""Bytes that memory may grow by."""
MOST_P99 = 1000.0
"""Milliseconds."""
LOOK = 0.02
"""Seconds between two looks at memory."""
SETTLE = 3.0
"""Seconds after a case until its memory counts as kept."""
EXEMPT = frozenset({"largest pictures allowed"})
"""What the service decodes by its own limits: the table shows what it costs, and `docs/SERVICE.md` says it."""
DRAWN, CASES = "requests drawn by schemathesis", 150
"""The kind that another program makes, and how many for each operation of the document."""
MAY_BE_DRAWN = frozenset({"200", "201", "204", "304"})
ANSWERS = re.compile(r'^hashgrain_requests_total\{endpoint="[^"]*",status="(\d+)"\} (\S+)$', re.M)


@dataclass(frozen=True)
class Row:
    """What came of one kind."""

    name: str
    seen: Counter[str]
    began: float
    ended: float
    peak: float
    """Bytes of memory, at most."""
    kept: float
    """Some seconds later."""


class Memory:
    """The memory of a service, looked at all the time."""

    def __init__(self, service: Service) -> None:
        self._service, self._stop = service, threading.Event()
        self.looks = list[tuple[float, int]]()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(LOOK):
            try:
                self.looks.append((time.monotonic(), self._service.memory))
            except (OSError, IndexError):  # it ended
                return

    def most(self, began: float, ended: float) -> float:
        """Return the bytes at most within a time."""
        return max((size for at, size in list(self.looks) if began <= at < ended), default=0)

    def stop(self) -> None:
        """End looking."""
        self._stop.set()
        self._thread.join()


def make_index(folder: Path) -> tuple[Path, list[bytes]]:
    """Build an index of drawn pictures and of drawn codes; return it, and pictures that are not in it."""
    shards, codes = folder / "shards", folder / "codes"
    draw_shards(shards, instances=3, views=4)
    encode(expand([str(shards / "train"), str(shards / "more")]), BUILTIN, codes, EncodeSettings())
    with open_codes(list_code_files([codes])[0]) as real:
        add_drawn_rows(codes, real.header)
    build(list_code_files([codes]), folder / "index", BuildSettings())
    return folder / "index", [path.read_bytes() for path in sorted((shards / "queries").rglob("*.jpg"))]


def add_drawn_rows(codes: Path, like: CodeHeader) -> None:
    """Write a code file of drawn codes, as if the same model had made them; its pictures are nowhere."""
    rng = np.random.default_rng(3)
    drawn = {level: rng.integers(0, 256, (ROWS, bits // 8), np.uint8) for level, bits in like.bits.items()}
    with CodeFileWriter(codes, like.bits) as file:
        keys = [f"drawn/{row:05d}" for row in range(ROWS)]
        file.add_rows(keys, np.ones((ROWS, 2), np.uint64), rng.bytes(16 * ROWS), drawn)
        shard = ShardRecord("drawn", ShardKind.TAR, "/nowhere/drawn.tar", 0, "0" * 64, "", None, "")
        file.finish(codes / "drawn.h5", CodeHeader(like.fingerprint, like.precision, {}, shard, 0, 0, 0, 0))


def honest_streams(index: Index, photos: list[bytes], rate: float) -> dict[str, Stream]:
    """Return what the honest client asks."""
    rows = np.random.default_rng(4).integers(0, index.ntotal, 500)
    codes = [code.tobytes().hex() for code in index.codes(Level.FINE, rows)]
    by_key = [json.dumps({"key": index.key(row), "level": "fine", "k": 10}).encode() for row in rows.tolist()]
    by_code = [json.dumps({"codes": {"fine": code}, "level": "fine", "k": 10}).encode() for code in codes]
    return {
        "key": Stream("/v1/search", JSON, by_key, rate),
        "code": Stream("/v1/search", JSON, by_code, rate),
        "photo": Stream("/v1/search?k=10", PICTURE, photos, rate / 5),
    }


def warm_up(service: Service, photo: bytes) -> None:
    """Have everything done once that loads something: writing, explaining, showing, a large answer."""
    own = {"Content-Type": PICTURE}
    added = json.loads(service.ask("POST", "/v1/items?key=warm", photo, own)[2])
    for method, path in (
        ("GET", f"/v1/thumbnails/{added['row']}"),
        ("GET", "/v1/explain?query=warm&hit=warm"),
        ("DELETE", "/v1/items/warm"),
        ("GET", "/v1/random"),
    ):
        if (status := service.ask(method, path)[0]) != 200:
            raise SystemExit(f"{method} {path}: {status}")
    service.search(key="drawn/00001", combine="each", k=2500, explain=True, histogram=True)


def counted(service: Service) -> Counter[str]:
    """Return the answers of a service by status, as it counts them itself."""
    seen = Counter[str]()
    for status, number in ANSWERS.findall(service.ask("GET", "/metrics")[2].decode()):
        seen[status] += int(float(number))
    return seen


def drawn_requests(service: Service, cases: int) -> Counter[str]:
    """Have schemathesis ask what the OpenAPI document says may be asked, and what it says may not."""
    before, url = counted(service), f"http://127.0.0.1:{service.port}"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--checks", "not_a_server_error"]
    command += ["--max-examples", str(cases), "--seed", "1", "--workers", "1", "--no-color", "--continue-on-failure"]
    command += [
        "--phases",
        "examples,coverage,fuzzing",
        "--generation-database",
        "none",
        "--suppress-health-check",
        "all",
    ]
    command += ["--request-timeout", "30"]
    with TemporaryDirectory() as scratch:
        said = subprocess.run(command, capture_output=True, text=True, check=False, cwd=scratch)
    (made,) = re.findall(r"(\d+) generated", said.stdout) or ["no"]
    print(f"schemathesis: {made} cases, {'passed' if not said.returncode else said.stdout[-3000:]}", file=sys.stderr)
    return counted(service) - before


async def attacked(target: Target, name: str, how_many: int) -> Counter[str]:
    """Do what a kind does."""
    return await KINDS[name].attack(target, how_many)


def run(service: Service, target: Target, memory: Memory, name: str, how_many: int) -> Row:
    """Let one kind happen."""
    began = time.monotonic()
    seen = drawn_requests(service, how_many) if name == DRAWN else asyncio.run(attacked(target, name, how_many))
    ended = time.monotonic()
    time.sleep(SETTLE)
    row = Row(name, seen, began, ended, memory.most(began, ended + SETTLE), service.memory)
    print(f"{name}: {dict(seen)}, {row.peak / 1e6:.0f} MB, {ended - began:.0f} s", file=sys.stderr, flush=True)
    return row


def faults_of(row: Row, honest: Asking, quiet: float) -> list[str]:
    """Return what was not kept."""
    faults = list[str]()
    may = MAY_BE_DRAWN if row.name == DRAWN else KINDS[row.name].may
    if wrong := {status: count for status, count in row.seen.items() if not (status[0] == "4" or status in may)}:
        faults.append(f"answered {wrong}")
    if row.name not in EXEMPT and row.peak - quiet > MOST_MORE:
        faults.append(f"memory +{(row.peak - quiet) / 1e6:.0f} MB")
    if row.kept - quiet > MOST_MORE:
        faults.append(f"memory kept +{(row.kept - quiet) / 1e6:.0f} MB")
    asked = honest.between(row.began, row.ended, "key", "code")
    photos = honest.between(row.began, row.ended, "photo")
    if share(asked) < 1:
        faults.append(f"honest queries: {dict(Counter(one.status for one in asked))}")
    if p99(asked) > MOST_P99:
        faults.append("honest queries waited")
    if unlike := {one.status for one in photos} - {200, 429}:
        faults.append(f"honest photos: {unlike}")
    return faults


def table(rows: Sequence[Row], honest: Asking, quiet: float) -> Iterator[str]:
    """Yield the lines of a table, as documents have it."""
    yield "| kind | requests | answered | memory, MB: most, after | honest key and code queries: answered, p99 (ms) | photos: answered, p99 (ms) |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        asked, photos = (honest.between(row.began, row.ended, *kinds) for kinds in (("key", "code"), ("photo",)))
        seen = ", ".join(f"{count} x {status}" for status, count in sorted(row.seen.items())) or "-"
        more = f"{(row.peak - quiet) / 1e6:+.0f}, {(row.kept - quiet) / 1e6:+.0f}"
        of = [f"{share(some):.1%} of {len(some)}, {p99(some):.0f}" for some in (asked, photos)]
        yield f"| {row.name} | {sum(row.seen.values()):,} | {seen} | {more} | {of[0]} | {of[1]} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the requests of each kind")
    parser.add_argument("--only", action="append", default=[], help="part of the name of a kind; repeatable")
    parser.add_argument("--cases", type=int, default=CASES, help="that schemathesis draws for each operation")
    parser.add_argument("--rate", type=float, default=10, help="honest queries per second, of keys and of codes each")
    parser.add_argument("--quiet", type=float, default=20, help="seconds of the honest client alone, before all else")
    given = parser.parse_args()
    names = [name for name in (*KINDS, DRAWN) if not given.only or any(part in name for part in given.only)]
    raise_handles()
    with TemporaryDirectory() as scratch:
        path, photos = make_index(Path(scratch))
        index = Index(path)
        target_keys = [index.key(row) for row in range(100)]
        code = index.codes(Level.FINE, np.arange(1))[0].tobytes().hex()
        with serving(path, "--writable", Path(scratch) / "added") as service, log_of(service) as log:
            target, memory = Target(service.port, target_keys, code), Memory(service)
            with asking(service.port, honest_streams(index, photos, given.rate)) as honest:
                warm_up(service, photos[0])
                time.sleep(given.quiet)
                began = time.monotonic()
                quiet = memory.most(began - given.quiet / 2, began)
                os.nice(10)  # attackers have machines of their own; here they get what the service leaves
                rows = [Row("nothing but the honest client", Counter(), began - given.quiet / 2, began, quiet, quiet)]
                for name in names:
                    count = given.cases if name == DRAWN else KINDS[name].count
                    rows.append(run(service, target, memory, name, max(1, round(given.share * count))))
                totals = counted(service)
            memory.stop()
            alive = service.process.poll() is None
    faults = [f"{row.name}: {fault}" for row in rows[1:] for fault in faults_of(row, honest, quiet)]
    faults += [
        f"{count} answers of {status}" for status, count in totals.items() if status[0] == "5" and status != "503"
    ]
    faults += [] if alive else ["the service ended"]
    faults += [f"its log: {line}" for line in log if "Traceback" in line or "fault" in line]
    print("\n".join(table(rows, honest, quiet)))
    print(
        "answers by the service's own count: "
        + ", ".join(f"{count:,} x {status}" for status, count in sorted(totals.items()))
    )
    print("\n".join(f"NOT KEPT: {fault}" for fault in faults) or "everything was kept")
    raise SystemExit(bool(faults))


@contextmanager
def log_of(service: Service) -> Iterator[list[str]]:
    """Collect what a service says while the block runs."""
    lines = list[str]()
    thread = threading.Thread(target=lambda: lines.extend(service.process.stderr or ()), daemon=True)
    thread.start()
    try:
        yield lines
    finally:
        service.process.kill()
        thread.join()


def raise_handles() -> None:
    """Let this process have a handle per connection."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
