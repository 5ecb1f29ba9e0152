"""The kernel of a hash layer: how near a point is to each of a few anchors."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from encoder.errors import HashgrainError, Reason
from encoder.hashing.checks import Features
from encoder.model.spec import KernelSpec

Real = TypeVar("Real", bound=np.floating[Any])


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """k(x) = exp(-|x - a|^2 / (2 width^2)) for each anchor a, or only for the nearest ones, brought to the sum 1.

    Raises:
        HashgrainError: `model-invalid` for anchors of another form.
    """

    anchors: Features
    """float32[m, dim]."""
    width: float
    neighbours: int | None = None
    """Anchors nearest to x that count, all others are 0; None: all, and no sum is taken."""

    def __post_init__(self) -> None:
        if self.anchors.ndim != 2 or self.anchors.dtype != np.float32 or not np.isfinite(self.anchors).all():
            raise HashgrainError(
                Reason.MODEL_INVALID,
                f"a hash layer's anchors are {self.anchors.dtype} {self.anchors.shape}, expected finite float32 (m, dim); "
                "fit the model again",
            )

    @property
    def spec(self) -> KernelSpec:
        """Return what it is, apart from its anchors."""
        return KernelSpec(len(self.anchors), self.width, self.neighbours)

    def __call__(self, features: npt.NDArray[Real]) -> npt.NDArray[Real]:
        """Return k(x) of every row, float[n, m] of float[n, dim], in the precision of the features."""
        exponents = squared_distances(features, self.anchors) / (2 * self.width**2)
        if self.neighbours is None:
            values: npt.NDArray[Real] = np.exp(-exponents)
            return values
        places = np.argpartition(exponents, self.neighbours - 1, axis=1)[:, : self.neighbours]
        nearest = np.take_along_axis(exponents, places, axis=1)
        weights = np.exp(nearest.min(axis=1, keepdims=True) - nearest)  # far from all anchors, exp alone gives 0 / 0
        values = np.zeros_like(exponents)
        np.put_along_axis(values, places, weights / weights.sum(axis=1, keepdims=True), axis=1)
        return values


def squared_distances(points: npt.NDArray[Real], anchors: Features) -> npt.NDArray[Real]:
    """Return |x - a|^2 of every point and anchor, float[n, m] of float[n, dim] and float32[m, dim].

    Taken from the middle of the anchors: it makes no difference but for rounding, which grows with the lengths.
    """
    middle = anchors.mean(axis=0)
    points, anchors = points - middle, anchors.astype(points.dtype, copy=False) - middle
    squares = np.square(points).sum(axis=1)[:, None] + np.square(anchors).sum(axis=1)
    distances: npt.NDArray[Real] = np.maximum(squares - 2 * points @ anchors.T, 0)
    return distances
