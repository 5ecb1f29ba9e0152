"""When to say "nothing similar": queries from outside that a cut-off refuses, against true matches that it loses.

usage: cutoffs.py INDEX --inside SHARDS... --outside SHARDS... --own SHARDS... [--label fine] [--queries 1000]

INDEX holds labelled images and their model. Queries from inside are held-out images of the same kind (SHARDS of --inside), and copies of
images of the index (SHARDS of --own, keys as in the index), changed as `pipelines/evaluation/copies.py` does; from outside are images of
another collection. Two questions: `duplicate` loses a copy whose source is beyond the cut-off; `similar` loses a held-out image that has
its label among its 20 nearest at `fused` and whose nearest is beyond. An image from outside is refused if its nearest is beyond.

Printed per question and measure of nearness: refused outside where 5 % are lost, lost where 95 % are refused; then what a calibrated
`max_false` comes to. A conjunction asks for one row within a radius at each of two levels, the best pair of radii. `logits` is the
distance that re-ranking orders by, as a share of the sum of all |logits| of the query.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes, Logits, binarize, unpack
from encoder.images.decoding.decode import decode_readable
from encoder.images.expand import expand
from encoder.images.labels.values import Labels
from encoder.images.readers.formats import reader_for
from encoder.images.samples import batches
from encoder.levels import Level
from indexer.calibrate import measure
from indexer.cutoffs import radius_for
from indexer.index import Index
from indexer.search.histogram import distances
from indexer.settings import CalibrateSettings
from pipelines.evaluation.copies import CopyKind, copy_rng, make_copies

LOST, REFUSED = 0.05, 0.95
NEAREST = 20
FAR = 1 << 14
Reals = npt.NDArray[np.float64]


@dataclass
class Nearness:
    """How near the rows of an index come to queries, one at a time."""

    nearest: dict[Level, npt.NDArray[np.int64]]
    """int64[nq]: distance of the nearest row; for copies, of the source."""
    logits: Reals
    """float64[nq]: the same at `fused`, by logits, 0..1."""
    pairs: dict[tuple[Level, Level], npt.NDArray[np.int64]]
    """int64[nq, nbits + 1]: within each radius at the first level, the least distance at the second."""
    right: npt.NDArray[np.bool_]
    """bool[nq]: whether a row of the same label is among the nearest."""


def pictures(
    shards: Sequence[str], side: int, most: int
) -> Iterator[tuple[npt.NDArray[np.uint8], list[str], list[Labels]]]:
    """Yield uint8[n, side, side, 3] with keys and labels, spread over all shards."""
    found = expand(list(shards))
    for shard in found:
        left = -(-most // len(found))
        for samples in batches(reader_for(shard).images(), 32):
            readable, squares = decode_readable(samples, side)
            yield squares[:left], [each.key for each in readable[:left]], [each.labels for each in readable[:left]]
            left -= len(readable)
            if left <= 0:
                break


def ask(index: Index, squares: npt.NDArray[np.uint8]) -> tuple[dict[Level, Codes], dict[Level, Logits]]:
    levels = list(index.manifest.bits)
    parts = [index.encoder.logits(squares[start : start + 50], levels) for start in range(0, len(squares), 50)]
    logits = {level: np.concatenate([part[level] for part in parts]) for level in levels}
    return {level: binarize(of_level) for level, of_level in logits.items()}, logits


def nearness(
    index: Index,
    squares: npt.NDArray[np.uint8],
    label: str,
    labels: Sequence[object],
    sources: Sequence[int] | None = None,
) -> Nearness:
    """Compare queries with every row, or with one source each."""
    codes, logits = ask(index, squares)
    rows = {level: index.codes(level, index.live_rows()) for level in codes}
    bits = unpack(rows[Level.FUSED])
    of_rows = [index.labels(row)[label] for row in index.live_rows().tolist()]
    found = Nearness(
        {level: np.empty(len(squares), dtype=np.int64) for level in codes},
        np.empty(len(squares)),
        {
            pair: np.empty((len(squares), 8 * codes[pair[0]].shape[1] + 1), dtype=np.int64)
            for pair in combinations(codes, 2)
        },
        np.zeros(len(squares), dtype=np.bool_),
    )
    for at in range(len(squares)):
        some = slice(None) if sources is None else slice(sources[at], sources[at] + 1)
        by_level = {level: distances(rows[level][some], codes[level][at]).astype(np.int64) for level in codes}
        for level, of_level in by_level.items():
            found.nearest[level][at] = of_level.min()
        size = np.abs(logits[Level.FUSED][at]).astype(np.float64)
        found.logits[at] = ((bits[some] != (logits[Level.FUSED][at] >= 0)) @ size).min() / size.sum()
        for (first, second), least in found.pairs.items():
            within = np.full(least.shape[1], FAR)
            np.minimum.at(within, by_level[first], by_level[second])
            least[at] = np.minimum.accumulate(within)
        near = np.argsort(by_level[Level.FUSED], kind="stable")[:NEAREST]
        found.right[at] = sources is not None or any(of_rows[row] == labels[at] for row in near.tolist())
    return found


def trade_off(outside: Reals, inside: Reals) -> tuple[str, str]:
    """Return the share refused where 5 % are lost, and lost where 95 % are refused, each with its threshold."""
    thresholds = np.unique(np.concatenate([[-1.0], outside, inside]))
    refused = np.array([(outside > value).mean() for value in thresholds])
    lost = np.array([(inside > value).mean() for value in thresholds])
    return _best(refused, lost, thresholds)


def _best(refused: Reals, lost: Reals, thresholds: Sequence[object] | Reals) -> tuple[str, str]:
    kept, enough = np.where(lost <= LOST, refused, -1), np.where(refused >= REFUSED, lost, 2)
    first, second = int(kept.argmax()), int(enough.argmin())
    return f"{refused[first]:.3f} ({thresholds[first]})", f"{lost[second]:.3f} ({thresholds[second]})"


def conjunction(
    outside: Nearness, inside: Nearness, pair: tuple[Level, Level], keep: npt.NDArray[np.bool_]
) -> tuple[str, str]:
    there, here = outside.pairs[pair], inside.pairs[pair][keep]
    radii = [(first, second) for first in range(there.shape[1]) for second in range(8 * FAR_BYTES)]
    refused = np.array([(there[:, first] > second).mean() for first, second in radii])
    lost = np.array([(here[:, first] > second).mean() for first, second in radii])
    return _best(refused, lost, radii)


FAR_BYTES = 16
"""Bytes of the longest code whose radii are tried."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    for name in ("inside", "outside", "own"):
        parser.add_argument(f"--{name}", nargs="+", required=True)
    parser.add_argument("--label", default="fine")
    parser.add_argument("--queries", type=int, default=1000)
    args = parser.parse_args()
    index = Index(args.index)
    side = index.encoder.model.config.image_size

    def read(shards: Sequence[str]) -> tuple[npt.NDArray[np.uint8], list[str], list[Labels]]:
        parts = list(pictures(shards, side, args.queries))
        return np.concatenate([part[0] for part in parts]), *(
            [each for part in parts for each in part[at]] for at in (1, 2)
        )  # type: ignore[return-value]

    outside = nearness(index, read(args.outside)[0], args.label, [object()] * args.queries)
    squares, _, labels = read(args.inside)
    held = nearness(index, squares, args.label, [each[args.label] for each in labels])
    originals, keys, _ = read(args.own)
    chosen = np.arange(len(originals))[:: max(1, len(originals) * len(CopyKind) // args.queries)]
    squares = np.concatenate([make_copies(originals[chosen], kind, copy_rng(kind, 0)) for kind in CopyKind])
    suffixes = {index.key(row).rpartition("/")[2]: row for row in index.live_rows().tolist()}
    place = {row: at for at, row in enumerate(index.live_rows().tolist())}
    sources = [place[suffixes[keys[at].rpartition("/")[2]]] for at in chosen.tolist()] * len(CopyKind)
    copies = nearness(index, squares, args.label, [None] * len(squares), sources)
    print(
        f"{len(outside.logits)} from outside, {held.right.sum()} of {len(held.right)} held-out with a right hit, {len(copies.logits)} copies"
    )
    print("| question | nearness | refused where 5 % are lost | lost where 95 % are refused |\n|---|---|---|---|")
    every = np.ones(len(copies.logits), dtype=np.bool_)
    for question, inside, keep in (("duplicate", copies, every), ("similar", held, held.right)):
        for level, far in outside.nearest.items():
            at_lost, at_refused = trade_off(far.astype(np.float64), inside.nearest[level][keep].astype(np.float64))
            print(f"| {question} | {level} | {at_lost} | {at_refused} |")
        at_lost, at_refused = trade_off(outside.logits, inside.logits[keep])
        print(f"| {question} | logits | {at_lost} | {at_refused} |")
        for pair in outside.pairs:
            at_lost, at_refused = conjunction(outside, inside, pair, keep)
            print(f"| {question} | {' and '.join(pair)} | {at_lost} | {at_refused} |", flush=True)
    print(
        "\n| level, unrelated told by | max_false | radius | refused outside | similar lost | duplicates lost |\n|---|---|---|---|---|---|"
    )
    for level in (Level.FINE, Level.FUSED):
        for told, label in (("label", {level: args.label}), ("chance", {})):
            measured = measure(index.snapshot, level, CalibrateSettings(labels=label))
            for often in (0.001, 0.01, 0.1, 1.0, 10.0):
                found = radius_for(measured, often, index.manifest.live)
                radius = -1 if found is None else found
                shares = (outside.nearest[level], held.nearest[level][held.right], copies.nearest[level])
                refused, similar, duplicate = ((each > radius).mean() for each in shares)
                print(
                    f"| {level}, {told} | {often:g} | {radius} | {refused:.3f} | {similar:.3f} | {duplicate:.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
