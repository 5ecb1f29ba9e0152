"""Semi-supervised hashing: axes that keep labelled pairs together or apart, and spread all images, labelled or not."""

import numpy as np

from encoder.hashing.checks import Classes, Features, Reals, check_classes
from encoder.hashing.layer import HashLayer
from encoder.hashing.pca import check_rank, fix_signs, leading_axes

SPREAD = 0.01
"""Weight of the spread (eta), where both terms have trace 1. Chosen on a part of the Grocery Store training photos, with all
or a twentieth of the labels: 0.001 to 0.1 differ little, and at 1 labels hardly count."""


def fit(features: Features, nbits: int, rng: np.random.Generator, classes: Classes) -> HashLayer:  # noqa: ARG001 - as every `fit`
    """Fit bit_k = (w_k . (x - mean) >= 0), w_k the k-th eigenvector of X_l' S X_l + eta X'X.

    X are the centred features of all images, X_l those of the labelled ones, S_ij = 1 for two of one class and -1 for
    others: the w_k are the orthonormal directions that make the sum over pairs of S_ij (w . x_i) (w . x_j) largest,
    and the variance.

    Args:
        features: float32[n, dim].
        nbits: number of axes, at most min(dim, n - 1).
        rng: unused: nothing is drawn.
        classes: int64[n], -1 for an image without a label.

    Raises:
        HashgrainError: `fit-impossible`.

    Source: Wang, Kumar and Chang, Semi-supervised hashing for scalable image retrieval, CVPR 2010.
    """
    pca = leading_axes(features, min(features.shape))
    check_classes(classes, all_labelled=False)
    check_rank(pca, features, nbits)
    projected = pca.project(features)
    pairs, spread = pair_matrix(projected, classes), projected.T @ projected
    together = pairs / np.trace(pairs) + SPREAD * spread / np.trace(spread)
    return HashLayer.through(pca.mean, fix_signs(np.linalg.eigh(together)[1].T[::-1][:nbits] @ pca.axes))


def pair_matrix(values: Reals, classes: Classes) -> Reals:
    """Return X_l' S X_l = 2 sum_c s_c s_c' - s s', where s_c are the sums over classes and s over all labelled images.

    Args:
        values: X, float64[n, dim].
        classes: int64[n], -1 for no label.

    Returns:
        float64[dim, dim].
    """
    sums = np.array([values[classes == number].sum(axis=0) for number in np.unique(classes[classes >= 0])])
    total = sums.sum(axis=0)
    pairs: Reals = 2 * sums.T @ sums - np.outer(total, total)
    return pairs
