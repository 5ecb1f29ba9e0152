"""What a collection takes: bytes, machines, milliseconds, hours and money, by arithmetic over constants that were measured.

    python -m benchmarks.cluster.model                       # the table of docs/SCALE.md
    python -m benchmarks.cluster.model --measured cluster.json

`constants.json` has one number per constant, with where it comes from. MEASURED is what `benchmarks.cluster.search` wrote:
`{"constants": {name: number}, "runs": [{"rows", "bits", "k", "slices", "machines", "p50"}]}`, in seconds, bytes and their quotients; its
constants take the place of those here. Each p50 is held against the model, and the exit code is 1 if one is off by over 20 %.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

CONSTANTS: Final = Path(__file__).parent / "constants.json"
TOLERANCE: Final = 0.2
SIZES: Final = (10**7, 10**8, 10**9, 10**10)
ID: Final = 8
"""Bytes of an id in a FAISS list."""
PER_ROW: Final = 8 + 8 + 8 + 16
"""Bytes of a row besides codes, key and labels: offset of the key, its hash, its place in their order, place of the image (docs/FORMAT.md)."""
CODE_FILE_ROW: Final = 8 + 16 + 16
"""The same in a code file: offset of the key, place and digest of the image."""
FREE: Final = 0.25
"""Share of a machine's memory that is left to the system and to a generation that is coming."""


@dataclass(frozen=True)
class Constants:
    """What was measured; `constants.json` says how. The last five are of a cluster, and are measured with it."""

    cores: float
    scan_rate: float
    memory_rate: float
    scan_fixed: float
    batch_rate: float
    lists_fixed: float
    lists_rate: float
    lists_share: float
    service_cpu: float
    service_memory: float
    build_cpu: float
    encode_cpu: float
    encode_gpu: float
    image_bytes: float
    hop: float = 0.0
    """Seconds from the question to the slice and back, of one slice that has nothing to do."""
    ask: float = 0.0
    """Seconds that each slice more adds to that, in the process that asks."""
    merge: float = 0.0
    """Seconds to merge the answer of one slice."""
    hit_bytes: float = 64.0
    """Bytes of a hit between a slice and who asks."""
    network_rate: float = 1.25e9
    """Bytes per second between machines: 10 Gbit/s."""

    @classmethod
    def load(cls, path: Path = CONSTANTS, instead: Mapping[str, float] | None = None) -> "Constants":
        """Return the constants of a file, some of them replaced; a name that is not known is an error."""
        return cls(**{name: value for name, (value, _) in json.loads(path.read_text()).items()} | dict(instead or {}))


@dataclass(frozen=True)
class Search:
    """A search of one query at one level."""

    rows: int
    bits: int
    k: int = 10
    slices: int = 1
    machines: int = 1
    lists: bool = False


def seconds(search: Search, of: Constants) -> float:
    """Return how long a query takes that nobody else disturbs.

    Slices of one machine share its cores and its memory, so that a machine takes as long as for all its rows in one. Machines work beside
    one another; the slowest has the most slices. Who asks sends to each slice, and merges what each returns, one after another.
    """
    each = math.ceil(search.slices / search.machines)
    rows = search.rows * each / search.slices
    if search.lists:
        scan = _in_lists(search, of)
    else:
        rate = min(of.scan_rate * of.cores, of.memory_rate)
        scan = of.scan_fixed * max(1.0, each / of.cores) + rows * search.bits / 8 / rate
    if search.slices == 1:
        return scan
    sent = search.slices * search.k * of.hit_bytes / of.network_rate
    return scan + of.hop + search.slices * (of.ask + of.merge) + sent


def _in_lists(search: Search, of: Constants) -> float:
    """Return how long the slowest machine looks into lists."""
    each = math.ceil(search.slices / search.machines)
    visited = search.rows * each / search.slices * of.lists_share
    return of.lists_fixed * max(1.0, each / of.cores) + visited / (of.lists_rate * of.cores)


@dataclass(frozen=True)
class Collection:
    """Images, and how they are indexed."""

    rows: int
    bits: Sequence[int] = (64, 64, 64, 64)
    """Of each level."""
    key_bytes: float = 24.0
    label_bytes: float = 16.0
    """Per row, all fields together."""
    lists: bool = True

    @property
    def index_bytes(self) -> float:
        """Bytes of the index on the disk."""
        codes = sum(bits / 8 + (bits / 8 + ID if self.lists else 0) for bits in self.bits)
        return self.rows * (codes + PER_ROW + self.key_bytes + self.label_bytes)

    @property
    def code_file_bytes(self) -> float:
        """Bytes of the code files."""
        return self.rows * (sum(self.bits) / 8 + CODE_FILE_ROW + self.key_bytes + self.label_bytes)

    @property
    def hot_bytes(self) -> float:
        """Bytes that queries read all over: what has to be in memory. Keys and labels are read of hits alone."""
        return self.rows * sum(bits / 8 + (ID if self.lists else 0) for bits in self.bits)


