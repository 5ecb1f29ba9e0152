"""The loop: phases of steps, a rate that climbs and falls, a held-out score after each epoch, checkpoints in between."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from encoder.runtime.pace import Pace
from encoder.training.batches import Batch, Batches, workers_beside
from encoder.training.checkpoint import load_checkpoint, save_checkpoint
from encoder.training.dataset import Pictures
from encoder.training.distributed import sum_gradients
from encoder.training.feature_cache import FeatureBatches, compute_features
from encoder.training.learner import Learner
from encoder.training.settings import Phase, TrainSettings
from encoder.training.split import Parts
from encoder.training.validation import held_out_scores
from encoder.training.workload import Work, steps_of, workload

CHECKPOINT_SECONDS = 60
"""The most work that a kill can cost, next to one step."""


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """Where a training is."""

    phase: int
    share: float
    """Of the whole training's time, as far as it can be known; it never falls."""
    left: float | None
    """Seconds of all phases that are still to come."""
    loss: float | None
    """Mean of the epoch so far; None while features are computed."""
    rate: float
    """Images per second."""
    score: float | None
    """Last held-out score."""


@dataclass(slots=True)
class State:
    """What a checkpoint holds next to the tensors."""

    phase: int = 0
    step: int = 0
    """Steps done in this phase."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One row an epoch: phase, steps done, mean loss by part, held-out score by level, whether its weights were kept."""
    sums: dict[str, float] = field(default_factory=dict)
    """Losses of the epoch so far, summed over steps."""
    best: float = -1.0
    """Highest mean held-out score of an epoch of this phase."""
    stale: int = 0
    """Epochs since it."""


