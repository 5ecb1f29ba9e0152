"""When to say "nothing similar": queries from outside that a cut-off refuses, against true matches that it loses.

usage: cutoffs.py INDEX --inside SHARDS... --outside SHARDS... --own SHARDS... [--label fine] [--queries 600]

INDEX holds labelled images and their model. Queries from inside are held-out images of the same kind (SHARDS of --inside), and copies of
images of the index (SHARDS of --own, keys as in the index), changed as `pipelines/evaluation/copies.py` does; from outside are images of
another collection. Two questions: `duplicate` loses a copy whose source is beyond the cut-off; `similar` loses a held-out image that has
its label among its 20 nearest at `fused` and whose nearest is beyond. An image from outside is refused if its nearest is beyond.

Printed per question and measure of nearness: the share refused where 5 % are lost, and lost where 95 % are refused; for duplicates the first
also for each kind of copy alone. A sum adds up distances as shares of bits; `logits` is the distance that re-ranking orders by, as a share of
all |logits| of the query; `and` asks for one row within a radius at each of two levels, the best pair of radii. Then what a calibrated
`max_false` comes to, told by the label, by chance, and by half of the images from outside, while the other half asks.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes, Logits, binarize, signs, unpack
from encoder.images.decoding.decode import decode_readable
from encoder.images.expand import expand
from encoder.images.labels.values import Labels
from encoder.images.readers.formats import reader_for
from encoder.images.samples import batches
from encoder.levels import Level
from indexer.calibrate import measure
from indexer.cutoffs import radius_for
from indexer.index import Index
from indexer.settings import CalibrateSettings
from indexer.snapshot import Snapshot
from pipelines.evaluation.copies import CopyKind, copy_rng, make_copies

LOST, REFUSED = 0.05, 0.95
NEAREST = 20
CHUNK = 50
FAR = 1 << 14
Reals = npt.NDArray[np.floating[Any]]
Pictures = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
PAIRS = list(combinations(Level, 2))


class Base:
    """The rows of an index, and its network."""

    def __init__(self, index: Index, label: str) -> None:
        self.index, rows = index, index.live_rows()
        self.codes = {level: index.codes(level, rows) for level in index.manifest.bits}
        self.signs = {level: np.where(unpack(codes), 1, -1).astype(np.float32) for level, codes in self.codes.items()}
        self.labels = np.array([index.labels(row)[label] for row in rows.tolist()])
        self.keys = {index.key(row).rpartition("/")[2]: at for at, row in enumerate(rows.tolist())}

    def logits(self, pictures: Pictures) -> dict[Level, Logits]:
        """Return float32[n, nbits] by level, of what the network sees."""
        parts = [
            self.index.encoder.logits(pictures[start : start + CHUNK], list(self.codes))
            for start in range(0, len(pictures), CHUNK)
        ]
        return {level: np.concatenate([part[level] for part in parts]) for level in self.codes}

    def compared(self, logits: Mapping[Level, Logits], rows: slice) -> dict[str, Reals]:
        """Return float[nq, rows] by measure: how far each row is."""
        found: dict[str, Reals] = {}
        for level, of_level in logits.items():
            others, size = self.signs[level][rows], np.abs(of_level).sum(axis=1, keepdims=True)
            found[level] = (of_level.shape[1] - signs(of_level).astype(np.float32) @ others.T) / 2
            found[f"{level}, logits"] = (size - of_level @ others.T) / (2 * size)
        for some in (*PAIRS, tuple(Level)):
            name = " + ".join(some)
            found[name] = np.sum([found[level] / logits[level].shape[1] for level in some], axis=0)
            found[f"{name}, logits"] = np.sum([found[f"{level}, logits"] for level in some], axis=0)
        return found


class Asked:
    """Queries: how far the nearest row is by each measure, or for copies their source."""

    def __init__(self, base: Base, logits: Mapping[Level, Logits], sources: Sequence[int] | None = None) -> None:
        self.logits, count = logits, len(logits[Level.FUSED])
        parts: dict[str, list[Reals]] = {}
        self.least = {pair: np.empty((count, logits[pair[0]].shape[1] + 1), dtype=np.int64) for pair in PAIRS}
        near = []
        step = CHUNK if sources is None else 1
        for start in range(0, count, step):
            rows = slice(None) if sources is None else slice(sources[start], sources[start] + 1)
            found = base.compared({level: each[start : start + step] for level, each in logits.items()}, rows)
            for name, values in found.items():
                parts.setdefault(name, []).append(values.min(axis=1))
            for pair, least in self.least.items():
                first, second = (found[level].round().astype(np.int64) for level in pair)
                for at in range(len(first)):
                    within = np.full(least.shape[1], FAR)
                    np.minimum.at(within, first[at], second[at])
                    least[start + at] = np.minimum.accumulate(within)
            near.append(np.argsort(found[Level.FUSED], axis=1, kind="stable")[:, :NEAREST])
        self.nearest = {name: np.concatenate(values) for name, values in parts.items()}
        self.near = np.concatenate(near)


def read(shards: Sequence[str], side: int, most: int) -> tuple[Pictures, list[str], list[Labels]]:
    """Return what a network sees of so many images, spread over all shards, with keys and labels."""
    parts = list(_parts(shards, side, most))
    keys = [key for part in parts for key in part[1]]
    return np.concatenate([part[0] for part in parts]), keys, [each for part in parts for each in part[2]]


def _parts(shards: Sequence[str], side: int, most: int) -> Iterator[tuple[Pictures, list[str], list[Labels]]]:
    found = expand(list(shards))
    for shard in found:
        left = -(-most // len(found))
        for samples in batches(reader_for(shard).images(), 32):
            readable, squares = decode_readable(samples, side)
            some = readable[:left]
            yield squares[:left], [each.key for each in some], [each.labels for each in some]
            left -= len(some)
            if not left:
                break


def trade_off(outside: Reals, inside: Reals) -> tuple[float, float]:
    """Return the share refused where 5 % are lost, and the share lost where 95 % are refused."""
    thresholds = np.unique(np.concatenate([[-1.0], outside, inside]))
    return _best([outside > value for value in thresholds], [inside > value for value in thresholds])


def conjunction(outside: Asked, inside: Asked, pair: tuple[Level, Level], keep: Bools) -> tuple[float, float]:
    there, here = outside.least[pair], inside.least[pair][keep]
    radii = [(first, second) for first in range(there.shape[1]) for second in range(there.shape[1] * 2)]
    return _best([there[:, one] > other for one, other in radii], [here[:, one] > other for one, other in radii])


def _best(refused: Sequence[Bools], lost: Sequence[Bools]) -> tuple[float, float]:
    shares = np.array([(there.mean(), here.mean()) for there, here in zip(refused, lost, strict=True)])
    return float(shares[shares[:, 1] <= LOST, 0].max(initial=0)), float(
        shares[shares[:, 0] >= REFUSED, 1].min(initial=1)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    for name in ("inside", "outside", "own"):
        parser.add_argument(f"--{name}", nargs="+", required=True)
    parser.add_argument("--label", default="fine")
    parser.add_argument("--queries", type=int, default=600)
    args = parser.parse_args()
    base = Base(Index(args.index), args.label)
    side = base.index.encoder.model.config.image_size
    outside = Asked(base, base.logits(read(args.outside, side, args.queries)[0]))
    squares, _, labels = read(args.inside, side, args.queries)
    held = Asked(base, base.logits(squares))
    wanted = np.array([each[args.label] for each in labels])
    right = (base.labels[held.near] == wanted[:, None]).any(axis=1)
    originals, keys, _ = read(args.own, side, args.queries)
    originals, keys = originals[:: len(CopyKind)], keys[:: len(CopyKind)]
    sources = [base.keys[key.rpartition("/")[2]] for key in keys]
    made = {kind: base.logits(make_copies(originals, kind, copy_rng(kind, 0))) for kind in CopyKind}
    logits = {level: np.concatenate([of_kind[level] for of_kind in made.values()]) for level in base.codes}
    copies = Asked(base, logits, sources * len(CopyKind))
    print(
        f"{len(outside.near)} from outside, {right.sum()} of {len(right)} held-out with a right hit, {len(copies.near)} copies"
    )
    print(
        f"| question | nearness | refused where 5 % are lost | lost where 95 % are refused | {' | '.join(CopyKind)} |"
    )
    print("|---|---|---|---|" + "---|" * len(CopyKind))
    every = np.ones(len(copies.near), dtype=np.bool_)
    for question, inside, keep in (("duplicate", copies, every), ("similar", held, right)):
        for name, far in outside.nearest.items():
            refused, lost = trade_off(far, inside.nearest[name][keep])
            kinds = np.split(inside.nearest[name], len(CopyKind)) if inside is copies else []
            alone = " | ".join(f"{trade_off(far, of_kind)[0]:.3f}" for of_kind in kinds)
            print(f"| {question} | {name} | {refused:.3f} | {lost:.3f} | {alone} |")
        for pair in PAIRS:
            refused, lost = conjunction(outside, inside, pair, keep)
            print(f"| {question} | {' and '.join(pair)} | {refused:.3f} | {lost:.3f} | |", flush=True)
    operating_points(base, outside, held, right, copies, args.label)


def operating_points(base: Base, outside: Asked, held: Asked, right: Bools, copies: Asked, label: str) -> None:
    """Print what a calibrated `max_false` refuses and loses."""
    print("\n| level | unrelated told by | max_false | radius | refused outside | similar lost | duplicates lost |")
    print("|---|---|---|---|---|---|---|")
    for level in base.codes:
        half: Codes = binarize(outside.logits[level])[::2]
        for told, labels, elsewhere in (("label", {level: label}, None), ("chance", {}, None), ("outside", {}, half)):
            measured = measure(Snapshot(base.index.path), level, CalibrateSettings(labels=labels), elsewhere)
            for often in (0.001, 0.01, 0.05, 0.1, 1.0, 10.0):
                found = radius_for(measured, often, base.index.manifest.live)
                radius = -1 if found is None else found
                of_level = (outside.nearest[level][1::2], held.nearest[level][right], copies.nearest[level])
                shares = " | ".join(f"{(each > radius).mean():.3f}" for each in of_level)
                print(f"| {level} | {told} | {often:g} | {radius} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
