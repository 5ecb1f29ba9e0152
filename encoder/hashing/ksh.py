"""Supervised hashing with kernels: one bit after another that corrects what the ones before it say of labelled pairs."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from encoder.bits import signs
from encoder.hashing.checks import Classes, Features, Reals
from encoder.hashing.layer import HashLayer
from encoder.hashing.pairs import Residual, kernel_sample

ITEMS = 2000
"""Images whose pairs are used. Source: Liu et al., the authors' code; 1,000 to 5,000 in the paper."""
TRIALS = 100
"""Steps tried on the way up from each bit's first direction. The authors' code takes 500, of a method without a line search."""
FLAT = 1e-8
"""Variance of the kernel features along a direction, relative to the largest, below which it is the rounding of float32."""


def fit(features: Features, nbits: int, rng: np.random.Generator, classes: Classes) -> HashLayer:
    """Fit bit_k = (a_k . (k(x) - mean) >= 0) so that ||(1/K) H H' - S||^2 is small, greedily, bit by bit.

    Args:
        features: float32[n, dim].
        nbits: K, any number.
        rng: draws the anchors and the images whose pairs are used.
        classes: int64[n], without any -1: every image has a label.

    Raises:
        HashgrainError: `fit-impossible`.

    Source: Liu, Wang, Ji, Jiang and Chang, Supervised hashing with kernels, CVPR 2012.
    """
    sample = kernel_sample(features, classes, ITEMS, rng)
    axes = whitening(sample.values)
    bits = greedy_bits(sample.values @ axes.T, sample.classes, nbits)
    directions = np.array([direction for direction, _ in bits])
    return HashLayer.through(sample.mean, directions @ axes, sample.kernel)


def whitening(values: Reals) -> Reals:
    """Return the axes along which values are uncorrelated with mean square 1: float64[rank, m] of float64[n, m]."""
    variances, vectors = np.linalg.eigh(values.T @ values / len(values))
    kept = variances > FLAT * variances[-1]
    axes: Reals = vectors.T[kept] / np.sqrt(variances[kept])[:, None]
    return axes


def greedy_bits(values: Reals, classes: Classes, nbits: int) -> Iterator[tuple[Reals, Reals]]:
    """Find bit after bit: the h = sgn(Z c) with the largest h'R h, where R is what the bits before left over.

    First with Z c in the place of h, where the best c is an eigenvector; from there uphill with a smooth sign. Of the two
    the better h is kept.

    Args:
        values: Z, float64[n, rank], Z'Z = n I.
        classes: int64[n].
        nbits: K.

    Yields:
        c, float64[rank], and h, float64[n].
    """
    residual = Residual.of(classes, nbits)
    for _ in range(nbits):
        inner = values.T @ residual.factors
        start: Reals = np.linalg.eigh((inner * residual.scales) @ inner.T)[1][:, -1]
        candidates = (start, climb(values, residual, start))
        best = max(candidates, key=lambda direction: residual.fit_of(signs(values @ direction)))
        bit = signs(values @ best)
        yield best, bit
        residual = residual.less(bit[:, None])


class Place(NamedTuple):
    """Where a climb is."""

    direction: Reals
    """c."""
    smooth: Reals
    """s = phi(Z c), phi(x) = 2 / (1 + e^-x) - 1 = tanh(x / 2)."""
    image: Reals
    """R s."""
    height: float
    """s'R s."""


def climb(values: Reals, residual: Residual, start: Reals) -> Reals:
    """Go uphill on s'R s from a direction; steps double where they lead up, and halve where they do not.

    Returns:
        c, float64[rank], nowhere lower than the start.
    """

    def at(direction: Reals) -> Place:
        smooth = np.tanh(values @ direction / 2)
        image = residual.times(smooth)
        return Place(direction, smooth, image, float(smooth @ image))

    def uphill(place: Place) -> Reals:
        slope = values.T @ (place.image * (1 - np.square(place.smooth)))
        length = np.linalg.norm(slope)
        scaled: Reals = slope * (np.linalg.norm(place.direction) / length if length > 0 else 0.0)
        return scaled

    here, step = at(start), 1.0
    slope = uphill(here)
    for _ in range(TRIALS):
        there = at(here.direction + step * slope)
        if there.height > here.height:
            here, slope, step = there, uphill(there), 2 * step
        else:
            step /= 2
    return here.direction
