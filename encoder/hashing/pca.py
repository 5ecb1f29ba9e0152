"""Principal component analysis: the axes that PCAH, SH and ITQ start from."""

from dataclasses import dataclass

import numpy as np

from encoder.errors import HashgrainError, Reason
from encoder.hashing.checks import Features, Reals, sample_mean

NOISE = float(np.finfo(np.float32).eps) ** 2
"""Variance that float32 rounding alone leaves along an axis without any, as a share of the largest, per row or column."""


@dataclass(frozen=True, slots=True, eq=False)
class Pca:
    """Orthonormal axes through the mean, the one of largest variance first."""

    mean: Reals
    """float64[dim]."""
    axes: Reals
    """float64[ndims, dim], unit rows; of each, the component of largest magnitude is positive."""

    def project(self, features: Features) -> Reals:
        """Return axes @ (x - mean) of every row: float64[n, ndims]."""
        return features @ self.axes.T - self.axes @ self.mean


def fit_pca(features: Features, ndims: int) -> Pca:
    """Find exactly `ndims` principal axes.

    Raises:
        HashgrainError: `fit-impossible`, also when the sample varies in fewer directions than that.
    """
    pca = leading_axes(features, ndims)
    check_rank(pca, features, ndims)
    return pca


def check_rank(pca: Pca, features: Features, ndims: int) -> None:
    """Make sure that there are as many axes as bits.

    Raises:
        HashgrainError: `fit-impossible`.
    """
    if (rank := len(pca.axes)) < ndims:
        images, dim = features.shape
        raise HashgrainError(
            Reason.FIT_IMPOSSIBLE,
            f"{ndims} bits need {ndims} principal axes, and {images} images with {dim} features have {rank} "
            f"(never more than {min(dim, images - 1)}); give more images, fewer bits, or take lsh",
        )


def leading_axes(features: Features, most: int) -> Pca:
    """Find the principal axes of largest variance: `most` of them, or as many as the sample varies in.

    The axes are eigenvectors of X'X for the centred X, or X'u for eigenvectors u of XX' where that is the smaller matrix.

    Args:
        features: float32[n, dim].
        most: number of axes.

    Raises:
        HashgrainError: `fit-impossible`.

    Source: Jolliffe, Principal Component Analysis, 2nd ed., 2002, sections 1.1 and 3.5.
    """
    mean = sample_mean(features)
    centred = features - mean
    wide = features.shape[0] < features.shape[1]
    variances, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    variances, vectors = variances[::-1][:most], vectors[:, ::-1][:, :most]
    kept = variances > max(features.shape) * NOISE * variances[0]
    axes = vectors.T[kept] @ centred if wide else vectors.T[kept]
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    return Pca(mean, fix_signs(axes))


def fix_signs(axes: Reals) -> Reals:
    """Turn rows so that the component of largest magnitude is positive: eigenvectors have no sign of their own."""
    peaks = np.take_along_axis(axes, np.abs(axes).argmax(axis=1, keepdims=True), axis=1)
    return axes * np.sign(peaks)
