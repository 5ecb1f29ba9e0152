"""From logits to signs: the threshold as a tensor, its straight-through gradient, and how far logits are from it."""

import torch
from torch import Tensor

EPSILON = 1e-6
"""The least length that a loss divides by: an all-zero row has cosine 0 and a finite gradient."""


def signs(logits: Tensor) -> Tensor:
    """Return -1 or +1 for each logit: +1 where logit >= 0, also for 0.0 and -0.0, as in `encoder.bits`.

    Args:
        logits: float[...].

    Returns:
        float[...] of the same dtype, without a gradient.
    """
    return torch.where(logits >= 0, 1.0, -1.0).to(logits.dtype)


def straight_through(logits: Tensor) -> Tensor:
    """Return `signs(logits)` exactly, with the gradient of the identity.

    Source: Bengio et al., Estimating or propagating gradients through stochastic neurons, arXiv 1308.3432, 2013.
    """
    return signs(logits) + (logits - logits.detach())  # the difference is 0.0, so no rounding reaches the signs


def gaps(logits: Tensor) -> Tensor:
    """Return u - sgn u, float[n, K]: its size is ||u| - 1|, and at u = 0 it pulls to the side that the bit is on."""
    return logits - signs(logits)
