"""Training through the threshold: bits in the forward pass, the identity in the backward pass."""

import torch.nn.functional as F
from torch import Tensor

from encoder.training.losses.quantisation import gaps, straight_through


def greedyhash(logits: Tensor, labels: Tensor, weight: Tensor, *, quantisation: float = 0.1) -> Tensor:
    """Mean cross-entropy of a linear classifier on b = sgn u, plus quantisation * mean ||u| - 1|^3.

    Args:
        logits: u, float[n, K]; the gradient of b is passed on to it unchanged.
        labels: int64[n], 0..C-1.
        weight: float[C, K], the classifier, which learns too; it has no bias.
        quantisation: weight of the second term.

    Returns:
        float[], at least 0.

    Source: Su et al., Greedy hash: towards fast optimization for accurate hash coding in CNN, NeurIPS 2018.
    """
    scores = F.linear(straight_through(logits), weight)
    return F.cross_entropy(scores, labels) + quantisation * gaps(logits).abs().pow(3).mean()
