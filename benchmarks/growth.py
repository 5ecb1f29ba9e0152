"""What lists lose when an index grows tenfold: the old centroids against centroids of all rows, everything else alike.

    python -m benchmarks.growth --rows 1000000

A tenth of the rows trains lists, and the rest is added, assigned to the same centroids. Beside it, as many lists are trained on all rows.
Both are searched for codes that are in neither, with the same number of lists probed: those with which the new lists first reach a recall.
The rows that are added are drawn as those before, or drift: nine tenths of them lie around other centres. Then `compact` decides by its rule
whether the lists are worn, and what it leaves is measured in the same way.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.living import BITS, CENTRES, FINGERPRINT, FLIPS, numbered
from encoder.bits import Codes
from encoder.levels import Level
from encoder.runtime.publish import exclusive
from indexer.changes.compact import compact
from indexer.changes.writer import writer
from indexer.index import Index
from indexer.matches import Distances
from indexer.settings import BuildSettings, CompactSettings, Dedupe, Engine, IndexKind, SearchSettings, TuneSettings
from indexer.storage.generation import next_generation
from indexer.storage.level_writer import usual_nlist
from indexer.storage.manifest import Manifest
from indexer.storage.row_source import ArrayRows
from indexer.storage.segment_writer import write_segment
from indexer.tune import tune

K, QUERIES, RECALLS, TUNED = 10, 2000, (0.9, 0.95, 0.99), 0.95
DRIFTED = 0.9
"""Share of the added rows that lie around centres of their own where they drift."""


def drawn(rows: int, seed: int, drifted: float) -> Codes:
    """Return uint8[rows, 8], of which a share lies around other centres than those of the first tenth."""
    rng = np.random.default_rng([7, seed])
    centres = np.random.default_rng(0).integers(0, 1 << 64, 2 * CENTRES, dtype=np.uint64)
    codes = centres[rng.integers(0, CENTRES, rows) + CENTRES * (rng.random(rows) < drifted)]
    for _ in range(FLIPS):
        codes ^= np.uint64(1) << rng.integers(0, BITS, rows, dtype=np.uint64)
    return codes.view(np.uint8).reshape(rows, BITS // 8)


def built(index: Path, codes: Codes, nlist: int) -> Path:
    """Write an index of one segment, its lists trained on all of it."""
    shutil.rmtree(index, ignore_errors=True)
    settings = BuildSettings(IndexKind.IVF, nlist=nlist, dedupe=Dedupe.OFF)
    source = ArrayRows("drawn", numbered("base", len(codes)), {Level.FINE: codes}, {})
    with exclusive(index), next_generation(index) as new:
        record = write_segment(new.folder / new.segment_name(), [source], [], settings)
        manifest = Manifest(FINGERPRINT, "fp32", None, [record], {}, kind=settings.kind, dedupe=Dedupe.OFF)
        new.publish(manifest, "build", added=len(codes), keep=1)
    return index


def recalls(index: Path, queries: Codes, farthest: Distances, efforts: Sequence[SearchSettings]) -> list[float]:
    """Return recall@10 per effort: the share of ten answers that are no farther than the tenth exact one."""
    opened, found = Index(index), list[float]()
    for effort in efforts:
        answers = opened.search(Level.FINE, queries, effort)
        near = [(one.distances <= most).sum() for one, most in zip(answers, farthest.tolist(), strict=True)]
        found.append(float(np.mean(near)) / K)
    return found


def grown(folder: Path, rows: int, drifted: float) -> dict[str, object]:
    """Grow an index tenfold, and return what its lists find beside lists of all rows, and what compaction makes of them."""
    parts = [drawn(rows // 10, number, drifted if number else 0.0) for number in range(10)]
    queries, nlist = drawn(QUERIES, 99, drifted), usual_nlist(rows // 10)
    old = built(folder / "growth-old", parts[0], nlist)
    tune(old, TuneSettings(TUNED, K, (Level.FINE,)), {})
    for number, codes in enumerate(parts[1:]):
        source = ArrayRows(f"more {number}", numbered(f"more{number}", len(codes)), {Level.FINE: codes}, {})
        with writer(old, keep=1) as opened:
            opened.add_rows([source], FINGERPRINT)
    new = built(folder / "growth-new", np.concatenate(parts), nlist)
    exact = Index(new).search(Level.FINE, queries, SearchSettings(K, exact=True, engine=Engine.SCAN))
    farthest = np.array([one.distances[-1] for one in exact])
    nprobes = sorted({min(nlist, round(2 ** (step / 4))) for step in range(4 * nlist.bit_length())})
    probing = [SearchSettings(K, nprobe=nprobe, engine=Engine.SCAN) for nprobe in nprobes]
    of_new, of_old = (recalls(index, queries, farthest, probing) for index in (new, old))
    found: dict[str, object] = {"lists": nlist}
    for recall in RECALLS:
        at = next(at for at, reached in enumerate(of_new) if reached >= recall)
        lost = round(100 * (of_new[at] - of_old[at]), 2)
        found[f"at {recall}"] = {
            "probed": nprobes[at],
            "new centroids": round(of_new[at], 4),
            "old": round(of_old[at], 4),
            "points lost": lost,
        }
    tuned = [SearchSettings(K, recall=TUNED, engine=Engine.SCAN)]
    before = recalls(old, queries, farthest, tuned)
    report = compact(old, CompactSettings(keep=1))
    after = recalls(old, queries, farthest, tuned)
    found[f"asked for {TUNED}"] = {
        "grown": round(before[0], 4),
        "after compact": round(after[0], 4),
        "trained anew": [str(level) for level in report.retrained],
    }
    for index in (old, new):
        shutil.rmtree(index)
    return found


def main() -> None:
    """Grow, measure, and print a line of JSON per distribution."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path("living"))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for name, drifted in (("the same distribution", 0.0), ("a drifted one", DRIFTED)):
        print(json.dumps({name: grown(given.folder, given.rows, drifted)}), flush=True)


if __name__ == "__main__":
    main()
