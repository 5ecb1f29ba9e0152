"""PCA hashing: on which side of the mean an image lies, along each principal axis."""

import numpy as np

from encoder.hashing.checks import Features
from encoder.hashing.layer import HashLayer
from encoder.hashing.pca import fit_pca


def fit(features: Features, nbits: int, rng: np.random.Generator) -> HashLayer:  # noqa: ARG001 - as every `fit`
    """Fit bit_k = (v_k . (x - mean) >= 0), v_k the k-th principal axis.

    Args:
        features: float32[n, dim].
        nbits: number of axes, at most min(dim, n - 1).
        rng: unused: nothing is drawn.

    Raises:
        HashgrainError: `fit-impossible`.

    Source: Wang, Zhang, Jing and Ma, AnnoSearch: image auto-annotation by search, CVPR 2006.
    """
    pca = fit_pca(features, nbits)
    return HashLayer.through(pca.mean, pca.axes)