@dataclass(slots=True)
class Training:
    """A training that runs, or goes on, to its end.

    Args:
        learner: what is trained.
        settings: the schedule.
        pictures: of all images read.
        parts: which of them are trained on and which held out, and their classes.
        share: (number of this process, processes).
        checkpoint: file that a cut training goes on from.
        digest: of data and settings, so that nobody goes on with something else.
    """

    learner: Learner
    settings: TrainSettings
    pictures: Pictures
    parts: Parts
    share: tuple[int, int]
    checkpoint: Path
    digest: str
    pace: Pace = field(init=False)

    @property
    def device(self) -> torch.device:
        """Return where the learner is."""
        return next(self.learner.parameters()).device

    @property
    def score_error(self) -> float:
        """Return how far a held-out score may be off by chance: of n scores in 0..1, at most 1 / (2 sqrt n) in the mean."""
        return 0.5 / math.sqrt(max(1, len(self.parts.held_out)))

    def run(self, progress: Callable[[TrainProgress], None]) -> list[dict[str, Any]]:
        """Train to the end and return the history.

        Each phase ends with the weights of its last epoch whose held-out score is within one standard error of the best:
        the rate falls to 0, so a later epoch is the better one unless it is clearly worse (the one-standard-error rule of
        Breiman et al., Classification and regression trees, 1984).
        """
        state = State()
        trained, held_out = len(self.parts.trained), len(self.parts.held_out)
        self.pace = Pace(workload(self.settings, trained, held_out, self._has_views))
        resumed = load_checkpoint(self.checkpoint, self.digest, self.device)
        if resumed:
            state = State(**resumed["state"])
            self.learner.load_state_dict(resumed["learner"])
        for number in range(state.phase):
            self._skip(number)
        for number in range(state.phase, len(self.settings.phases)):
            self._phase(number, state, resumed, progress)
            state = State(phase=number + 1, history=state.history)
            resumed = None
        return state.history

    def _phase(
        self, number: int, state: State, resumed: dict[str, Any] | None, progress: Callable[[TrainProgress], None]
    ) -> None:
        phase = self.settings.phases[number]
        batches = self._batches(number, progress)
        steps = steps_of(phase, batches.steps_per_epoch)
        optimiser = self._optimiser(phase)
        kept = resumed["kept"] if resumed else None
        if resumed and resumed["optimiser"]:
            optimiser.load_state_dict(resumed["optimiser"])
        saved = began = time.monotonic()
        first = state.step
        self.pace.skip((number, Work.STEPS), first)
        self.pace.skip((number, Work.SCORES), first // batches.steps_per_epoch)
        for batch in batches.between(number, first, steps):
            self._set_rate(optimiser, phase, state.step / steps)
            for name, value in self._step(batch, phase, optimiser, state.step / steps).items():
                if not math.isfinite(value):
                    raise HashgrainError(
                        Reason.TRAINING_DIVERGED,
                        f"the loss of {name} is {value} at step {state.step:,} of phase {number + 1}; "
                        "train with another loss, a larger batch or precision fp32",
                    )
                state.sums[name] = state.sums.get(name, 0.0) + value
            state.step += 1
            self.pace.reach((number, Work.STEPS), state.step)
            epoch, in_epoch = divmod(state.step - 1, batches.steps_per_epoch)
            in_epoch += 1
            loss = sum(state.sums.values()) / in_epoch
            if in_epoch == batches.steps_per_epoch or state.step == steps:
                if self._end_epoch(phase, state, in_epoch):
                    kept = {name: tensor.clone() for name, tensor in self.learner.state_dict().items()}
                self.pace.reach((number, Work.SCORES), epoch + 1)
            speed = (state.step - first) * self.settings.batch / max(time.monotonic() - began, 1e-9)
            progress(self._progress(state, loss, speed))
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self._save(state, optimiser, kept)
                saved = time.monotonic()
            if self.settings.patience and state.stale >= self.settings.patience:
                break
        self._skip(number)  # what patience has spared
        if kept:
            self.learner.load_state_dict(kept)
        self._save(State(phase=number + 1, history=state.history), None, None)

    def _batches(self, number: int, progress: Callable[[TrainProgress], None]) -> Batches | FeatureBatches:
        """Return what makes a phase's batches: pictures, or features where the phase says so."""
        phase = self.settings.phases[number]
        batches = Batches(
            self.pictures, self.parts.trained, self.settings, self._has_views(phase),
            (0, 1) if phase.copies else self.share, self.device, workers_beside(self.device, self.share[1]),
        )  # fmt: skip
        if not phase.copies:
            return batches
        self.learner.eval()
        began = time.monotonic()

        @torch.no_grad()
        def features_of(pictures: Tensor) -> dict[Level, Tensor]:
            found = self.learner.features(pictures, phase.levels)
            return {level: values.cpu() for level, values in found.items()}

        def computed(copies: int) -> None:
            self.pace.reach((number, Work.FEATURES), copies)
            progress(self._progress(State(phase=number), None, copies / max(time.monotonic() - began, 1e-9)))

        return compute_features(batches, number, phase.copies, features_of, self.checkpoint.parent, computed)

    def _has_views(self, phase: Phase) -> bool:
        return any(level not in self.learner.criteria for level in phase.levels)

    def _end_epoch(self, phase: Phase, state: State, steps: int) -> bool:
        """Write the epoch's row into the history and return whether its weights are to be kept."""
        scores = held_out_scores(self.learner, self.pictures, self.parts, phase.levels, self.settings.image_size)
        mean = _mean(scores)
        losses = {name: round(value / steps, 5) for name, value in state.sums.items()}
        kept = mean >= state.best - self.score_error
        row = {"phase": state.phase, "step": state.step, "loss": losses, "score": scores, "kept": kept}
        state.history.append(row)
        state.sums = {}
        state.stale = 0 if mean > state.best else state.stale + 1
        state.best = max(state.best, mean)
        return kept

    def _skip(self, number: int) -> None:
        for work in Work:
            self.pace.skip((number, work))

    def _progress(self, state: State, loss: float | None, speed: float) -> TrainProgress:
        score = _mean(state.history[-1]["score"]) if state.history else None
        return TrainProgress(state.phase, self.pace.share, self.pace.left, loss, speed, score)

    def _save(self, state: State, optimiser: torch.optim.Optimizer | None, kept: dict[str, Tensor] | None) -> None:
        if self.share[0] != 0:
            return
        content = {
            "state": asdict(state),
            "learner": self.learner.state_dict(),
            "optimiser": optimiser.state_dict() if optimiser else None,
            "kept": kept,
        }
        save_checkpoint(self.checkpoint, self.digest, content)

    def _optimiser(self, phase: Phase) -> torch.optim.Optimizer:
        backbone = set(self.learner.network.backbone.parameters())
        groups: list[dict[str, Any]] = []
        for trunk in (True, False):
            params = [p for p in self.learner.parameters() if (p in backbone) is trunk and (phase.trunk or not trunk)]
            for decays in (True, False):  # norms and biases are not pulled to zero
                chosen = [p for p in params if (p.ndim > 1) is decays]
                share = phase.trunk if trunk else 1.0
                groups.append(
                    {"params": chosen, "share": share, "weight_decay": self.settings.decay if decays else 0.0}
                )
        return torch.optim.SGD(
            [group for group in groups if group["params"]],
            lr=phase.rate,
            momentum=self.settings.momentum,
            nesterov=True,
        )

    def _set_rate(self, optimiser: torch.optim.Optimizer, phase: Phase, done: float) -> None:
        height = done / phase.warmup if done < phase.warmup else (1 - done) / (1 - phase.warmup)
        for group in optimiser.param_groups:
            group["lr"] = phase.rate * self.settings.batch / 256 * group["share"] * max(height, 0.01)

    def _step(self, batch: Batch, phase: Phase, optimiser: torch.optim.Optimizer, done: float) -> dict[str, float]:
        self.learner.train()
        if not phase.trunk or self.settings.frozen_norms:
            self.learner.network.backbone.eval()
        self.learner.network.backbone.requires_grad_(bool(phase.trunk))
        optimiser.zero_grad(set_to_none=True)
        if isinstance(batch.inputs, Tensor):
            views = 2 if self._has_views(phase) else 1
            logits = self.learner.logits(batch.inputs, phase.levels, views)
        else:
            logits = self.learner.hashed({level: self._sent(values) for level, values in batch.inputs.items()})
        rows = self.parts.trained[batch.rows.numpy()]
        labels = {level: self._sent(torch.from_numpy(values[rows])) for level, values in self.parts.classes.items()}
        loss, parts = self.learner.loss(logits, labels, self._sent(batch.rows), done)
        torch.autograd.backward(loss)
        sum_gradients(self.learner.network.parameters())
        optimiser.step()
        return parts

    def _sent(self, values: Tensor) -> Tensor:
        return values.to(self.device, non_blocking=True)


def _mean(scores: Mapping[str, float]) -> float:
    return sum(scores.values()) / max(1, len(scores))
