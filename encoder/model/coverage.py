"""How much of each place of a feature map lies in a box."""

import torch
from torch import Tensor


def coverage(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return float32[n, 1, height, width], the share of each place that lies in its picture's box, 0..1.

    The shares add up to the area of the box, in places; a box of everything gives exact ones.

    Args:
        boxes: float32[n, 4], left, top, right, bottom in shares of the picture that the network sees.
        height: of the feature map.
        width: of the feature map.
    """
    across = _covered(boxes[:, 0], boxes[:, 2], width)
    down = _covered(boxes[:, 1], boxes[:, 3], height)
    return (down[:, :, None] * across[:, None, :])[:, None]


def _covered(low: Tensor, high: Tensor, count: int) -> Tensor:
    """Return float32[n, count], how much of each of `count` equal parts of 0..1 lies between two numbers."""
    starts = torch.arange(count, device=low.device, dtype=low.dtype)
    return (high[:, None] * count - starts).clamp(0, 1) - (low[:, None] * count - starts).clamp(0, 1)
