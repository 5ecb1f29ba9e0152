"""Codes without labels: two augmented views of one picture should have one code, and no other picture's."""

import torch
import torch.nn.functional as F
from torch import Tensor

from encoder.losses.quantisation import straight_through


def contrastive_views(logits_a: Tensor, logits_b: Tensor, *, temperature: float = 0.3) -> Tensor:
    """Mean cross-entropy of finding a view's partner among the other 2n - 1 views, scored by cos(b, b') / temperature.

    b = sgn u, its gradient passed on to u unchanged; the cosine is 1 - 2 d_H / K.

    Args:
        logits_a: u, float[n, K], of one view of each picture.
        logits_b: float[n, K], of another view of the same pictures, in the same order.
        temperature: of the softmax.

    Returns:
        float[], at least 0; 0 for a single picture.

    Source: Qiu et al., Unsupervised hashing with contrastive information bottleneck, IJCAI 2021, with the threshold
    where it draws bits at random, and without its information bottleneck; NT-Xent is from Chen et al., A simple
    framework for contrastive learning of visual representations, ICML 2020.
    """
    with torch.autocast(logits_a.device.type, enabled=False):
        bits = straight_through(torch.cat([logits_a, logits_b]))
        scores = bits @ bits.T / (bits.shape[1] * temperature)
        itself = torch.eye(len(bits), dtype=torch.bool, device=bits.device)
        partners = torch.arange(len(bits), device=bits.device).roll(len(logits_a))
        return F.cross_entropy(scores.masked_fill(itself, -torch.inf), partners)