@dataclass(frozen=True)
class Plan:
    """What a collection takes."""

    rows: int
    index_bytes: float
    code_file_bytes: float
    hot_bytes: float
    machines: int
    """By memory."""
    lists_seconds: float
    """One query at one level in lists, a slice per machine."""
    exact_seconds: float
    """The same over all codes."""
    rate: float
    """Queries per second in lists that all machines answer: the cores are busy with nothing else."""
    cpu_hours: float
    """Of cores, to encode."""
    gpu_hours: float
    build_hours: float
    """Of cores."""
    image_bytes: float

    def cost(self, gpu_hour: float, machine_hour: float, hours: float) -> float:
        """Return what encoding and a time of serving cost, at prices per hour of a GPU and of a machine that serves."""
        return self.gpu_hours * gpu_hour + self.machines * machine_hour * hours


def plan(collection: Collection, of: Constants, node_memory: float) -> Plan:
    """Return what a collection takes, on machines with so many bytes of memory each."""
    room = node_memory * (1 - FREE) - of.service_memory
    machines = max(1, math.ceil(collection.hot_bytes / room))
    one = Search(collection.rows, collection.bits[0], slices=machines, machines=machines, lists=True)
    busy = of.service_cpu + machines * of.cores * _in_lists(one, of)
    return Plan(
        collection.rows,
        collection.index_bytes,
        collection.code_file_bytes,
        collection.hot_bytes,
        machines,
        seconds(one, of),
        seconds(Search(one.rows, one.bits, slices=machines, machines=machines), of),
        machines * of.cores / busy,
        collection.rows / of.encode_cpu / 3600,
        collection.rows / of.encode_gpu / 3600,
        collection.rows * len(collection.bits) * of.build_cpu / 3600,
        collection.rows * of.image_bytes,
    )


def table(plans: Sequence[Plan]) -> Iterator[str]:
    """Yield the rows of a table in Markdown."""
    yield "| | " + " | ".join(f"{each.rows / 1e6:,.0f} M" for each in plans) + " |"
    yield "|---|" + "--:|" * len(plans)
    for name, value in (
        ("images", lambda one: size(one.image_bytes)),
        ("code files", lambda one: size(one.code_file_bytes)),
        ("index on the disk", lambda one: size(one.index_bytes)),
        ("of it in memory, lists of all levels", lambda one: size(one.hot_bytes)),
        ("machines, by memory", lambda one: f"{one.machines:,}"),
        ("one query in lists, ms", lambda one: f"{1e3 * one.lists_seconds:,.1f}"),
        ("one query over all codes, ms", lambda one: f"{1e3 * one.exact_seconds:,.1f}"),
        ("queries per second in lists, all machines", lambda one: f"{one.rate:,.0f}"),
        ("encoding, core hours", lambda one: f"{one.cpu_hours:,.0f}"),
        ("encoding, GPU hours (published rate of others)", lambda one: f"{one.gpu_hours:,.0f}"),
        ("building, core hours", lambda one: f"{one.build_hours:,.1f}"),
    ):
        yield f"| {name} | " + " | ".join(map(value, plans)) + " |"


def size(count: float) -> str:
    """Return bytes in words."""
    for unit, name in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count:,.0f} B"


@dataclass(frozen=True)
class Held:
    """A measured run beside what the model says of it."""

    search: Search
    p50: float
    foretold: float

    @property
    def off(self) -> float:
        """By how much the model is off, as a share of what was measured."""
        return self.foretold / self.p50 - 1


def hold(measured: Mapping[str, Any], path: Path = CONSTANTS) -> list[Held]:
    """Return each run of a benchmark beside the model's word, which has the benchmark's own constants."""
    of = Constants.load(path, measured["constants"])
    names = {field.name for field in fields(Search)}
    runs = [(Search(**{name: run[name] for name in names & run.keys()}), run["p50"]) for run in measured["runs"]]
    return [Held(search, p50, seconds(search, of)) for search, p50 in runs]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--constants", type=Path, default=CONSTANTS)
    parser.add_argument("--measured", type=Path)
    parser.add_argument("--bits", default="64,64,64,64", help="of each level")
    parser.add_argument("--key-bytes", type=float, default=24.0)
    parser.add_argument("--label-bytes", type=float, default=16.0)
    parser.add_argument("--node-memory", type=float, default=64.0, help="GB of a machine that serves")
    parser.add_argument("--cores", type=float, help="of a machine that serves; its memory is as quick per core")
    arguments = parser.parse_args()
    measured = (
        {"constants": {}, "runs": []} if arguments.measured is None else json.loads(arguments.measured.read_text())
    )
    of = Constants.load(arguments.constants, measured["constants"])
    if arguments.cores:
        of = Constants(
            **vars(of) | {"cores": arguments.cores, "memory_rate": of.memory_rate * arguments.cores / of.cores}
        )
    bits = tuple(map(int, arguments.bits.split(",")))
    collections = [Collection(rows, bits, arguments.key_bytes, arguments.label_bytes) for rows in SIZES]
    for line in table([plan(each, of, arguments.node_memory * 1e9) for each in collections]):
        print(line)
    held = hold(measured, arguments.constants)
    if held:
        print("\n| rows | bits | slices | machines | measured, ms | model, ms | off |\n|--:|--:|--:|--:|--:|--:|--:|")
    for one in held:
        asked = one.search
        print(
            f"| {asked.rows:,} | {asked.bits} | {asked.slices} | {asked.machines} | {1e3 * one.p50:.2f} | {1e3 * one.foretold:.2f} | "
            f"{one.off:+.0%} |"
        )
    return int(any(abs(one.off) > TOLERANCE for one in held))


if __name__ == "__main__":
    sys.exit(main())
