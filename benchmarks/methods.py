"""Every hash function and every loss on the same features: mAP and training time at 16, 32 and 64 bits.

usage: methods.py MODEL --train SHARD... --test SHARD... [--label mid=fine] [--bits 16,32,64] [--steps 4000] [--only NAME...]

The trunk of MODEL runs once over both splits; what its fused hash layer reads is kept, and every method makes a hash layer
for it from the training split: `--hash` by fitting, `--loss` by SGD on norm, linear, norm (the form `encoder train` uses,
no augmentation). Test images ask, training images are the database, relevant is the same class; mAP is tie-aware over the
whole database. Constants are those of the methods' sources; the learning rate of each loss is the one of RATES that is best
on a tenth of the training images after a fifth of the steps. No test image chooses anything. dqn makes quantisation codes,
compared by table look-up with real-valued queries: not a Hamming code, so its row is for orientation alone.

Seconds are those of the fit or training on cached features. Rows that are done are kept in `--out`, so that a run that was
cut goes on.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from encoder.bits import binarize
from encoder.evaluation.counts import blocks, count_codes, count_reals
from encoder.evaluation.metrics import average_precision
from encoder.hashing.methods import fit_layer
from encoder.hashing.names import HashKind
from encoder.images.classes import class_indices, parse_label_map
from encoder.images.expand import expand
from encoder.images.labels.values import LabelValue
from encoder.images.shards import Shard
from encoder.levels import Level
from encoder.model.model_file import Model, load_model
from encoder.training.class_codes import spread_codes
from encoder.training.dataset import read_images
from encoder.training.learner import HashLearner
from encoder.training.losses.criteria import make_criterion
from encoder.training.losses.dqn import fit_codebooks, lookup_distances, quantise
from encoder.training.losses.names import LossKind

BATCH, DECAY, WARMUP = 256, 5e-4, 0.2
"""Those of the hash-layer phase of `encoder train`."""
RATES = (0.01, 0.1, 1.0)
"""Highest learning rates that are tried; `encoder train` has 0.1."""
FIT_SAMPLE = 5_000
"""Images that hash functions are fitted to, at most, as `encoder fit` does."""

Features = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Logits = Callable[[Features], Features]
"""What a hash layer makes of features: float32[n, nbits] of float32[n, dim]."""


@dataclass(frozen=True, slots=True)
class Split:
    """Features and classes of one split."""

    features: Features
    classes: Indices

    def rows(self, chosen: Indices) -> "Split":
        """Return a part of it."""
        return Split(self.features[chosen], self.classes[chosen])


def split_of(model: Model, shards: Sequence[Shard], field: str, scratch: Path) -> tuple[Features, list[LabelValue]]:
    """Return what the fused hash layer reads, float32[n, dim], and each image's label."""
    size = model.config.image_size
    images = read_images(shards, size, {Level.MID: field}, scratch, lambda _: None)
    found = []
    with torch.inference_mode():
        for start in range(0, len(images), 200):
            pictures = torch.from_numpy(np.array(images.pictures[start : start + 200]))
            with torch.autocast("cpu", torch.bfloat16):
                found.append(model.network.features(pictures, [Level.FUSED])[Level.FUSED].float().numpy())
    return np.concatenate(found), images.labels[Level.MID]


def tie_aware_map(counts: Callable[[slice], npt.NDArray[np.int64]], queries: int, database: int) -> float:
    scores = [average_precision(counts(part)) for part in blocks(queries, database)]
    return float(np.nanmean(np.concatenate(scores)))


def map_of_codes(test: Split, train: Split, logits: Logits) -> float:
    queries, database = binarize(logits(test.features)), binarize(logits(train.features))
    labels = test.classes[:, None], train.classes[:, None]
    return tie_aware_map(
        lambda part: count_codes(queries[part], database, labels[0][part], labels[1]), len(queries), len(database)
    )


def fitted(kind: HashKind, nbits: int, train: Split, seed: int) -> Logits:
    rng = np.random.default_rng(seed)
    some = np.sort(rng.permutation(len(train.features))[:FIT_SAMPLE])
    return fit_layer(kind, train.features[some], nbits, rng, train.classes[some]).logits


