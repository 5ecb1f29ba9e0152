"""Vectors of floats, row by row: the length that features are brought to before anything compares them."""

from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

EPSILON: Final = 1e-12
"""Keeps the length of an all-zero vector from dividing by zero."""

Float = TypeVar("Float", np.float32, np.float64)


def unit_rows(vectors: npt.NDArray[Float]) -> npt.NDArray[Float]:
    """Return float[n, dim] of the same dtype with rows of length 1; rows of zeros stay zeros."""
    units: npt.NDArray[Float] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), EPSILON)
    return units
