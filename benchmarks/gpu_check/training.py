"""Training steps against bare forward and backward passes of the same network on tensors on the device."""

from dataclasses import replace
from statistics import median
from typing import Final

from benchmarks.gpu_check.check import Check
from benchmarks.gpu_check.photos import Kind, tars_of
from benchmarks.training import measure
from encoder.images.expand import expand
from encoder.levels import Level
from encoder.training.recipes import Recipe, settings_for

STEPS: Final = 20
BATCH: Final = 256


def training(check: Check) -> None:
    """Train a trunk from random weights: a step is the same, whatever they are."""
    recipe = Recipe.FINETUNE if check.on_gpu else Recipe.SCRATCH
    settings = settings_for(recipe, dict.fromkeys(Level, 64))
    end_to_end = next(phase for phase in settings.phases if phase.trunk)
    batch = BATCH if check.on_gpu else 16
    settings = replace(settings, phases=(end_to_end,), weights="none", held_out=0.0, batch=batch)
    shards = expand([str(tar) for tar in tars_of(check, Kind.EQUAL)])
    rates = measure(list(shards), settings, 1, check.count(STEPS, 2), str(check.device))
    for name, each in rates.items():
        check.result(f"{name}, {settings.backbone.name}@{settings.image_size}, batch {batch}", median(each), "images/s")
    check.result("training of the bare passes", 100 * median(rates["training"]) / median(rates["bare"]), "%")
