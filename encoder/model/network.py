"""The network: a backbone's three stages, attention pooling, and a hash layer per level and for all of them together.

For stage l with feature map F of C x H x W: attention A = sigmoid(conv1x1(F)); pooled f = sum_hw(F*A) / sum_hw(A), or
mean_hw(F*A) in the plain form, or mean_hw(F); g = (f - mean) / |f - mean|; logits = act(W g + v). The fused level reads
[g1; g2; g3].
Untrained attention has weights and bias zero, so A is uniform and f is the plain mean.

In a trained network g = f (its batch norms are folded into W and v), and a level whose stage is too early for its question
may have an exit: convolutions of its own between F and its pooling. The fused level reads the stages, not the exits.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder.levels import STAGE_LEVELS, Level
from encoder.model.backbone import Backbone
from encoder.model.coverage import coverage
from encoder.model.fold import fold_norms
from encoder.model.hash_head import HashHead
from encoder.model.spec import HeadSpec, Normalisation, Pooling
from encoder.vectors import EPSILON

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Source: torchvision's `ImageClassification` preset, for RGB in 0..1."""


class AttentionPool(nn.Module):
    """Pools float[n, C, H, W] to float32[n, C]."""

    def __init__(self, channels: int, pooling: Pooling) -> None:
        super().__init__()
        self.pooling = pooling
        self.conv = nn.Conv2d(channels, 1, kernel_size=1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, boxes: Tensor | None = None) -> Tensor:
        """Weigh each place by its attention, and by how much of it lies in a box.

        Args:
            features: float[n, C, H, W].
            boxes: float32[n, 4], see `HashNetwork.features`; of everything, they change no bit of the result.
        """
        features = features.float()
        inside = None if boxes is None else coverage(boxes, *features.shape[2:])
        if self.pooling is Pooling.ATTENTION:
            return (features.flatten(2) * self._shares(features, inside)).sum(dim=2)
        if self.pooling is Pooling.PLAIN:
            features = features * torch.sigmoid(self.conv(features))
        if inside is not None:
            features = features * (inside / inside.mean(dim=(2, 3), keepdim=True))
        return features.mean(dim=(2, 3))

    def weights(self, features: Tensor, boxes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return how features are pooled, place by place.

        Returns:
            float32[n, H * W], w of f = sum_p w_p F_p, and w / sum(w), which is at hand also where that sum is 0 in floats.
        """
        features = features.float()
        inside = torch.ones_like(features[:, :1]) if boxes is None else coverage(boxes, *features.shape[2:])
        even = (inside / inside.sum(dim=(2, 3), keepdim=True)).flatten(1)
        if self.pooling is Pooling.MEAN:
            return even, even
        shares = self._shares(features, inside)[:, 0]
        return (
            shares if self.pooling is Pooling.ATTENTION else even * self.conv(features).sigmoid().flatten(1)
        ), shares

    def _shares(self, features: Tensor, inside: Tensor | None) -> Tensor:
        """Return float32[n, 1, H * W], A / sum(A), also where every A is too small for a float and the quotient would be 0 / 0."""
        attention = F.logsigmoid(self.conv(features))
        return (attention if inside is None else attention + inside.log()).flatten(2).softmax(dim=2)


class Exit(nn.Module):
    """Convolutions of a level's own, each halving the side, and its pooling: float[n, C, H, W] to float32[n, width].

    Args:
        channels: of the stage's feature map.
        widths: channels after each convolution.
        pooling: form of the attention pooling.
    """

    def __init__(self, channels: int, widths: Sequence[int], pooling: Pooling) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for source, width in itertools.pairwise((channels, *widths)):
            layers += [nn.Conv2d(source, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.convs: nn.Module = nn.Sequential(*layers)
        self.pool = AttentionPool(widths[-1], pooling)

    def forward(self, features: Tensor, boxes: Tensor | None = None) -> Tensor:
        """Return what the level's hash layer reads."""
        pooled: Tensor = self.pool(self.convs(features), boxes)
        return pooled


class HashNetwork(nn.Module):
    """From 8-bit pictures to logits per level.

    Args:
        backbone: the trunk.
        pooling: form of the attention pooling.
        heads: the hash layer of each level that has a code.
        normalisation: what happens to pooled features before a hash layer reads them.
        exits: widths of the convolutions of the stage levels that have an exit of their own.
    """

    def __init__(
        self,
        backbone: Backbone,
        pooling: Pooling,
        heads: Mapping[Level, HeadSpec] | None = None,
        normalisation: Normalisation = Normalisation.UNIT,
        exits: Mapping[Level, Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.normalisation = normalisation
        channels = dict(zip(STAGE_LEVELS, backbone.channels(), strict=True))
        self.dims = channels | {Level.FUSED: sum(channels.values())}
        self.pools = nn.ModuleDict({level: AttentionPool(channels[level], pooling) for level in STAGE_LEVELS})
        self.exits = nn.ModuleDict(
            {level: Exit(channels[level], widths, pooling) for level, widths in (exits or {}).items()}
        )
        self.dims |= {level: widths[-1] for level, widths in (exits or {}).items()}
        centred = STAGE_LEVELS if normalisation is Normalisation.UNIT else ()
        self.means = nn.ParameterDict(
            {level: nn.Parameter(torch.zeros(channels[level]), requires_grad=False) for level in centred}
        )
        self.heads = nn.ModuleDict({level: HashHead(self.dims[level], head) for level, head in (heads or {}).items()})
        # buffers, so that they move to a GPU with the network, once; on `meta` they would lose their values
        self.pixel_mean: Tensor
        self.pixel_std: Tensor
        for name, values in (("pixel_mean", IMAGENET_MEAN), ("pixel_std", IMAGENET_STD)):
            self.register_buffer(name, 255 * torch.tensor(values, device="cpu"), persistent=False)

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

    def fold_norms(self) -> "HashNetwork":
        """Fold batch norms into convolutions, for inference: the result is the same, its tensors are not a model file's."""
        self.backbone.fold_norms()
        fold_norms(self.exits)
        return self

    def to_precision(self, dtype: torch.dtype) -> "HashNetwork":
        """Run the convolutions in `dtype`; pooling and hash layers stay float32, where a bit's sign is decided."""
        for part in (self.backbone, *(cast(Exit, each).convs for each in self.exits.values())):
            part.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8[n, size, size, 3] into the backbone's input, float[n, 3, size, size], channels last in memory."""
        pixels = (images.float() - self.pixel_mean) / self.pixel_std
        return pixels.to(next(self.backbone.parameters()).dtype).permute(0, 3, 1, 2)

    def pooled(self, images: Tensor) -> Iterator[tuple[Level, Tensor]]:
        """Yield each stage's level and its pooled features, float32[n, C], of uint8[n, size, size, 3]."""
        for level, maps in zip(STAGE_LEVELS, self.backbone(self.normalise(images)), strict=True):
            yield level, self.pool(level)(maps)

    def centre(self, level: Level, pooled: Tensor) -> Tensor:
        """Return float32[n, C], pooled features less the sample's mean and of length 1; as they are in a network without means."""
        if self.normalisation is Normalisation.NONE:
            return pooled
        centred: Tensor = pooled - self.means[level]
        length: Tensor = centred.norm(dim=1, keepdim=True)
        return centred / length.clamp_min(EPSILON)

    def features(
        self, images: Tensor, levels: Sequence[Level] | None = None, boxes: Tensor | None = None
    ) -> dict[Level, Tensor]:
        """Return what the hash layers read, float32[n, dim], by level. Stages above the highest level wanted are not computed.

        Args:
            images: uint8[n, size, size, 3].
            levels: which are wanted; None: all.
            boxes: float32[n, 4], left, top, right, bottom in shares of the side: where features are pooled; None: everywhere.
        """
        levels = self.levels if levels is None else levels
        fused = Level.FUSED in levels
        features: dict[Level, Tensor] = {}
        stages: list[Tensor] = []
        for level, maps in zip(STAGE_LEVELS, self.backbone(self.normalise(images)), strict=True):
            own = level in levels
            if fused or (own and level not in self.exits):
                stages.append(self.centre(level, self.pool(level)(maps, boxes)))
            if own:
                features[level] = self.exits[level](maps, boxes) if level in self.exits else stages[-1]
            if not fused and len(features) == len(levels):
                break
        if fused:
            features[Level.FUSED] = torch.cat(stages, dim=1)
        return {level: features[level] for level in levels}

    def forward(
        self, images: Tensor, levels: Sequence[Level] | None = None, boxes: Tensor | None = None
    ) -> dict[Level, Tensor]:
        """Return logits, float32[n, nbits], by level; arguments as of `features`."""
        return {level: self.head(level)(values) for level, values in self.features(images, levels, boxes).items()}
