"""Inductive manifold hashing: the likeness graph of a few centres is laid out, and an image goes where its centres are."""

import numpy as np

from encoder.errors import HashgrainError, Reason
from encoder.hashing.checks import Features, Reals, distinct_rows, sample_mean
from encoder.hashing.kernel import Kernel, squared_distances
from encoder.hashing.layer import HashLayer
from encoder.hashing.pca import fix_signs

CENTRES, NEIGHBOURS = 400, 5
"""Source: Shen et al., for both."""
ROUNDS = 30
"""Of k-means, unless nothing moves any more."""
GRAPH_NEIGHBOURS = 10
"""Centres that each centre is joined to. Chosen on a part of the Grocery Store training photos: 5 to 40 differ little."""


def fit(features: Features, nbits: int, rng: np.random.Generator) -> HashLayer:
    """Fit bit = (y(x) >= 0), y(x) the mean of the embeddings of the nearest centres of x, weighted by a Gaussian kernel.

    Its width is that of an anchor graph: exp(-|x - c|^2 / s^2), s the mean distance of images to their last neighbour.

    Args:
        features: float32[n, dim].
        nbits: fewer than there are different images, or than `CENTRES`.
        rng: draws the first centres.

    Raises:
        HashgrainError: `fit-impossible`.

    Source: Shen, Shen, Shi, van den Hengel and Tang, Inductive hashing on manifolds, CVPR 2013, with Laplacian
    eigenmaps for the embedding; the width: Liu, Wang, Kumar and Chang, Hashing with graphs, ICML 2011, authors' code.
    """
    sample_mean(features)  # for its checks alone
    centres = k_means(features, CENTRES, rng)
    if len(centres) <= nbits:
        raise HashgrainError(
            Reason.FIT_IMPOSSIBLE,
            f"{nbits} bits need more than {nbits} centres, and {len(features)} images have {len(centres)} "
            f"(never more than {CENTRES}); give more images, fewer bits, or take lsh",
        )
    neighbours = min(NEIGHBOURS, len(centres))
    distances = np.sqrt(squared_distances(features.astype(np.float64), centres))
    reach = np.partition(distances, neighbours - 1, axis=1)[:, neighbours - 1].mean()
    kernel = Kernel(centres, float(reach / np.sqrt(2)), neighbours)
    weight = laplacian_eigenmap(centres, nbits).astype(np.float32)
    return HashLayer(weight, np.zeros(nbits, np.float32), kernel=kernel)


def k_means(features: Features, count: int, rng: np.random.Generator) -> Features:
    """Find centres that images are near to, from random images on, by Lloyd's rounds.

    Returns:
        float32[m, dim], m = count or the number of different images. A centre that has lost all its images stays.
    """
    centres = distinct_rows(features, count, rng)
    for _ in range(ROUNDS):
        owner = squared_distances(features, centres).argmin(axis=1)
        moved = centres.copy()
        for number in np.unique(owner):
            moved[number] = features[owner == number].mean(axis=0, dtype=np.float64)
        if (moved == centres).all():
            break
        centres = moved
    return centres


def laplacian_eigenmap(centres: Features, ndims: int) -> Reals:
    """Lay out the graph that joins centres to their nearest ones: neighbours close together, the whole spread out.

    With A_ij = 1 where i is among the nearest of j or j of i, D its row sums and L = D - A, the rows are the vectors y of
    smallest y'Ly among those with y'Dy = 1 that are D-orthogonal to each other and to a constant.

    Args:
        centres: float32[m, dim].
        ndims: below m.

    Returns:
        float64[ndims, m], by rising y'Ly.

    Source: Belkin and Niyogi, Laplacian eigenmaps for dimensionality reduction and data representation, Neural
    Computation 15, 2003, with their simple weights (t = infinity).
    """
    distances = squared_distances(centres.astype(np.float64), centres)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :GRAPH_NEIGHBOURS]
    joined = np.zeros(distances.shape)
    np.put_along_axis(joined, nearest, 1.0, axis=1)
    np.fill_diagonal(joined, 0.0)  # with few centres, all others are the nearest, and then the centre itself
    joined = np.maximum(joined, joined.T)
    roots = np.sqrt(joined.sum(axis=1))
    constant = roots / np.linalg.norm(roots)
    likeness = joined / np.outer(roots, roots) - 3 * np.outer(
        constant, constant
    )  # eigenvalues of a likeness are in -1..1: this puts that of the constant vector last
    embedding: Reals = fix_signs(np.linalg.eigh(likeness)[1].T[::-1][:ndims]) / roots
    return embedding
