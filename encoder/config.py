"""What a model is, in plain data: names and choices. Imports neither numpy nor torch, so that `--help` is quick."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from encoder.levels import Level


class HashKind(StrEnum):
    """How the hash layers are made."""

    ITQ = "itq"
    PCAH = "pcah"
    SH = "sh"
    LSH = "lsh"


class Activation(StrEnum):
    """What a hash layer does to W g + v before the threshold."""

    LINEAR = "linear"
    SINE = "sine"
    """sin(W g + v): spectral hashing."""


class Pooling(StrEnum):
    """How a feature map F and its attention A become one vector."""

    ATTENTION = "attention"
    """sum(F*A) / sum(A): does not shrink where attention is sparse."""
    PLAIN = "plain"
    """mean(F*A)."""


class Precision(StrEnum):
    """Arithmetic of the backbone; pooling and hash layers are always float32."""

    AUTO = "auto"
    """bf16 where the processor has instructions for it, else fp32."""
    FP32 = "fp32"
    BF16 = "bf16"


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """Everything that says which network it is, apart from its weights."""

    name: str = "resnet50"
    small_stem: bool = False
    """First convolution 3x3 with stride 1 and no pooling after it: for pictures of about 32 pixels."""
    stride_in_1x1: bool = False
    """Stride 2 of layers 2-4 on the first 1x1 convolution, as in the original ResNet, not on the 3x3."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What a model file's header says."""

    backbone: BackboneSpec
    image_size: int
    """Side in pixels of the centre square that the network sees."""
    pooling: Pooling
    bits: dict[Level, int]
    activations: dict[Level, Activation]
    record: dict[str, Any] = field(default_factory=dict)
    """How it came to be: weights, hash function, sample, seed. Not needed to make a code."""
