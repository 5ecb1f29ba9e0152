"""What a model is, in plain data: names and choices. Imports neither numpy nor torch, so that `--help` is quick."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from encoder.errors import HashgrainError, Reason
from encoder.levels import Level

MODEL_NAME = "model.safetensors"
"""The copy of the model that stands beside the code files, and later in the index."""


class Activation(StrEnum):
    """What a hash layer does to W g + v, or W k(g) + v, before the threshold."""

    LINEAR = "linear"
    SINE = "sine"
    """sin(W g + v): spectral hashing."""


class Pooling(StrEnum):
    """How a feature map F and its attention A become one vector."""

    ATTENTION = "attention"
    """sum(F*A) / sum(A): does not shrink where attention is sparse."""
    PLAIN = "plain"
    """mean(F*A)."""
    MEAN = "mean"
    """mean(F): no attention."""


class Normalisation(StrEnum):
    """What happens to pooled features before a hash layer reads them."""

    UNIT = "unit"
    """Centred by the sample's mean and brought to length 1."""
    NONE = "none"
    """Nothing: what a trained network learnt is folded into its hash layers."""


class Precision(StrEnum):
    """Arithmetic of the backbone; pooling and hash layers are always float32."""

    AUTO = "auto"
    """bf16 where the processor has instructions for it, else fp32."""
    FP32 = "fp32"
    BF16 = "bf16"


def parse_precision(text: str) -> Precision:
    """Return the precision called `text`.

    Raises:
        HashgrainError: `bad-value`.
    """
    try:
        return Precision(text)
    except ValueError:
        names = ", ".join(Precision)
        raise HashgrainError(Reason.BAD_VALUE, f"precision {text!r} is not known; give one of {names}") from None


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """Everything that says which network it is, apart from its weights."""

    name: str = "resnet50"
    small_stem: bool = False
    """First convolution 3x3 with stride 1 and no pooling after it: for pictures of about 32 pixels."""
    stride_in_1x1: bool = False
    """Stride 2 of layers 2-4 on the first 1x1 convolution, as in the original ResNet, not on the 3x3."""
    widths: tuple[int, int, int] | None = None
    """Channels of the blocks of a `threeblock`."""


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """What the kernel k of a hash layer is, apart from its anchors a: k(x) = exp(-|x - a|^2 / (2 width^2)) of each."""

    anchors: int
    """How many there are."""
    width: float
    neighbours: int | None = None
    """The anchors nearest to x that count, their k(x) brought to the sum 1, that of all others to 0; None: all, as they are."""


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """What a hash layer is, apart from its weights."""

    bits: int
    activation: Activation = Activation.LINEAR
    kernel: KernelSpec | None = None
    """Between what the level reads and the affine map, where there is one."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What a model file's header says."""

    backbone: BackboneSpec
    image_size: int
    """Side in pixels of the centre square that the network sees."""
    pooling: Pooling
    heads: dict[Level, HeadSpec]
    normalisation: Normalisation = Normalisation.UNIT
    exits: dict[Level, tuple[int, ...]] = field(default_factory=dict)
    """Widths of the convolutions of the levels that have an exit of their own."""
    record: dict[str, Any] = field(default_factory=dict)
    """How it came to be: weights, hash function, sample, seed. Not needed to make a code."""

    @property
    def bits(self) -> dict[Level, int]:
        """Return the bits of each level."""
        return {level: head.bits for level, head in self.heads.items()}
