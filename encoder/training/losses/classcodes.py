"""Losses that draw an image's logits to the code of its class; the codes are given and do not move.

Everywhere here u = logits, float[n, K], as they leave the hash layer; codes are -1 and +1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from encoder.training.losses.quantisation import EPSILON, gaps


def csq(logits: Tensor, targets: Tensor, *, quantisation: float = 1e-4) -> Tensor:
    """Central similarity quantisation: mean BCE((1 + tanh u)/2, (1 + t)/2) + quantisation * mean (|tanh u| - 1)^2.

    Args:
        logits: u, float[n, K].
        targets: t, -1 or +1, float[n, K], the code of each image's class.
        quantisation: weight of the second term.

    Returns:
        float[], at least 0.

    Source: Yuan et al., Central similarity quantization for efficient image and video retrieval, CVPR 2020.
    """
    # (1 + tanh u)/2 = sigmoid(2u), and with logits the cross-entropy neither overflows nor saturates
    central = F.binary_cross_entropy_with_logits(2 * logits, (1 + targets) / 2)
    return central + quantisation * gaps(torch.tanh(logits)).square().mean()


def dpn(logits: Tensor, targets: Tensor, *, margin: float = 1.0) -> Tensor:
    """Deep polarised network: the mean over images of sum_k max(margin - u_k t_k, 0).

    Args:
        logits: u, float[n, K].
        targets: t, -1 or +1, float[n, K], the code of each image's class.
        margin: how far on its side a logit has to be.

    Returns:
        float[], at least 0.

    Source: Fan et al., Deep polarized network for supervised learning of accurate binary hashing codes, IJCAI 2020.
    """
    return F.relu(margin - logits * targets).sum(dim=1).mean()


def orthohash(
    logits: Tensor, labels: Tensor, codes: Tensor, *, scale: float = 8.0, margin: float = 0.2, smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy of the classes, scored by scale * (cos(u, o_c) - margin * [c = label]).

    Args:
        logits: u, float[n, K].
        labels: int64[n], 0..C-1.
        codes: o, -1 or +1, float[C, K].
        scale: sharpness of the softmax; a cosine alone is too flat for many classes.
        margin: taken off the cosine with the own class.
        smoothing: share of the target spread evenly over all classes.

    Returns:
        float[], at least 0.

    Source: Hoe et al., One loss for all: deep hashing with a single cosine similarity based learning objective,
    NeurIPS 2021.
    """
    cosines = F.normalize(logits, dim=1, eps=EPSILON) @ F.normalize(codes, dim=1).T
    own = F.one_hot(labels, len(codes))
    return F.cross_entropy(scale * (cosines - margin * own), labels, label_smoothing=smoothing)
