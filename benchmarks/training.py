"""The training rate against the bare forward and backward pass of the same network on tensors in memory.

usage: training.py SHARD... [--rounds 3] [--steps 40] [--recipe scratch] [--weights FILE] [--image-size N]

Each round times `steps` steps of the real training (reading from the decoded file, augmentation, network, losses,
optimiser, progress) and then `steps` bare ones: forward, losses and backward on one batch that lies in memory. The share is
the ratio of the two medians of one run.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from encoder.images.expand import expand
from encoder.images.shards import Shard
from encoder.levels import DEFAULT_LABELS, Level
from encoder.training.dataset import read_images
from encoder.training.job import Machine, make_learner
from encoder.training.loop import Training
from encoder.training.recipes import Recipe, settings_for
from encoder.training.settings import TrainSettings
from encoder.training.split import split_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--recipe", type=Recipe, default=Recipe.SCRATCH)
    parser.add_argument("--weights", default="none")
    parser.add_argument("--image-size", type=int)
    arguments = parser.parse_args()
    settings = settings_for(arguments.recipe, dict.fromkeys(Level, 64))
    end_to_end = next(phase for phase in settings.phases if phase.trunk)
    settings = replace(
        settings,
        phases=(end_to_end,),
        weights=arguments.weights,
        image_size=arguments.image_size or settings.image_size,
        held_out=0.0,
    )
    rates = measure(list(expand(arguments.shards)), settings, arguments.rounds, arguments.steps)
    print(
        f"{settings.backbone.name}, {settings.image_size} px, batch {settings.batch}, {torch.get_num_threads()} threads"
    )
    print("| measured | median | min | max |")
    print("|---|---|---|---|")
    for name, values in rates.items():
        print(f"| {name}, images/s | {statistics.median(values):.1f} | {min(values):.1f} | {max(values):.1f} |")
    share = statistics.median(rates["training"]) / statistics.median(rates["bare"])
    print(f"\ntraining reaches {share:.1%} of the bare passes")


def measure(
    shards: list[Shard], settings: TrainSettings, rounds: int, steps: int, device_name: str = "cpu"
) -> dict[str, list[float]]:
    """Return images per second of each round, of training and of the bare passes."""
    device, dtype = Machine(device_name).resolve()
    phase = settings.phases[0]
    rates: dict[str, list[float]] = {"training": [], "bare": []}
    with tempfile.TemporaryDirectory() as scratch:
        side = settings.image_size if not settings.area else round(1.15 * settings.image_size)
        images = read_images(shards, side, settings.labels or DEFAULT_LABELS, Path(scratch), lambda _: None)
        parts = split_images(images, settings)
        learner, _, _ = make_learner(images, parts, settings, dtype)
        learner.to(device).to(memory_format=torch.channels_last)
        batch = settings.batch
        per_epoch = max(1, len(parts.trained) // batch)
        short = replace(settings, phases=(replace(phase, epochs=(steps + 1) / per_epoch),))
        top = images.pictures[:batch, : settings.image_size, : settings.image_size]
        pictures = torch.from_numpy(np.array(top)).to(device)
        rows = np.arange(batch)
        labels = {level: torch.from_numpy(values[rows]).to(device) for level, values in parts.classes.items()}
        for number in range(rounds):
            stamps: list[float] = []
            checkpoint = Path(scratch, f"{number}.checkpoint")
            training = Training(learner, short, images.pictures, parts, (0, 1), checkpoint, "")
            training.run(lambda _, stamps=stamps: stamps.append(time.perf_counter()))  # type: ignore[misc]
            rates["training"].append(batch * (len(stamps) - 2) / (stamps[-2] - stamps[0]))
            learner.train()
            wait(device)
            started = time.perf_counter()
            for _ in range(steps):
                learner.zero_grad(set_to_none=True)
                loss, _ = learner.loss(
                    learner.logits(pictures, phase.levels), labels, torch.from_numpy(rows).to(device), 0.5
                )
                torch.autograd.backward(loss)
            wait(device)
            rates["bare"].append(batch * steps / (time.perf_counter() - started))
    return rates


def wait(device: torch.device) -> None:
    """Wait for what a GPU has still to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
