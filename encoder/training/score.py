"""The score of images that are not trained on, by which epochs are compared."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from encoder.bits import Codes, binarize
from encoder.levelcounts import count_codes
from encoder.levels import Level
from encoder.metrics import average_precision, recall_at
from encoder.training.augment import view
from encoder.training.settings import Phase

if TYPE_CHECKING:
    from encoder.training.loop import Training

BATCH = 250
VIEW_SEED = 0


@torch.no_grad()
def held_out_score(training: "Training", phase: Phase) -> dict[str, float]:
    """Return a score in 0..1 of each level of a phase on the held-out images.

    Levels with labels: tie-aware mAP of each image against the others. Levels without: how often the nearest code to a
    second view of an image is the image's own.
    """
    if len(training.parts.held_out) < 2:
        return {}
    training.learner.eval()
    pictures = training.pictures[training.parts.held_out]
    pad = (pictures.shape[1] - training.settings.image_size) // 2
    if pad:
        pictures = pictures[:, pad:-pad, pad:-pad]
    codes = _codes(training, torch.from_numpy(pictures), phase)
    scores: dict[str, float] = {}
    for level, own in codes.items():
        if level in training.learner.criteria:
            labels = training.parts.classes[level][training.parts.held_out]
            scores[str(level)] = round(leave_one_out_map(own, labels), 4)
    unlabelled = [level for level in codes if str(level) not in scores]
    if unlabelled:
        generator = torch.Generator().manual_seed(VIEW_SEED)
        views = view(torch.from_numpy(pictures), training.settings.image_size, generator)
        copies = _codes(training, views, phase)
        for level in unlabelled:
            scores[str(level)] = round(copy_recall(copies[level], codes[level]), 4)
    return scores


def _codes(training: "Training", pictures: Tensor, phase: Phase) -> Mapping[Level, Codes]:
    found: dict[Level, list[Codes]] = {level: [] for level in phase.levels}
    for part in torch.split(pictures, BATCH):
        logits = training.learner.logits(part.to(training.device), phase.levels)
        for level, values in logits.items():
            found[level].append(binarize(values.float().cpu().numpy()))
    return {level: np.concatenate(parts) for level, parts in found.items()}


def leave_one_out_map(codes: Codes, labels: npt.NDArray[np.int64]) -> float:
    """Return the tie-aware mAP of each code against the others; codes that are alone in their class are left out."""
    own = np.arange(len(codes))
    counts = count_codes(codes, codes, labels[:, None], labels[:, None], own)
    return float(np.nanmean(average_precision(counts)))


def copy_recall(copies: Codes, originals: Codes) -> float:
    """Return the tie-aware recall@1 of each copy's own original, row by row."""
    rows = np.arange(len(copies))[:, None]
    return float(recall_at(count_codes(copies, originals, rows, rows), 1).mean())
