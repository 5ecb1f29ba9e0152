"""What each part of the recipe is worth: the same short training with one thing changed, scored on held-out images.

usage: ablation.py SHARD... [--epochs 8] [--held-out 0.1] [--only NAME...] [--seeds 1] [--out ablation.json]

Every row trains from scratch as the built-in model was trained (`make builtin-model`) but for its own change, on the same images, and prints the tie-aware
leave-one-out mAP of the held-out part of the training images (fused and mid: class; coarse: kind). No test image is looked at. Rows that are done are kept in `--out`, so that a run that was cut goes on.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from encoder.images.expand import expand
from encoder.images.shards import Shard
from encoder.levels import Level
from encoder.model.spec import Pooling
from encoder.training.job import train
from encoder.training.losses.names import LossKind
from encoder.training.recipes import CLASS_LEVELS, Recipe, settings_for
from encoder.training.settings import Phase, TrainSettings


def variants(base: TrainSettings) -> Mapping[str, TrainSettings]:
    """Return the changes by name."""
    first = base.phases[0]
    epochs, rate = first.epochs, first.rate
    alone = Phase(epochs, rate, (Level.FUSED,), trunk=1.0)
    heads = Phase(epochs / 4, 0.1, CLASS_LEVELS)
    return {
        "default": base,
        "attention off": replace(base, pooling=Pooling.MEAN),
        "plain pooling": replace(base, pooling=Pooling.PLAIN),
        "no exit at mid": replace(base, exits={}),
        "no nested centres": replace(base, nested=False),
        "no norms around the hash layers": replace(base, standardise=False),
        "no deep supervision: fused alone, then the stages' hash layers": replace(base, phases=(alone, heads)),
        "stages weigh as much as fused": replace(base, weight={}),
        "distillation 0.1": replace(base, distillation=0.1),
        "distillation 1": replace(base, distillation=1.0),
        "staged: end to end, then hash layers on a frozen trunk": replace(base, phases=(first, heads)),
        "greedyhash at mid": replace(base, losses={**base.losses, Level.MID: LossKind.GREEDYHASH}),
        "cutout off": replace(base, cutout=0),
        "rate x2": replace(base, phases=(replace(first, rate=2 * rate),)),
        "rate / 2": replace(base, phases=(replace(first, rate=rate / 2),)),
        "decay / 2": replace(base, decay=base.decay / 2),
        "batch x2": replace(base, batch=2 * base.batch),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="+")
    parser.add_argument("--epochs", type=float, default=8)
    parser.add_argument("--held-out", type=float, default=0.1)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("ablation.json"))
    arguments = parser.parse_args()
    base = settings_for(Recipe.SCRATCH, dict.fromkeys(Level, 64), arguments.epochs)
    losses = {**base.losses, Level.MID: LossKind.ORTHOHASH}
    base = replace(base, phases=base.phases[:1], losses=losses, held_out=arguments.held_out)
    shards, done = list(expand(arguments.shards)), _done(arguments.out)
    print("| change | fused | mid | coarse | seed |\n|---|---|---|---|---|")
    for seed in range(arguments.seeds):
        for name, settings in variants(base).items():
            if arguments.only and name not in arguments.only:
                continue
            row = f"{name}, seed {seed}"
            if row not in done:
                done[row] = _scores(shards, replace(settings, seed=seed))
                arguments.out.write_text(json.dumps(done))
            scores = " | ".join(f"{done[row].get(level, float('nan')):.3f}" for level in ("fused", "mid", "coarse"))
            print(f"| {name} | {scores} | {seed} |", flush=True)


def _done(path: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _scores(shards: list[Shard], settings: TrainSettings) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as scratch:
        return train(shards, settings, Path(scratch, "model"), lambda _: None).scores


if __name__ == "__main__":
    main()