def best_rate(kind: LossKind, nbits: int, train: Split, steps: int, seed: int) -> float:
    order = np.random.default_rng(seed).permutation(len(train.classes))
    held_out, rest = train.rows(order[: len(order) // 10]), train.rows(order[len(order) // 10 :])
    score = map_of(kind)
    scores = {rate: score(held_out, rest, trained(kind, nbits, rest, steps // 5, rate, seed)) for rate in RATES}
    return max(scores, key=lambda rate: scores[rate])


def trained(kind: LossKind, nbits: int, train: Split, steps: int, rate: float, seed: int) -> Logits:
    torch.manual_seed(seed)
    classes = int(train.classes.max()) + 1
    targets = torch.from_numpy(spread_codes(classes, nbits, np.random.default_rng(seed)))
    learner = HashLearner(train.features.shape[1], nbits, standardise=True)
    criterion = make_criterion(kind, targets, len(train.features))
    parameters = [*learner.parameters(), *criterion.parameters()]
    optimiser = torch.optim.SGD(parameters, rate, momentum=0.9, nesterov=True, weight_decay=DECAY)
    features, labels = torch.from_numpy(train.features), torch.from_numpy(train.classes)
    learner.train()
    criterion.train()
    rows = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        done = step / steps
        height = done / WARMUP if done < WARMUP else (1 - done) / (1 - WARMUP)
        for group in optimiser.param_groups:
            group["lr"] = rate * max(height, 0.01)
        if len(rows) < BATCH:
            rows = torch.randperm(len(features))
        now, rows = rows[:BATCH], rows[BATCH:]
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(criterion(learner(features[now]), labels[now], now, done))
        optimiser.step()
    learner.eval()

    @torch.inference_mode()
    def logits(features: Features) -> Features:
        values: Features = learner(torch.from_numpy(features)).numpy()
        return values

    return logits


def map_of_dqn(test: Split, train: Split, logits: Logits) -> float:
    stored = torch.from_numpy(logits(train.features))
    codebooks = fit_codebooks(stored)
    codes = quantise(stored, codebooks)
    queries = torch.from_numpy(logits(test.features))
    scores = []
    for part in blocks(len(queries), len(codes)):
        distances = lookup_distances(queries[part], codes, codebooks).numpy()
        for row, own in zip(distances, test.classes[part], strict=True):
            _, level = np.unique(row, return_inverse=True)
            same = train.classes == own
            counts = np.stack([np.bincount(level[chosen], minlength=level.max() + 1) for chosen in (~same, same)])
            scores.append(average_precision(counts[:, None]))
    return float(np.nanmean(np.concatenate(scores)))


def map_of(kind: HashKind | LossKind) -> Callable[[Split, Split, Logits], float]:
    return map_of_dqn if kind is LossKind.DQN else map_of_codes


def measure(
    kind: HashKind | LossKind, nbits: int, test: Split, train: Split, steps: int, seed: int
) -> tuple[float, float, float | None]:
    """Return the mAP, the seconds of the fit or training, and the learning rate where there is one."""
    if isinstance(kind, LossKind):
        rate = best_rate(kind, nbits, train, steps, seed)
        make = partial(trained, kind, nbits, train, steps, rate, seed)
    else:
        rate, make = None, partial(fitted, kind, nbits, train, seed)
    started = time.perf_counter()
    layer = make()
    seconds = time.perf_counter() - started
    return map_of(kind)(test, train, layer), seconds, rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--train", nargs="+", required=True)
    parser.add_argument("--test", nargs="+", required=True)
    parser.add_argument("--label", default="mid=fine")
    parser.add_argument("--bits", default="16,32,64")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--only", nargs="*", help="names of hash functions and losses")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("methods.json"))
    arguments = parser.parse_args()
    model, field = load_model(arguments.model), parse_label_map(arguments.label)[Level.MID]
    scratch = arguments.out.resolve().parent
    (train_features, train_labels), (test_features, test_labels) = (
        split_of(model, expand(shards), field, scratch) for shards in (arguments.train, arguments.test)
    )
    classes, _ = class_indices([*train_labels, *test_labels])
    train = Split(train_features, classes[: len(train_labels)])
    test = Split(test_features, classes[len(train_labels) :])
    mean = train.features.mean(axis=0)
    real = tie_aware_map(
        lambda part: count_reals(
            test.features[part] - mean, train.features - mean, test.classes[part, None], train.classes[:, None]
        ),
        len(test.features),
        len(train.features),
    )
    methods = {f"hash {kind}": kind for kind in HashKind} | {
        f"loss {kind}": kind for kind in LossKind if kind is not LossKind.CONTRASTIVE_VIEWS
    }
    done: dict[str, tuple[float, float, float | None]] = (
        json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    )
    print(f"{len(test.classes)} queries, {len(train.classes)} images; the real-valued features by cosine: {real:.3f}\n")
    print("| method | bits | mAP | training s | rate |\n|---|---|---|---|---|")
    for nbits in map(int, arguments.bits.split(",")):
        for name, kind in methods.items():
            if arguments.only and kind not in arguments.only:
                continue
            row = f"{name}, {nbits} bits"
            if row not in done:
                done[row] = measure(kind, nbits, test, train, arguments.steps, arguments.seed)
                arguments.out.write_text(json.dumps(done))
            score, seconds, rate = done[row]
            print(f"| {name} | {nbits} | {score:.3f} | {seconds:.1f} | {rate or '-'} |", flush=True)


if __name__ == "__main__":
    main()
