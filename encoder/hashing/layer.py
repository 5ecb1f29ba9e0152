"""The form every hash function ends in: one affine map of the features, and for spectral hashing a sine of it."""

from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt

from encoder.bits import Logits
from encoder.config import Activation
from encoder.errors import HashgrainError, Reason

Features: TypeAlias = npt.NDArray[np.float32]
"""float32[n, dim], one row an image."""
Reals: TypeAlias = npt.NDArray[np.float64]
"""float64 of any shape: what hash functions are fitted in."""


@dataclass(frozen=True, slots=True, eq=False)
class HashLayer:
    """A fitted hash function: logits = act(weight @ x + bias), bit = (logit >= 0).

    Raises:
        HashgrainError: `model-invalid` for other shapes or types, or a value that is not finite.
    """

    weight: npt.NDArray[np.float32]
    """float32[nbits, dim]."""
    bias: npt.NDArray[np.float32]
    """float32[nbits]; centring is folded into it."""
    activation: Activation = Activation.LINEAR

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or 0 in self.weight.shape or self.bias.shape != self.weight.shape[:1]:
            raise _invalid(f"shapes {self.weight.shape} and {self.bias.shape}, expected (nbits, dim) and (nbits,)")
        if self.weight.dtype != np.float32 or self.bias.dtype != np.float32:
            raise _invalid(f"types {self.weight.dtype} and {self.bias.dtype}, expected float32")
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise _invalid("values that are not finite")

    @classmethod
    def through(cls, mean: Reals, directions: Reals) -> Self:
        """Return the linear layer of logits = directions @ (x - mean).

        Args:
            mean: float64[dim], the point that every hyperplane passes through.
            directions: float64[nbits, dim], the normals of the hyperplanes.
        """
        weight = directions.astype(np.float32)
        return cls(weight, -(weight @ mean).astype(np.float32))

    def logits(self, features: Features) -> Logits:
        """Return float32[n, nbits] of float32[n, dim]."""
        affine = features @ self.weight.T + self.bias
        return np.sin(affine) if self.activation is Activation.SINE else affine


def _invalid(found: str) -> HashgrainError:
    return HashgrainError(
        Reason.MODEL_INVALID, f"a hash layer's weight and bias have {found}; fit the model again with `encoder fit`"
    )
