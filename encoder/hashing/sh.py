"""Spectral hashing: the smoothest waves along the principal axes, cut at zero."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from encoder.hashing.checks import Features, Reals
from encoder.hashing.layer import HashLayer
from encoder.hashing.pca import leading_axes
from encoder.model.spec import Activation

Indices: TypeAlias = npt.NDArray[np.intp]


def fit(features: Features, nbits: int, rng: np.random.Generator) -> HashLayer:  # noqa: ARG001 - as every `fit`
    """Fit bit = (sin(pi/2 + m pi (y_i - a_i) / (b_i - a_i)) >= 0) for the `nbits` best pairs of axis i and mode m.

    y_i is the projection on the i-th principal axis, [a_i, b_i] its range in the sample. The sine's argument is affine
    in the features, so it is the layer's weight and bias. An axis can carry several bits: there may be more than axes.

    Args:
        features: float32[n, dim].
        nbits: number of waves; min(nbits, rank of the sample) axes are considered.
        rng: unused: nothing is drawn.

    Raises:
        HashgrainError: `fit-impossible`.

    Source: Weiss, Torralba and Fergus, Spectral hashing, NIPS 2008.
    """
    pca = leading_axes(features, nbits)
    projected = pca.project(features)
    low = projected.min(axis=0)
    ranges = projected.max(axis=0) - low
    axis, mode = smoothest(ranges, nbits)
    frequency = np.pi * mode / ranges[axis]
    weight = frequency[:, None] * pca.axes[axis]
    bias = np.pi / 2 - frequency * low[axis] - weight @ pca.mean
    return HashLayer(weight.astype(np.float32), bias.astype(np.float32), Activation.SINE)


def smoothest(ranges: Reals, nbits: int) -> tuple[Indices, Indices]:
    """Choose the `nbits` pairs of axis i and mode m >= 1 with the smallest eigenvalue (m pi / range_i)^2.

    Args:
        ranges: float64[ndims], b_i - a_i, above 0.
        nbits: number of pairs.

    Returns:
        Axes and modes, each intp[nbits], by rising eigenvalue; among equals the lower mode, then the earlier axis, is first.
    """
    modes = np.arange(1, nbits + 1)  # one axis could at most take every bit
    eigenvalues = np.square(np.pi * modes[:, None] / ranges)
    order = np.argsort(eigenvalues, axis=None, kind="stable")[:nbits]
    mode, axis = np.unravel_index(order, eigenvalues.shape)
    return axis, modes[mode]
