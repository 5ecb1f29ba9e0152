"""Losses over pairs and triplets of images, which only know who is similar to whom.

Everywhere here u = logits, float[n, K], as they leave the hash layer, and theta_ij = <u_i, u_j> / 2. A batch's pairs are
i < j, each once; a mean over no pairs is 0. For codes of -1 and +1, ||b_i - b_j||^2 is four times the Hamming distance.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from encoder.training.losses.quantisation import gaps


def contrastive(
    logits: Tensor,
    similar: Tensor,
    *,
    margin: float | None = None,
    quantisation: float = 0.01,
    balanced: bool = False,
) -> Tensor:
    """Pull similar pairs together and push the others past a margin.

    With d = ||u_i - u_j||^2, the mean over pairs of d/2 (similar) or max(margin - d, 0)/2 (not), plus quantisation *
    (|| |u_i| - 1 ||_1 + || |u_j| - 1 ||_1). Without the last term it is, up to the factor 2, the plain contrastive
    loss sum_S d + sum_D max(0, margin - d).

    Args:
        logits: u, float[n, K].
        similar: bool[n, n].
        margin: squared distance; 2K by default, which for codes is a Hamming distance of K / 2.
        quantisation: weight of the last term; 0.01 in the paper.
        balanced: weigh pairs as `balance` does. The paper does not, and most pairs of a batch are dissimilar.

    Returns:
        float[], at least 0.

    Source: Liu et al., Deep supervised hashing for fast image retrieval, CVPR 2016, equation 4; the pair term is that of
    Hadsell et al., Dimensionality reduction by learning an invariant mapping, CVPR 2006, on squared distances.
    """
    distances = F.pdist(logits).square()  # from differences: inner products would cancel for long, near vectors
    alike = of_pairs(similar)
    margin = 2 * logits.shape[1] if margin is None else margin
    losses = torch.where(alike, distances, F.relu(margin - distances)) / 2
    if balanced:
        losses = losses * balance(alike).to(losses.dtype)
    return mean(losses) + 2 * quantisation * gaps(logits).abs().sum(dim=1).mean()


def dpsh(logits: Tensor, memory: Tensor, similar: Tensor, *, eta: float = 0.1) -> Tensor:
    """Pair likelihood against a memory: mean (log(1 + e^theta) - s theta) + eta * mean (u - sgn u)^2.

    Args:
        logits: u, float[n, K].
        memory: v, float[m, K], the last logits of each training image, without a gradient; theta_ij = <u_i, v_j> / 2.
        similar: s, bool[n, m].
        eta: weight of the second term.

    Returns:
        float[], at least 0.

    Source: Li et al., Feature learning based deep supervised hashing with pairwise labels, IJCAI 2016, whose sums are
    means here.
    """
    return mean(_likelihood(logits @ memory.T / 2, similar)) + eta * gaps(logits).square().mean()


def dhn(logits: Tensor, similar: Tensor, *, quantisation: float = 0.1) -> Tensor:
    """Pair likelihood: mean (log(1 + e^theta) - s theta) + quantisation * mean log cosh(|u| - 1).

    Args:
        logits: u, float[n, K].
        similar: s, bool[n, n].
        quantisation: weight of the second term.

    Returns:
        float[], at least 0.

    Source: Zhu et al., Deep hashing network for efficient similarity retrieval, AAAI 2016.
    """
    pairs = mean(_likelihood(of_pairs(logits @ logits.T) / 2, of_pairs(similar)))
    return pairs + quantisation * _log_cosh(gaps(logits)).mean()


def hashnet(logits: Tensor, similar: Tensor, *, beta: float, scale: float | None = None) -> Tensor:
    """Balanced pair likelihood on h = tanh(beta u): mean w (log(1 + e^t) - s t), t = scale <h_i, h_j>.

    w = |S| / |S1| for the similar pairs S1 of all pairs S, |S| / |S0| for the others.

    Args:
        logits: u, float[n, K].
        similar: s, bool[n, n].
        beta: sharpness of the tanh; it grows while training goes on.
        scale: 10 / K by default, as in the authors' code.

    Returns:
        float[], at least 0.

    Source: Cao et al., HashNet: deep learning to hash by continuation, ICCV 2017.
    """
    scale = 10 / logits.shape[1] if scale is None else scale
    relaxed = torch.tanh(beta * logits)
    alike = of_pairs(similar)
    losses = _likelihood(scale * of_pairs(relaxed @ relaxed.T), alike)
    return mean(balance(alike).to(losses.dtype) * losses)


def dtsh(logits: Tensor, labels: Tensor, *, margin: float | None = None, quantisation: float = 1.0) -> Tensor:
    """Triplet likelihood: mean log(1 + e^-T) + quantisation * mean (u - sgn u)^2, T = theta_qp - theta_qn - margin.

    Over all triplets of a batch: q and p of one class, n of another. As many as n^3 / 4 of them for two classes.

    Args:
        logits: u, float[n, K].
        labels: int64[n].
        margin: K / 2 by default, as in the paper.
        quantisation: weight of the second term.

    Returns:
        float[], at least 0.

    Source: Wang et al., Deep supervised hashing with triplet labels, ACCV 2016, whose sums are means here.
    """
    margin = logits.shape[1] / 2 if margin is None else margin
    theta = logits @ logits.T / 2
    same = labels[:, None] == labels
    queries, positives = torch.nonzero(same & ~torch.eye(len(labels), dtype=torch.bool, device=same.device)).T
    leads = theta[queries, positives, None] - theta[queries] - margin
    triplets = -F.logsigmoid(leads[~same[queries]])
    return mean(triplets) + quantisation * gaps(logits).square().mean()


def of_pairs(square: Tensor) -> Tensor:
    """Return what a matrix says about each pair i < j: [n, n] to [n (n - 1) / 2], row by row, as `F.pdist` does."""
    count = len(square)
    row, column = torch.triu_indices(count, count, offset=1, device=square.device)
    return square[row, column]


def mean(losses: Tensor) -> Tensor:
    """Return the mean, and 0, not nan, of nothing: a batch may be one image, or have no triplet."""
    return losses.sum() / max(losses.numel(), 1)


def balance(alike: Tensor) -> Tensor:
    """Return weights that let similar and dissimilar pairs count the same: |S| / |S1| and |S| / |S0|.

    Args:
        alike: bool[npairs].

    Returns:
        float32[npairs]; all 1 where every pair is of one kind.
    """
    share = mean(alike.float())
    return torch.where(alike, 1 / share, 1 / (1 - share))


def _likelihood(theta: Tensor, similar: Tensor) -> Tensor:
    """Return log(1 + e^theta) - s theta of each pair, in a form that does not overflow."""
    return F.binary_cross_entropy_with_logits(theta, similar.to(theta.dtype), reduction="none")


def _log_cosh(values: Tensor) -> Tensor:
    """Return log cosh x = |x| + log(1 + e^(-2|x|)) - log 2."""
    sizes = values.abs()
    return sizes + torch.log1p(torch.exp(-2 * sizes)) - math.log(2)
