"""What is measured. Each case is one entry of the results, and is left out when it is there already."""

import json
import platform
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.search.codes import Codebase, Spread
from benchmarks.search.start import seconds_to_first_answer
from benchmarks.search.systems import (
    Distances,
    System,
    approximate_peers,
    exact_peers,
    exact_systems,
    list_systems,
)
from benchmarks.search.timing import SINGLES, milliseconds, read_all, recall
from encoder.runtime.cores import worker_count
from indexer.storage.level_writer import usual_nlist

BATCHES, KS = (1, 64, 1000), (10, 100)
ENOUGH, K = 0.95, 10
"""The recall@K at which approximate searches are compared."""
ASKED = 1000
"""Queries that recall is measured on."""
LARGE = 64
"""The largest batch that exhaustive searches of other systems are asked: they take as long for each query of a larger one."""
READ = "bare read"

Case = dict[str, Any]
Results = dict[str, dict[str, Case]]
"""By part and case."""


class Bench:
    """Results that are written down after each case.

    Args:
        folder: where codes are kept.
        kept: file of the results.
        graph_rows: the most codes that graphs are built over.
    """

    def __init__(self, folder: Path, kept: Path, graph_rows: int) -> None:
        self.folder, self.kept, self._graph_rows = folder, kept, graph_rows
        self.done: Results = json.loads(kept.read_text()) if kept.exists() else {}
        self.done["machine"] = {
            "machine": {
                "cores": worker_count(),
                "processor": _processor(),
                "faiss": faiss.__version__,
                "simd": str(getattr(faiss.SIMDConfig, "get_level_name", lambda: "")()),
            }
        }

    def exact(self, rows: Sequence[int], bits: Sequence[int]) -> None:
        """Compare exhaustive searches."""
        for codes in self._codebases(rows, bits):
            cases = {f"{codes}, k {k}, batch {batch}": (k, batch) for k, batch in product(KS, BATCHES)}
            left = {name: case for name, case in cases.items() if not self._has("exact", name)}
            if not left:
                continue
            ours = list(exact_systems(codes))
            others = list(exact_peers(codes)) if codes.rows <= self._graph_rows else []
            queries, read = codes.queries(max(BATCHES)), read_all(codes.flat.codes)
            for name, (k, batch) in left.items():
                taken = milliseconds(dict.fromkeys(ours, 0), queries, batch, k, {READ: read} if batch == 1 else None)
                # apart, since threads of theirs are busy for a while after they have answered
                asked = others if batch <= LARGE else []
                beside = milliseconds(dict.fromkeys([ours[0], *asked], 0), queries, batch, k) if asked else {}
                differ = _differ([*ours, *asked], queries[:SINGLES], k)
                self._keep("exact", name, codes, ms=taken, beside=beside, k=k, batch=batch, differ=differ)

    def lists(self, rows: Sequence[int], bits: Sequence[int]) -> None:
        """Compare searches of the same lists at the same effort."""
        for codes in self._codebases(rows, bits):
            for batch in BATCHES:
                case = f"{codes}, batch {batch}"
                if self._has("lists", case):
                    continue
                nlist = usual_nlist(codes.rows)
                queries = codes.queries(ASKED)
                ours, theirs = list_systems(codes, nlist)
                curve = _climb(ours, queries, _truth(codes, queries))
                nprobe, reached = curve[-1]
                taken = milliseconds({ours: nprobe, theirs: nprobe}, queries, batch, K)
                self._keep(
                    "lists", case, codes, ms=taken, batch=batch, nlist=nlist, nprobe=nprobe, recall=reached,
                    theirs=recall(theirs.distances(theirs.search(queries, K, nprobe), K), _truth(codes, queries)),
                )  # fmt: skip

    def peers(self, rows: Sequence[int], bits: Sequence[int]) -> None:
        """Compare approximate searches at the same recall."""
        for codes in self._codebases([count for count in rows if count <= self._graph_rows], bits):
            queries = codes.queries(ASKED)
            nlist = usual_nlist(codes.rows)
            flat, lists = next(exact_systems(codes)), next(list_systems(codes, nlist))
            truth = _truth(codes, queries)
            mine = {flat: 0, lists: _climb(lists, queries, truth)[-1][0]}
            for name, make in approximate_peers(codes).items():
                if self._has("peers", f"{codes}, {name}"):
                    continue
                peer = make()
                curve = _climb(peer, queries, truth)
                effort, reached = curve[-1]
                ms = {batch: milliseconds(mine | {peer: effort}, queries, batch, K) for batch in BATCHES}
                self._keep(
                    "peers", f"{codes}, {name}", codes, peer=name, effort=effort, recall=reached, nprobe=mine[lists],
                    ms={f"{batch}": taken for batch, taken in ms.items()},
                )  # fmt: skip

    def growth(self, rows: Sequence[int]) -> None:
        """Measure how time and memory grow with the number of codes."""
        for codes in self._codebases(rows, [64], [Spread.CLUSTERED]):
            if self._has("growth", f"{codes}"):
                continue
            nlist, queries = usual_nlist(codes.rows), codes.queries(ASKED)
            flat, lists = next(exact_systems(codes)), next(list_systems(codes, nlist))
            nprobe, reached = _climb(lists, queries, _truth(codes, queries))[-1]
            ms = {batch: milliseconds({flat: 0, lists: nprobe}, queries, batch, K) for batch in (1, 64)}
            self._keep(
                "growth", f"{codes}", codes, nlist=nlist, nprobe=nprobe, recall=reached,
                ms={f"{batch}": taken for batch, taken in ms.items()},
                bytes={kind: codes.path(kind).stat().st_size / codes.rows for kind in ("flat", f"ivf{nlist}")},
            )  # fmt: skip

    def start(self, rows: int) -> None:
        """Measure the whole process of a first query."""
        if not self._has("start", f"{rows:,} rows"):
            seconds = seconds_to_first_answer(self.folder, rows)
            self._keep("start", f"{rows:,} rows", None, rows=rows, seconds=seconds)

    def _codebases(
        self, rows: Sequence[int], bits: Sequence[int], spreads: Sequence[Spread] = tuple(Spread)
    ) -> Iterator[Codebase]:
        return (Codebase(self.folder, *each) for each in product(spreads, rows, bits))

    def _has(self, part: str, case: str) -> bool:
        return case in self.done.get(part, {})

    def _keep(self, part: str, case: str, codes: Codebase | None, **found: object) -> None:
        where = {} if codes is None else {"spread": codes.spread, "rows": codes.rows, "bits": codes.nbits}
        self.done.setdefault(part, {})[case] = where | found
        self.kept.write_text(json.dumps(self.done, indent=1))
        print(f"{part}: {case}: {json.dumps(found)}", flush=True)


def _truth(codes: Codebase, queries: Any) -> Distances:
    ours = next(exact_systems(codes))
    return ours.distances(ours.search(queries, K, 0), K)


def _climb(system: System, queries: Any, truth: Distances) -> list[tuple[int, float]]:
    """Return efforts and their recall, from the least to the first that is enough, or to the last."""
    curve: list[tuple[int, float]] = []
    for effort in system.efforts:
        curve.append((effort, recall(system.distances(system.search(queries, K, effort), K), truth)))
        if curve[-1][1] >= ENOUGH:
            break
    return curve


def _differ(systems: Sequence[System], queries: Any, k: int) -> list[str]:
    """Return the systems whose exact distances are not those of the first."""
    answers = {system.name: system.distances(system.search(queries, k, 0), k) for system in systems}
    first = answers[systems[0].name]
    return [name for name, found in answers.items() if not np.array_equal(np.sort(found, axis=1), first)]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
