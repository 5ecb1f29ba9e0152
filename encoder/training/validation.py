"""The score of images that are not trained on, by which epochs are compared."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from encoder.bits import Codes, binarize
from encoder.evaluation.counts import count_codes
from encoder.evaluation.metrics import answerable, average_precision, recall_at
from encoder.levels import Level
from encoder.training.augment import view
from encoder.training.dataset import Pictures
from encoder.training.learner import Learner
from encoder.training.split import Parts

BATCH = 250
VIEW_SEED = 0


@torch.no_grad()
def held_out_scores(
    learner: Learner, pictures: Pictures, parts: Parts, levels: Sequence[Level], image_size: int
) -> dict[str, float]:
    """Return a score in 0..1 of each level on the held-out images.

    Levels with labels: tie-aware mAP of each image against the others. Levels without: how often the nearest code to a
    second view of an image is the image's own.

    Args:
        learner: the network as it is now; it is left in eval mode.
        pictures: of all images read.
        parts: which of them are held out, and their classes.
        levels: those that are scored.
        image_size: side in pixels of what the network sees, the centre of a picture.
    """
    if len(parts.held_out) < 2:
        return {}
    learner.eval()
    held_out = pictures[parts.held_out]
    pad = (held_out.shape[1] - image_size) // 2
    if pad:
        held_out = held_out[:, pad:-pad, pad:-pad]
    codes = _codes(learner, torch.from_numpy(held_out), levels)
    scores: dict[str, float] = {}
    for level, own in codes.items():
        if level in learner.criteria:
            labels = parts.classes[level][parts.held_out]
            scores[str(level)] = round(leave_one_out_map(own, labels), 4)
    unlabelled = [level for level in codes if str(level) not in scores]
    if unlabelled:
        generator = torch.Generator().manual_seed(VIEW_SEED)
        views = view(torch.from_numpy(held_out), image_size, generator)
        copies = _codes(learner, views, levels)
        for level in unlabelled:
            scores[str(level)] = round(copy_recall(copies[level], codes[level]), 4)
    return scores


def _codes(learner: Learner, pictures: Tensor, levels: Sequence[Level]) -> Mapping[Level, Codes]:
    device = next(learner.parameters()).device
    codes: dict[Level, list[Codes]] = {level: [] for level in levels}
    for part in torch.split(pictures, BATCH):
        for level, values in learner.logits(part.to(device), levels).items():
            codes[level].append(binarize(values.float().cpu().numpy()))
    return {level: np.concatenate(parts) for level, parts in codes.items()}


def leave_one_out_map(codes: Codes, labels: npt.NDArray[np.int64]) -> float:
    """Return the tie-aware mAP of each code against the others; codes that are alone in their class are left out.

    Where all are, it is 0.
    """
    counts = count_codes(codes, codes, labels[:, None], labels[:, None], np.arange(len(codes)))
    asked = counts[:, answerable(counts)]
    return float(average_precision(asked).mean()) if asked.shape[1] else 0.0


def copy_recall(copies: Codes, originals: Codes) -> float:
    """Return the tie-aware recall@1 of each copy's own original, row by row."""
    rows = np.arange(len(copies))[:, None]
    return float(recall_at(count_codes(copies, originals, rows, rows), 1).mean())
