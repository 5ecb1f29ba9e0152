"""Batches of changed pictures, made ahead of the network by threads of their own, and on their way to its device.

A step's randomness comes from the seed, the phase and the step alone, so a training that was cut goes on as it would have.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from encoder.levels import Level
from encoder.runtime.cores import worker_count
from encoder.runtime.parallel import ordered_map
from encoder.training.augment import cutout, shift, view, warp
from encoder.training.dataset import Indices, Pictures
from encoder.training.settings import TrainSettings
from encoder.training.workload import steps_per_epoch

CHUNK = 64
"""Pictures that share a random generator: the share of a batch that a process makes is a whole number of chunks."""
MOST_WORKERS: Final = 8
"""Threads that make pictures beside a GPU; more would keep the interpreter from the one that launches its kernels."""
CPU: Final = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures of one step, or their features."""

    rows: Tensor
    """int64[n], positions among the images trained on; of the whole batch, in all processes together."""
    inputs: Tensor | Mapping[Level, Tensor]
    """Pictures [n, size, size, 3] on the network's device, this process's share of them; or features float32[n, dim] of the
    whole batch by level. Where levels learn from views, first ones and then second ones."""


@dataclass(frozen=True, slots=True)
class _Job:
    rows: Indices
    seed: tuple[int, ...]
    flips: Tensor


@dataclass(frozen=True, slots=True)
class Batches:
    """Makes the batches of a phase.

    Args:
        pictures: uint8[n, side, side, 3] of all images read.
        chosen: int64[m], the rows trained on.
        settings: size of a batch, augmentation, seed.
        views: whether each picture is given in two views instead of one changed picture.
        share: (number of this process, processes): it makes only its part of each batch.
        device: where the pictures are to be.
        workers: threads that make them; whatever their number, the pictures are the same.
    """

    pictures: Pictures
    chosen: Indices
    settings: TrainSettings
    views: bool = False
    share: tuple[int, int] = (0, 1)
    device: torch.device = CPU
    workers: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Return how many full batches an epoch has; what is left over comes in another epoch, whose order is another."""
        return steps_per_epoch(len(self.chosen), self.settings.batch)

    def between(self, phase: int, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches of steps start..stop - 1 of a phase."""
        made = self._made(job for step in range(start, stop) for job in self._jobs(phase, step))
        per_batch = len(self._bounds())
        for step in range(start, stop):
            parts = [next(made) for _ in range(per_batch)]
            others = [other for _, other in parts if other is not None]
            pictures = torch.cat([picture for picture, _ in parts] + others)  # on the device
            yield Batch(torch.from_numpy(self.rows_of(phase, step)), pictures)

    def copies(self, phase: int, count: int) -> Iterator[tuple[int, int, Tensor]]:
        """Yield `count` changed copies of every picture: (number of the copy, first row, a chunk of pictures).

        Where levels learn from views, copies are views, made in twos: an odd count is one too many.
        """
        starts = [
            (number, start)
            for number in range(0, count, 2 if self.views else 1)
            for start in range(0, len(self.chosen), CHUNK)
        ]
        rows = np.arange(len(self.chosen))
        made = self._made(
            self._job(rows[start : start + CHUNK], number, (phase, number, start)) for number, start in starts
        )
        for (number, start), (first, second) in zip(starts, made, strict=True):
            yield number, start, first
            if second is not None:
                yield number + 1, start, second

    def rows_of(self, phase: int, step: int) -> Indices:
        """Return the rows of a step's whole batch, in all processes together."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.settings.seed, phase, epoch]).permutation(len(self.chosen))
        return order[position * self.settings.batch : (position + 1) * self.settings.batch]

    def _bounds(self) -> list[int]:
        """Return where this process's chunks of a batch start."""
        starts = list(range(0, min(self.settings.batch, len(self.chosen)), CHUNK))
        number, processes = self.share
        each = len(starts) // processes
        return starts[number * each : (number + 1) * each] if processes > 1 else starts

    def _jobs(self, phase: int, step: int) -> Iterator[_Job]:
        rows = self.rows_of(phase, step)
        for start in self._bounds():
            yield self._job(rows[start : start + CHUNK], step // self.steps_per_epoch, (phase, step, start))

    def _job(self, rows: Indices, epoch: int, seed: tuple[int, int, int]) -> _Job:
        # every picture is mirrored in every second epoch, a random half of them in the first (Jordan 2024)
        flips = torch.from_numpy((rows * 2654435761 // 2**15 + epoch) % 2 == 1)
        return _Job(rows, (self.settings.seed, *seed), flips)

    def _made(self, jobs: Iterable[_Job]) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield the pictures of each job in order, on their way to the device, for which nobody waits."""
        # beside a network on the CPU one thread that may use its cores; beside a GPU each worker uses one
        for first, second in ordered_map(self._pinned, jobs, self.workers, alone=self.workers > 1):
            yield self._sent(first), None if second is None else self._sent(second)

    def _sent(self, pictures: Tensor) -> Tensor:
        return pictures.to(self.device, non_blocking=True)

    def _pinned(self, job: _Job) -> tuple[Tensor, Tensor | None]:
        """Make pictures; for a GPU in memory that it reads itself."""
        first, second = self._make(job)
        if self.device.type == "cuda":
            return first.pin_memory(), None if second is None else second.pin_memory()
        return first, second

    def _make(self, job: _Job) -> tuple[Tensor, Tensor | None]:
        settings = self.settings
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence(job.seed).generate_state(1)[0]))
        pictures = torch.from_numpy(self.pictures[self.chosen[job.rows]])
        if self.views:
            first, second = (view(pictures, settings.image_size, generator) for _ in range(2))
            return first, second
        if settings.area:
            pictures = warp(pictures, settings.image_size, settings.area, 0, generator)
        else:
            pictures = shift(pictures, settings.pad, job.flips, generator)
        if settings.cutout:
            pictures = cutout(pictures, settings.cutout, generator)
        return pictures, None


def workers_beside(device: torch.device, processes: int) -> int:
    """Return how many threads of each process make pictures: one beside a network on the CPU, which has the other cores."""
    return 1 if device.type == "cpu" else min(MOST_WORKERS, max(1, worker_count() // processes - 1))
