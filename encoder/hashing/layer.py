"""The form every hash function ends in: one affine map, of the features or of their kernel, and for some a sine of it."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from encoder.bits import Logits
from encoder.errors import HashgrainError, Reason
from encoder.hashing.checks import Features, Reals
from encoder.hashing.kernel import Kernel
from encoder.model.spec import Activation, HeadSpec


@dataclass(frozen=True, slots=True, eq=False)
class HashLayer:
    """A fitted hash function: logits = act(weight @ x + bias), or act(weight @ k(x) + bias), bit = (logit >= 0).

    Raises:
        HashgrainError: `model-invalid` for other shapes or types, or a value that is not finite.
    """

    weight: npt.NDArray[np.float32]
    """float32[nbits, dim], or float32[nbits, m] for a kernel of m anchors."""
    bias: npt.NDArray[np.float32]
    """float32[nbits]; centring is folded into it."""
    activation: Activation = Activation.LINEAR
    kernel: Kernel | None = None
    """What the affine map reads instead of the features."""

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or 0 in self.weight.shape or self.bias.shape != self.weight.shape[:1]:
            raise _invalid(f"shapes {self.weight.shape} and {self.bias.shape}, expected (nbits, dim) and (nbits,)")
        if self.weight.dtype != np.float32 or self.bias.dtype != np.float32:
            raise _invalid(f"types {self.weight.dtype} and {self.bias.dtype}, expected float32")
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise _invalid("values that are not finite")
        if self.kernel and self.weight.shape[1] != len(self.kernel.anchors):
            raise _invalid(f"{self.weight.shape[1]} columns for {len(self.kernel.anchors)} anchors")

    @classmethod
    def through(cls, mean: Reals, directions: Reals, kernel: Kernel | None = None) -> Self:
        """Return the linear layer of logits = directions @ (x - mean), or of k(x) in the place of x.

        Args:
            mean: float64[dim], the point that every hyperplane passes through.
            directions: float64[nbits, dim], the normals of the hyperplanes.
            kernel: k; dim is then the number of its anchors.
        """
        weight = directions.astype(np.float32)
        return cls(weight, -(weight @ mean).astype(np.float32), kernel=kernel)

    @property
    def spec(self) -> HeadSpec:
        """Return what it is, apart from its tensors."""
        return HeadSpec(len(self.weight), self.activation, self.kernel.spec if self.kernel else None)

    @property
    def tensors(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return its arrays by the names that they have in a model file."""
        affine = {"weight": self.weight, "bias": self.bias}
        return affine | {"anchors": self.kernel.anchors} if self.kernel else affine

    def logits(self, features: Features) -> Logits:
        """Return float32[n, nbits] of float32[n, dim]."""
        inputs = self.kernel(features) if self.kernel else features
        affine = inputs @ self.weight.T + self.bias
        return np.sin(affine) if self.activation is Activation.SINE else affine


def _invalid(found: str) -> HashgrainError:
    return HashgrainError(Reason.MODEL_INVALID, f"a hash layer's weight and bias have {found}; fit the model again")
