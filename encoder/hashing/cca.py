"""CCA-ITQ: the directions that correlate best with the classes, then rotated as in ITQ."""

from itertools import islice

import numpy as np

from encoder.hashing.checks import Classes, Features, Reals, check_classes, sample_mean
from encoder.hashing.itq import ROUNDS, rotations
from encoder.hashing.layer import HashLayer
from encoder.hashing.pca import fix_signs

RIDGE = 0.1
"""Added to each feature's variance, in mean variances: there may be fewer images than features. Chosen on a part of the
Grocery Store training photos: 0.01 to 0.3 differ little there; more is safer for the unseen."""
FLAT = 1e-9
"""Squared correlation below which it is rounding."""


def fit(features: Features, nbits: int, rng: np.random.Generator, classes: Classes) -> HashLayer:
    """Fit bits = (R' W (x - mean) >= 0), W the canonical directions and R the rotation that ITQ finds.

    There are at most as many directions as classes less one. More bits than that are a rotation of W (x - mean) with
    zeros appended: codes of K bits in a space of fewer dimensions.

    Args:
        features: float32[n, dim].
        nbits: any number.
        rng: draws the first rotation.
        classes: int64[n], without any -1: every image has a label.

    Raises:
        HashgrainError: `fit-impossible`.

    Source: Gong, Lazebnik, Gordo and Perronnin, Iterative quantization: a Procrustean approach to learning binary codes
    for large-scale image retrieval, IEEE TPAMI 35, 2013.
    """
    mean = sample_mean(features)
    check_classes(classes)
    centred = features - mean
    directions = canonical_directions(centred, classes)[:nbits]
    projected = np.zeros((len(features), nbits))
    projected[:, : len(directions)] = centred @ directions.T
    rotation, _ = next(islice(rotations(projected, rng), ROUNDS, None))
    return HashLayer.through(mean, rotation[: len(directions)].T @ directions)


def canonical_directions(centred: Reals, classes: Classes, ridge: float = RIDGE) -> Reals:
    """Return the directions w of largest correlation r with a combination of the one-hot classes, each of length r.

    With G = X'X / n + ridge I and T = P^-1/2 (Y'X / n) G^-1 (X'Y / n) P^-1/2, P the classes' shares: T q = r^2 q, and
    w = G^-1 (X'Y / n) P^-1/2 q, for which w'G w = r^2. As in the source, directions count by their correlation.

    Args:
        centred: X, float64[n, dim].
        classes: int64[n], at least two.
        ridge: in units of the mean variance.

    Returns:
        float64[ndirections, dim], by falling r.
    """
    images, dim = centred.shape
    belongs = (classes[:, None] == np.unique(classes)).astype(np.float64)
    cross = centred.T @ belongs / (images * np.sqrt(belongs.mean(axis=0)))
    variance = centred.T @ centred / images
    variance += ridge * np.trace(variance) / dim * np.eye(dim)
    solved = np.linalg.solve(variance, cross)
    squares, vectors = np.linalg.eigh(cross.T @ solved)
    kept = squares[::-1] > FLAT
    return fix_signs((solved @ vectors).T[::-1][kept])
