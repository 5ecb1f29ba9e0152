"""How well a level's codes use their bits, and whether two levels say the same.

Mean average precision does not see this: every image of a class on one code is a perfect ranking, and a useless index.
Knows codes and logits; not images, labels or files.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes, Logits, hamming, unpack

Reals: TypeAlias = npt.NDArray[np.float64]

BLOCK = 1 << 16
"""Rows unpacked at once: sums of so many bits are exact in float32, and small."""


@dataclass(frozen=True, slots=True)
class CodeHealth:
    """What the bits of one level are worth. p is a bit's share of ones."""

    rows: int
    nbits: int
    distinct: float
    """Distinct codes / rows, 0..1."""
    mean_balance: float
    """Mean p, 0..1: 0.5 is best."""
    worst_balance: float
    """p of the most lopsided bit, 0..1."""
    mean_entropy: float
    """Mean of -p log2 p - (1 - p) log2 (1 - p), 0..1 bits per bit. Source: Shannon 1948."""
    mean_correlation: float
    """Mean |Pearson correlation| of two bits, 0..1, over pairs of bits that vary; 0 without such a pair."""
    max_correlation: float
    """That of the most alike (or opposite) two bits."""
    effective_bits: float
    """(sum of eigenvalues)^2 / sum of squared eigenvalues of the bits' covariance, 0..nbits: as many independent fair bits
    would spread distances alike. Source: participation ratio; for fair bits the degrees of freedom p (1 - p) / var(d / nbits)
    of distances d between strangers, Daugman, The importance of being random, Pattern Recognition 2003."""
    mean_distance: float
    """Mean Hamming distance of two different rows, in bits, over all pairs; half of nbits is best."""
    quantisation_error: float | None
    """Mean of 1 - cos(u, sgn u) over logits u, 0..1; None without logits. Source: Hoe et al., One loss for all, NeurIPS 2021."""


def code_health(codes: Codes, logits: Logits | None = None) -> CodeHealth:
    """Measure the codes of one level.

    Args:
        codes: uint8[n, code_size], two rows at least.
        logits: float32[m, nbits] before the threshold, of these images or of a sample of them.
    """
    rows, nbits = len(codes), 8 * codes.shape[1]
    joint = _joint_ones(codes)
    ones = np.diag(joint) / rows
    covariance = joint / rows - np.outer(ones, ones)
    correlation = _correlations(covariance)
    differing = 2 * ones * (1 - ones) * rows / (rows - 1)  # chance that two different rows differ in a bit
    return CodeHealth(
        rows=rows,
        nbits=nbits,
        distinct=len(np.unique(codes.view(f"V{codes.shape[1]}"))) / rows,
        mean_balance=float(ones.mean()),
        worst_balance=float(ones[np.abs(ones - 0.5).argmax()]),
        mean_entropy=float(_entropy(ones).mean()),
        mean_correlation=float(correlation.mean()) if len(correlation) else 0.0,
        max_correlation=float(correlation.max(initial=0)),
        effective_bits=float(_over(np.trace(covariance) ** 2, np.square(covariance).sum())),
        mean_distance=float(differing.sum()),
        quantisation_error=None if logits is None else quantisation_error(logits),
    )


def quantisation_error(logits: Logits) -> float:
    """Return the mean over rows u of 1 - cos(u, sgn u) = 1 - sum |u| / (|u| sqrt(nbits)).

    0 when all logits of a row are of one size; at most 1 - 1 / sqrt(nbits), and 1 for a row of zeros, which has no direction.

    Args:
        logits: float32[n, nbits].
    """
    sizes = np.abs(logits.astype(np.float64))
    lengths = np.linalg.norm(sizes, axis=1)
    cosines = _over(sizes.sum(axis=1), lengths * np.sqrt(sizes.shape[1]))
    return float((1 - cosines.clip(0, 1)).mean())


def rank_correlation(one: Codes, other: Codes, seed: int = 0, queries: int = 200, items: int = 5_000) -> float:
    """Return how alike two levels order the same images: the mean over queries of Spearman's correlation of distances.

    1: the second level adds nothing to the first; 0: each says something of its own. A query that has all items at one
    distance orders nothing, and counts 0.

    Args:
        one: uint8[n, code_size], three rows at least.
        other: uint8[n, any code_size], of the same images.
        seed: of the sample.
        queries: images that ask, at most; fewer where there are not that many beside one item.
        items: other images that are ordered, at most.

    Returns:
        -1..1.

    Source: Spearman 1904; tied items share the mean of their ranks, so it is Pearson's correlation of mid-ranks.
    """
    order = np.random.default_rng(seed).permutation(len(one))
    queries = min(queries, len(one) // 2)
    asking, asked = order[:queries], order[queries : queries + items]
    first, second = (_mid_ranks(hamming(codes[asking], codes[asked])) for codes in (one, other))
    first -= first.mean(axis=1, keepdims=True)
    second -= second.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(_over((first * second).sum(axis=1), lengths).mean())


def _joint_ones(codes: Codes) -> Reals:
    """Count rows that have ones in both of two bits: float64[nbits, nbits], exact."""
    nbits = 8 * codes.shape[1]
    joint = np.zeros((nbits, nbits))
    for start in range(0, len(codes), BLOCK):
        bits = unpack(codes[start : start + BLOCK]).astype(np.float32)
        joint += bits.T @ bits
    return joint


def _correlations(covariance: Reals) -> Reals:
    """Return |correlation| of every two bits that vary, one entry a pair."""
    deviations = np.sqrt(np.diag(covariance).clip(0))
    varying = np.flatnonzero(deviations)
    correlation = covariance[np.ix_(varying, varying)] / np.outer(deviations[varying], deviations[varying])
    pairs: Reals = np.abs(correlation[np.triu_indices(len(varying), k=1)]).clip(0, 1)
    return pairs


def _entropy(share: Reals) -> Reals:
    """Return the bits of information of a coin with this share of ones."""
    parts = np.stack([share, 1 - share])
    entropy: Reals = (parts * np.log2(1 / np.where(parts > 0, parts, 1))).sum(axis=0)
    return entropy


def _mid_ranks(distances: npt.NDArray[np.int32]) -> Reals:
    """Rank each row; equals get the mean of the ranks they take together: float64[nq, nitems], counted from 0.5."""
    nqueries, levels = len(distances), int(distances.max(initial=0)) + 1
    cells = distances + levels * np.arange(nqueries)[:, None]
    counts = np.bincount(cells.ravel(), minlength=nqueries * levels).reshape(nqueries, levels)
    ranks: Reals = (counts.cumsum(axis=1) - counts / 2).ravel()[cells]
    return ranks


def _over(part: Reals, whole: Reals) -> Reals:
    """Divide, with 0 / 0 = 0: what does not vary tells nothing."""
    return part / np.where(whole == 0, 1, whole)
