"""What ordering the nearest by the query's logits is worth: mAP by Hamming distance, and with the first R ranks re-ordered.

usage: rerank.py MODEL --train SHARD... --test SHARD... [--label fine] [--level fused] [--depths 100,1000] [--queries 2000]

Test images ask, training images are the database, relevant is the same class; mAP is tie-aware over the whole database.
The first R ranks by (distance, row) are ordered by the asymmetric distance (`indexer.search.rerank`), the others keep their order.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from encoder.bits import binarize, hamming, unpack
from encoder.evaluation.metrics import average_precision
from encoder.images.classes import class_indices
from encoder.images.expand import expand
from encoder.images.labels.values import LabelValue
from encoder.levels import Level, parse_level
from encoder.model.image_encoder import ImageEncoder
from encoder.model.model_file import load_model
from encoder.training.dataset import read_images

Reals = npt.NDArray[np.floating]


def logits_of(encoder: ImageEncoder, shards: Sequence[str], level: Level, field: str) -> tuple[Reals, list[LabelValue]]:
    """Return float32[n, nbits] and each image's label."""
    with tempfile.TemporaryDirectory() as scratch:
        images = read_images(
            expand(shards), encoder.model.config.image_size, {level: field}, Path(scratch), lambda _: None
        )
        starts = range(0, len(images), 200)
        parts = [encoder.logits(np.array(images.pictures[start : start + 200]), [level])[level] for start in starts]
    return np.concatenate(parts), images.labels[level]


def precision_of(order: Reals, same: npt.NDArray[np.bool_]) -> float:
    """Return the tie-aware average precision of one query."""
    _, places = np.unique(order, return_inverse=True)
    counts = np.stack([np.bincount(places[chosen], minlength=places.max() + 1) for chosen in (~same, same)])
    return float(average_precision(counts[:, None])[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--train", nargs="+", required=True)
    parser.add_argument("--test", nargs="+", required=True)
    parser.add_argument("--label", default="fine")
    parser.add_argument("--level", default="fused")
    parser.add_argument("--depths", default="100,1000")
    parser.add_argument("--queries", type=int, default=2000)
    arguments = parser.parse_args()
    encoder, level = ImageEncoder(load_model(arguments.model)), parse_level(arguments.level)
    asking, asked = (logits_of(encoder, shards, level, arguments.label) for shards in (arguments.test, arguments.train))
    classes, _ = class_indices([*asking[1], *asked[1]])
    own, others = classes[: len(asking[1])], classes[len(asking[1]) :]
    queries, database = binarize(asking[0]), binarize(asked[0])
    bits = unpack(database)
    depths = [*(min(int(depth), len(database)) for depth in arguments.depths.split(",")), len(database)]
    names = ["by distance", *(f"first {depth:,} re-ordered" for depth in depths)]
    scores: dict[str, list[float]] = {name: [] for name in names}
    for at in np.random.default_rng(0).permutation(len(queries))[: arguments.queries].tolist():
        distances, same = hamming(queries[at : at + 1], database)[0].astype(np.float64), others == own[at]
        scores["by distance"].append(precision_of(distances, same))
        nearest = np.argsort(distances, kind="stable")
        asymmetric = (bits != (asking[0][at] >= 0)) @ np.abs(asking[0][at]).astype(np.float64)
        for depth in depths:
            order, first = distances + asymmetric.sum(), nearest[:depth]  # behind all that are re-ordered
            order[first] = asymmetric[first]
            scores[f"first {depth:,} re-ordered"].append(precision_of(order, same))
    print(
        f"{arguments.level}, {len(scores['by distance']):,} queries, {len(database):,} images\n\n| order | mAP |\n|---|---|"
    )
    for name, values in scores.items():
        print(f"| {name} | {np.nanmean(values):.4f} |")


if __name__ == "__main__":
    main()
