"""Codes without labels: two augmented views of one picture should have one code, and no other picture's."""

import torch
import torch.nn.functional as F
from torch import Tensor

from encoder.training.losses.quantisation import EPSILON, straight_through


def contrastive_views(
    logits_a: Tensor, logits_b: Tensor, *, temperature: float = 0.1, decorrelation: float = 0.3
) -> Tensor:
    """Mean cross-entropy of finding a view's partner among the other 2n - 1 views, plus decorrelation * `shared_variation`.

    Views are scored by cos(b, b') / temperature; b = sgn u, its gradient passed on to u unchanged; the cosine is
    1 - 2 d_H / K.

    Args:
        logits_a: u, float[n, K], of one view of each picture.
        logits_b: float[n, K], of another view of the same pictures, in the same order.
        temperature: of the softmax. With 0.3 a code of 64 bits carried 22 bits' worth (`docs/LOG.md`).
        decorrelation: weight of the second term.

    Returns:
        float[], at least 0; 0 for a single picture.

    Source: Qiu et al., Unsupervised hashing with contrastive information bottleneck, IJCAI 2021, with the threshold
    where it draws bits at random, and without its information bottleneck; NT-Xent is from Chen et al., A simple
    framework for contrastive learning of visual representations, ICML 2020.
    """
    with torch.autocast(logits_a.device.type, enabled=False):
        logits = torch.cat([logits_a, logits_b])
        bits = straight_through(logits)
        scores = bits @ bits.T / (bits.shape[1] * temperature)
        itself = torch.eye(len(bits), dtype=torch.bool, device=bits.device)
        partners = torch.arange(len(bits), device=bits.device).roll(len(logits_a))
        found = F.cross_entropy(scores.masked_fill(itself, -torch.inf), partners)
        return found + decorrelation * shared_variation(logits)


def shared_variation(logits: Tensor) -> Tensor:
    """Return the sum of r(i, j)^2 over pairs i != j of logits, by the number of logits; r is their correlation.

    Args:
        logits: float[n, K]. One that does not vary has correlation 0 with all others.

    Returns:
        float[], 0..K - 1.

    Source: the redundancy term of Zbontar et al., Barlow Twins, ICML 2021, here within a batch of logits.
    """
    centred = logits - logits.mean(dim=0)
    deviation = centred.square().mean(dim=0).clamp_min(EPSILON**2).sqrt()
    standard = centred / deviation
    correlation = standard.T @ standard / len(logits)
    return (correlation - torch.diag(correlation.diag())).square().sum() / logits.shape[1]
