"""What a schedule has to do, in parts that take a like time per unit: passes through the network, steps, scores."""

import math
from collections.abc import Callable, Hashable
from enum import StrEnum

from encoder.runtime.pace import Part
from encoder.training.settings import Phase, TrainSettings

NETWORK, HASHING = "network", "hashing"
BACKWARD = 2.0
"""Passes forward that a pass backward takes as long as: it has two products where the other has one."""
HASHED_SECONDS = 1e-4
"""A guess until it is measured: training hash layers on the features of one picture took 0.6e-4 s with features of 576 numbers
and a batch of 64, and takes about 2e-4 s with 3,584."""


class Work(StrEnum):
    """What a phase is made of."""

    FEATURES = "features"
    """Its unit is one picture."""
    STEPS = "steps"
    """Its unit is one step."""
    SCORES = "scores"
    """Its unit is one epoch's held-out score."""


def steps_per_epoch(pictures: int, batch: int) -> int:
    """Return how many full batches an epoch of so many pictures has, at least one."""
    return max(1, pictures // batch)


def steps_of(phase: Phase, per_epoch: int) -> int:
    """Return the steps of a phase, at least one."""
    return max(1, round(phase.epochs * per_epoch))


def workload(
    settings: TrainSettings, trained: int, held_out: int, has_views: Callable[[Phase], bool]
) -> dict[Hashable, Part]:
    """Return the parts of a training by (number of the phase, work).

    Args:
        settings: the schedule.
        trained: pictures that are trained on.
        held_out: pictures that are scored after each epoch.
        has_views: whether a phase shows each picture in two views.
    """
    parts: dict[Hashable, Part] = {}
    for number, phase in enumerate(settings.phases):
        views = 2 if has_views(phase) else 1
        copies = math.ceil(phase.copies / views) * views
        per_epoch = steps_per_epoch(trained * (copies or 1), settings.batch)
        steps = steps_of(phase, per_epoch)
        passes = views * (1 + BACKWARD * (phase.trunk > 0))
        parts[number, Work.FEATURES] = Part(copies * trained, 1.0, NETWORK)
        parts[number, Work.STEPS] = (
            Part(steps, HASHED_SECONDS * settings.batch, HASHING)
            if copies
            else Part(steps, passes * settings.batch, NETWORK)
        )
        parts[number, Work.SCORES] = Part(math.ceil(steps / per_epoch), views * float(held_out), NETWORK)
    return parts
