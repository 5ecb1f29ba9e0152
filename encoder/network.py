"""The network: a backbone's three stages, attention pooling, and a hash layer per level and for all of them together.

For stage l with feature map F of C x H x W: attention A = sigmoid(conv1x1(F)); pooled f = sum_hw(F*A) / sum_hw(A), or
mean_hw(F*A) in the plain form; g = (f - mean) / |f - mean|; logits = act(W g + v). The fused level reads [g1; g2; g3].
Untrained attention has weights and bias zero, so A is uniform and f is the plain mean.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from encoder.backbone import Backbone
from encoder.config import Activation, Pooling
from encoder.levels import STAGE_LEVELS, Level

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Source: torchvision's `ImageClassification` preset, for RGB in 0..1."""
EPSILON = 1e-12
"""Keeps the length of an all-zero feature from dividing by zero."""


class AttentionPool(nn.Module):
    """Pools float[n, C, H, W] to float32[n, C]."""

    def __init__(self, channels: int, pooling: Pooling) -> None:
        super().__init__()
        self.pooling = pooling
        self.conv = nn.Conv2d(channels, 1, kernel_size=1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Weigh each place by its attention."""
        features = features.float()
        attention = torch.sigmoid(self.conv(features))
        weighed = (features * attention).sum(dim=(2, 3))
        if self.pooling is Pooling.PLAIN:
            return weighed / (features.shape[2] * features.shape[3])
        return weighed / attention.sum(dim=(2, 3))


class HashHead(nn.Module):
    """Logits of one level: act(W g + v), float32[n, nbits]."""

    def __init__(self, dim: int, nbits: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.linear = nn.Linear(dim, nbits)

    def forward(self, features: Tensor) -> Tensor:
        """Apply the layer that was fitted or trained."""
        logits: Tensor = self.linear(features)
        return torch.sin(logits) if self.activation is Activation.SINE else logits


class HashNetwork(nn.Module):
    """From 8-bit pictures to logits per level.

    Args:
        backbone: the trunk.
        pooling: form of the attention pooling.
        heads: bits and activation of each level that has a code.
    """

    def __init__(
        self, backbone: Backbone, pooling: Pooling, heads: Mapping[Level, tuple[int, Activation]] | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.dims = dict(zip(STAGE_LEVELS, backbone.channels(), strict=True))
        self.dims[Level.FUSED] = sum(self.dims.values())
        self.pools = nn.ModuleDict({level: AttentionPool(self.dims[level], pooling) for level in STAGE_LEVELS})
        self.means = nn.ParameterDict(
            {level: nn.Parameter(torch.zeros(self.dims[level]), requires_grad=False) for level in STAGE_LEVELS}
        )
        self.heads = nn.ModuleDict(
            {
                level: HashHead(self.dims[level], nbits, activation)
                for level, (nbits, activation) in (heads or {}).items()
            }
        )

    @property
    def levels(self) -> list[Level]:
        """Return the levels that have a hash layer."""
        return [Level(level) for level in self.heads]

    def pool(self, level: Level) -> AttentionPool:
        """Return the pooling of a stage."""
        return cast(AttentionPool, self.pools[level])

    def head(self, level: Level) -> HashHead:
        """Return the hash layer of a level."""
        return cast(HashHead, self.heads[level])

    def to_precision(self, dtype: torch.dtype) -> "HashNetwork":
        """Run the backbone in `dtype`; pooling and hash layers stay float32, where a bit's sign is decided."""
        self.backbone.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8[n, size, size, 3] into the backbone's input, float[n, 3, size, size], channels last in memory."""
        mean, std = (255 * torch.tensor(values, device=images.device) for values in (IMAGENET_MEAN, IMAGENET_STD))
        pixels = (images.float() - mean) / std
        return pixels.to(next(self.backbone.parameters()).dtype).permute(0, 3, 1, 2)

    def pooled(self, images: Tensor) -> Iterator[tuple[Level, Tensor]]:
        """Yield each stage's level and its pooled features, float32[n, C], of uint8[n, size, size, 3]."""
        for level, features in zip(STAGE_LEVELS, self.backbone(self.normalise(images)), strict=True):
            yield level, self.pool(level)(features)

    def centre(self, level: Level, pooled: Tensor) -> Tensor:
        """Shift pooled features by the sample's mean and bring them to length 1."""
        centred: Tensor = pooled - self.means[level]
        length: Tensor = centred.norm(dim=1, keepdim=True)
        return centred / length.clamp_min(EPSILON)

    def forward(self, images: Tensor, levels: Sequence[Level] | None = None) -> dict[Level, Tensor]:
        """Return logits, float32[n, nbits], of uint8[n, size, size, 3] for the levels asked for (default: all).

        Stages above the highest level asked for are not computed.
        """
        wanted = self.levels if levels is None else list(levels)
        stages: dict[Level, Tensor] = {}
        for level, pooled in self.pooled(images):
            stages[level] = self.centre(level, pooled)
            if Level.FUSED not in wanted and all(other in stages for other in wanted):
                break
        if Level.FUSED in wanted:
            stages[Level.FUSED] = torch.cat([stages[level] for level in STAGE_LEVELS], dim=1)
        return {level: self.head(level)(stages[level]) for level in wanted}
