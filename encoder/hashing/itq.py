"""Iterative quantisation: PCA hashing, rotated until the projections lie as near to the corners of a cube as they can."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from encoder.bits import signs
from encoder.hashing.checks import Features, Reals
from encoder.hashing.layer import HashLayer
from encoder.hashing.pca import fit_pca

ROUNDS = 50
"""Source: Gong and Lazebnik, CVPR 2011."""


def fit(features: Features, nbits: int, rng: np.random.Generator) -> HashLayer:
    """Fit bits = (R' W (x - mean) >= 0), W the principal axes, R a rotation that lowers ||sgn(VR) - VR||, V = X W'.

    Args:
        features: float32[n, dim].
        nbits: number of axes, at most min(dim, n - 1).
        rng: draws the first rotation.

    Raises:
        HashgrainError: `fit-impossible`.

    Source: Gong and Lazebnik, Iterative quantization: a Procrustean approach to learning binary codes, CVPR 2011.
    """
    pca = fit_pca(features, nbits)
    projected = pca.project(features).astype(np.float32)
    rotation, _ = next(islice(rotations(projected, rng), ROUNDS, None))
    return HashLayer.through(pca.mean, rotation.T @ pca.axes)


def rotations(projected: npt.NDArray[np.floating[Any]], rng: np.random.Generator) -> Iterator[tuple[Reals, float]]:
    """Improve a random rotation without end: in turn the best signs for the rotation, the best rotation for the signs.

    B = sgn(VR) with sgn(0) = 1; the rotation nearest to it is the orthogonal Procrustes solution: B'V = S O T', R = T S'.

    Args:
        projected: V, float[n, nbits], centred.
        rng: draws the first rotation.

    Yields:
        R, float64[nbits, nbits], and ||sgn(VR) - VR||^2, which never rises: first of the random one, then of each round.
    """
    rotation = random_rotation(projected.shape[1], rng)
    while True:
        rotated = projected @ rotation.astype(projected.dtype)
        bits = signs(rotated).astype(projected.dtype)
        yield rotation, float(np.square(bits - rotated).sum(dtype=np.float64))
        left, _, right = np.linalg.svd((bits.T @ projected).astype(np.float64))  # right is T', not T
        rotation = (left @ right).T


def random_rotation(size: int, rng: np.random.Generator) -> Reals:
    """Draw an orthogonal matrix, float64[size, size], each as likely as any other.

    Source: Mezzadri, How to generate random matrices from the classical compact groups, Notices of the AMS 54, 2007.
    """
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    rotation: Reals = q * np.sign(np.diag(r))  # without the signs, QR favours some matrices
    return rotation
