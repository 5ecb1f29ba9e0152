"""What the hash layers read, computed once: a trunk that stays as it is says the same of the same picture every time.

Each picture is kept in a few changed copies. Then an epoch costs no pass through the trunk, and hash layers can be trained
for as long as they still learn something.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from encoder.levels import Level
from encoder.runtime.publish import write_failed
from encoder.training.batches import Batch, Batches
from encoder.training.dataset import Indices
from encoder.training.workload import steps_per_epoch

Features = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FeatureBatches:
    """Makes the batches of a phase from features.

    Args:
        features: float32[copies, m, dim] by level, of the m pictures trained on.
        batch: pictures of a step.
        views: whether each picture is given in two of its copies.
        seed: of the order.
    """

    features: Mapping[Level, Features]
    batch: int
    views: bool
    seed: int

    @property
    def shape(self) -> tuple[int, int]:
        """Return how many copies there are, and of how many pictures."""
        copies, count, _ = next(iter(self.features.values())).shape
        return copies, count

    @property
    def steps_per_epoch(self) -> int:
        """Return how many full batches an epoch has, in which each copy is shown once."""
        copies, count = self.shape
        return steps_per_epoch(copies * count, self.batch)

    def between(self, phase: int, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches of steps start..stop - 1 of a phase."""
        for epoch, steps in groupby(range(start, stop), lambda step: step // self.steps_per_epoch):
            copies, rows = self._order(phase, epoch)
            for step in steps:
                position = step % self.steps_per_epoch
                here = slice(position * self.batch, (position + 1) * self.batch)
                chosen = [copies[here]]
                if self.views:
                    rng = np.random.default_rng([self.seed, phase, step, 1])
                    others = rng.integers(1, self.shape[0], len(chosen[0]))
                    chosen.append((chosen[0] + others) % self.shape[0])
                features = {
                    level: torch.from_numpy(np.concatenate([values[copy, rows[here]] for copy in chosen]))
                    for level, values in self.features.items()
                }
                yield Batch(torch.from_numpy(rows[here]), features)

    def _order(self, phase: int, epoch: int) -> tuple[Indices, Indices]:
        """Return an epoch's copies and rows, int64[copies m]: each row once before any comes again, in another copy."""
        copies, count = self.shape
        rng = np.random.default_rng([self.seed, phase, epoch])
        rows = np.concatenate([rng.permutation(count) for _ in range(copies)])
        shown = np.repeat(np.arange(copies), count) + rng.integers(0, copies, count)[rows]
        return shown % copies, rows


def compute_features(
    batches: Batches,
    phase: int,
    copies: int,
    features_of: Callable[[Tensor], Mapping[Level, Tensor]],
    folder: Path,
    progress: Callable[[int], None],
) -> FeatureBatches:
    """Compute the features of `copies` changed copies of each picture trained on.

    Args:
        batches: which pictures, and how they are changed.
        phase: its number, which seeds the changes.
        copies: of each; even for views, which are made in twos.
        features_of: float32[n, dim] by level of pictures [n, size, size, 3].
        folder: where the unnamed files are made; they hold 4 copies dim bytes per picture and level.
        progress: called with the copies done so far.

    Raises:
        HashgrainError: `write-failed`.
    """
    count, done = len(batches.chosen), 0
    features: dict[Level, Features] = {}
    try:
        for copy, start, pictures in batches.copies(phase, copies):
            for level, values in features_of(pictures).items():
                if level not in features:
                    features[level] = _unnamed(folder, (copies, count, values.shape[1]))
                features[level][copy, start : start + len(values)] = values.numpy()
            done += len(pictures)
            progress(done)
    except OSError as err:
        raise write_failed(f"features in {folder}", err) from err
    return FeatureBatches(features, batches.settings.batch, batches.views, batches.settings.seed)


def _unnamed(folder: Path, shape: tuple[int, int, int]) -> Features:
    """Return a memory map of a file that nobody else can see and that is gone with the last use of it."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(4 * int(np.prod(shape)))
        return np.memmap(file, np.float32, "r+", shape=shape)
