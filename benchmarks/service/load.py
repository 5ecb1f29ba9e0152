"""A service under load: what it answers at most, how long answers take below that, and what happens beyond it.

    python -m benchmarks.service.load --rows 1000000

One index of drawn codes; queries by key and by code, each of one level, 10 hits. `wrk` finds what 1 to 256 connections get (it takes a
part of the cores itself), `hey` asks at 70 % of that and at four times as much; both are packages of Debian. Beside it, in the same run,
what `Index.query_batch` answers in this process with 64 queries at a time: hits included, no HTTP. One line of JSON per figure.
"""

import argparse
import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.living import build
from encoder.levels import Level
from indexer.client import Client
from indexer.index import Index
from indexer.query import ByCode, ByKey, Query
from tests.support.services import Service, serving

CONNECTIONS = (1, 8, 64, 256)
ASKED = 2000
"""Different queries."""
LUA = """
local bodies = {}
for line in io.lines("%s") do bodies[#bodies + 1] = line end
local at = math.random(#bodies)
wrk.method, wrk.headers["Content-Type"] = "POST", "application/json"
request = function()
  at = at %% #bodies + 1
  return wrk.format(nil, nil, nil, bodies[at])
end
"""


def say(**figures: object) -> None:
    print(json.dumps(figures), flush=True)


def bodies(index: Index, kind: str) -> list[dict[str, Any]]:
    """Return requests by key or by code."""
    rows = np.random.default_rng(3).integers(0, index.ntotal, ASKED)
    if kind == "key":
        return [{"key": index.key(row), "level": "fine", "k": 10} for row in rows.tolist()]
    codes = index.codes(Level.FINE, rows)
    return [{"codes": {"fine": code.tobytes().hex()}, "level": "fine", "k": 10} for code in codes]


def in_process(index: Index, asked: list[dict[str, Any]], seconds: float) -> float:
    """Return queries per second of the batch engine."""
    queries: list[Query] = [
        ByKey(one["key"]) if "key" in one else ByCode(np.frombuffer(bytes.fromhex(one["codes"]["fine"]), np.uint8))
        for one in asked
    ]

    def ask(first: int) -> None:
        part = queries[first % len(queries) :][:64]
        index.query_batch(part, level="fine", k=10, engine="scan", exclude_self=True)

    ask(0)
    done, until = 0, time.perf_counter() + seconds
    started = time.perf_counter()
    while time.perf_counter() < until:
        ask(done)
        done += 64
    return done / (time.perf_counter() - started)


def wrk(port: int, script: Path, connections: int, seconds: int) -> dict[str, Any]:
    """Ask as fast as answers come."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", f"-s{script}"]
    said = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/v1/search"], capture_output=True, text=True, check=True
    ).stdout
    return {
        "per_second": float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0]),
        "p50_ms": milliseconds(re.findall(r"\n\s+50%\s+(\S+)", said)[0]),
        "p99_ms": milliseconds(re.findall(r"\n\s+99%\s+(\S+)", said)[0]),
        "failed": int((re.findall(r"Non-2xx or 3xx responses: (\d+)", said) or ["0"])[0]),
    }


def milliseconds(text: str) -> float:
    for unit, factor in (("us", 1e-3), ("ms", 1.0), ("s", 1e3)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(text)


def hey(port: int, body: str, connections: int, rate: float, seconds: int) -> dict[str, Any]:
    """Ask at a rate."""
    each = max(1, round(rate / connections))
    command = [
        "hey",
        "-z",
        f"{seconds}s",
        "-c",
        str(connections),
        "-q",
        str(each),
        "-m",
        "POST",
        "-T",
        "application/json",
    ]
    said = subprocess.run(
        [*command, "-d", body, f"http://127.0.0.1:{port}/v1/search"], capture_output=True, text=True, check=True
    ).stdout
    return {
        "asked_per_second": each * connections,
        "per_second": float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0]),
        "p50_ms": 1e3 * float((re.findall(r"50%+ in ([\d.]+)", said) or ["nan"])[0]),
        "p99_ms": 1e3 * float((re.findall(r"99%+ in ([\d.]+)", said) or ["nan"])[0]),
        "statuses": {status: int(count) for status, count in re.findall(r"\[(\d+)\]\s+(\d+) responses", said)},
    }


def recovery(service: Service, body: dict[str, Any], usual: float) -> float:
    """Return the seconds until 20 answers in turn are as quick as usual again."""
    started, quick = time.perf_counter(), 0
    while quick < 20 and time.perf_counter() - started < 60:
        began = time.perf_counter()
        status, _, _ = service.ask("POST", "/v1/search", body)
        took = 1e3 * (time.perf_counter() - began)
        quick = quick + 1 if status == 200 and took <= usual else 0
    return time.perf_counter() - started


def paced(ask: Callable[[], object], rate: float, seconds: float) -> dict[str, float]:
    """Ask one after another at a rate, and return the times of answers in ms."""
    times = list[float]()
    started = time.perf_counter()
    for number in range(int(rate * seconds)):
        time.sleep(max(0.0, started + number / rate - time.perf_counter()))
        began = time.perf_counter()
        ask()
        times.append(1e3 * (time.perf_counter() - began))
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2), "longest_ms": round(max(times), 2), "asked": len(times)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument("--folder", type=Path, default=Path("living"), help="where the index is made, and kept")
    parser.add_argument("--only-paced", action="store_true", help="only a query by key at 50 per second")
    given = parser.parse_args()
    path = given.folder / f"index-{given.rows}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        build(path, given.rows)
        print()
    index = Index(path)
    with serving(path, "--no-model") as service, TemporaryDirectory() as scratch:
        with Client(f"http://127.0.0.1:{service.port}") as client:
            keys = iter([ByKey(one["key"]) for one in bodies(index, "key")] * 100)
            figures = paced(lambda: client.query(next(keys), level="fine", k=10), 50, given.seconds)
            say(what="key queries at 50 per second", rows=given.rows, **figures)
        for kind in () if given.only_paced else ("key", "code"):
            asked = bodies(index, kind)
            lines, script = Path(scratch) / f"{kind}.jsonl", Path(scratch) / f"{kind}.lua"
            lines.write_text("".join(json.dumps(one) + "\n" for one in asked))
            script.write_text(LUA % lines)
            engine = in_process(index, asked, given.seconds)
            say(what=f"{kind}: query_batch of 64 in a process", per_second=round(engine))
            most = 0.0
            for connections in CONNECTIONS:
                figures = wrk(service.port, script, connections, given.seconds)
                most = max(most, figures["per_second"])
                say(what=f"{kind}: as fast as it answers", connections=connections, **figures)
            say(what=f"{kind}: share of the engine", share=round(most / engine, 2))
            body = json.dumps(asked[0])
            usual = 0.0
            for connections in CONNECTIONS[1:]:
                figures = hey(service.port, body, connections, 0.7 * most, given.seconds)
                usual = max(usual, figures["p99_ms"])
                say(what=f"{kind}: 70 % of that", connections=connections, **figures)
            say(
                what=f"{kind}: 4 times that", connections=1000, **hey(service.port, body, 1000, 4 * most, given.seconds)
            )
            say(what=f"{kind}: recovery", seconds=round(recovery(service, asked[0], usual), 2))


if __name__ == "__main__":
    main()
