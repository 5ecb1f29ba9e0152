"""The network while it learns: its hash layers still between two batch norms, and a criterion for each level."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from encoder.levels import Level
from encoder.model.network import HashNetwork
from encoder.model.spec import HeadSpec, Normalisation
from encoder.training.distributed import gather
from encoder.training.losses.criteria import Criterion
from encoder.training.losses.distillation import gram_distillation
from encoder.training.losses.views import contrastive_views
from encoder.training.settings import TrainSettings


class HashLearner(nn.Module):
    """norm, linear, norm: the form a hash layer is trained in.

    The first norm gives stages of different scales one scale, the second gives every bit of a batch its two halves; both
    are affine, so that what is kept in the end is one linear layer. Source of the second: Hoe et al., NeurIPS 2021.

    Args:
        dim: of the features.
        nbits: of the code.
        standardise: without it, this is the linear layer alone.
    """

    def __init__(self, dim: int, nbits: int, standardise: bool) -> None:
        super().__init__()
        self.before: nn.Module = nn.BatchNorm1d(dim, affine=False) if standardise else nn.Identity()
        self.linear = nn.Linear(dim, nbits, bias=not standardise)
        self.after: nn.Module = nn.BatchNorm1d(nbits, affine=False) if standardise else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Return logits, float32[n, nbits], of float32[n, dim]."""
        logits: Tensor = self.after(self.linear(self.before(features)))
        return logits

    @torch.no_grad()
    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias, float32[nbits, dim] and float32[nbits], of the linear layer that is the same in use."""
        weight, bias = self.linear.weight.double(), torch.zeros(self.linear.out_features, dtype=torch.double)
        if not isinstance(self.before, nn.BatchNorm1d) or not isinstance(self.after, nn.BatchNorm1d):
            return self.linear.weight.clone(), self.linear.bias.clone()
        bias = bias.to(weight.device)
        mean, scale = _statistics(self.before)
        weight = weight * scale
        bias = bias - weight @ mean
        mean, scale = _statistics(self.after)
        return (weight * scale[:, None]).float(), ((bias - mean) * scale).float()


def _statistics(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Return the running mean and 1 / sqrt(variance + eps) of a norm, float64."""
    mean, variance = cast(Tensor, norm.running_mean).double(), cast(Tensor, norm.running_var).double()
    return mean, (variance + norm.eps).rsqrt()


class Learner(nn.Module):
    """A network, its hash layers in training, and their criteria.

    Args:
        network: without hash layers of its own; see `finished`.
        settings: bits, weights of the losses.
        criteria: of the levels that learn from labels; the others learn from views.
        dtype: of the convolutions, by autocast; weights, hash layers and losses are float32.
    """

    def __init__(
        self, network: HashNetwork, settings: TrainSettings, criteria: Mapping[Level, Criterion], dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.network = network
        self.settings = settings
        self.hashes = nn.ModuleDict(
            {
                level: HashLearner(network.dims[level], nbits, settings.standardise)
                for level, nbits in settings.bits.items()
            }
        )
        self.criteria = nn.ModuleDict({str(level): criterion for level, criterion in criteria.items()})

    def features(self, images: Tensor, levels: Sequence[Level]) -> dict[Level, Tensor]:
        """Return what the hash layers read, float32[n, dim], of pictures [n, size, size, 3] by level."""
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            found = self.network.features(images, levels)
        return {level: values.float() for level, values in found.items()}

    def hashed(self, features: Mapping[Level, Tensor]) -> dict[Level, Tensor]:
        """Return logits, float32[n, nbits], of features, float32[n, dim], by level."""
        return {level: self.hashes[level](values) for level, values in features.items()}

    def logits(self, images: Tensor, levels: Sequence[Level], views: int = 1) -> dict[Level, Tensor]:
        """Return logits, float32[n, nbits], of pictures [n, size, size, 3] by level.

        In training in several processes n of the pictures is this one's share, n of the logits the whole batch.
        """
        features = self.features(images, levels)
        if self.training:
            features = {level: gather(values, views) for level, values in features.items()}
        return self.hashed(features)

    def loss(
        self, logits: Mapping[Level, Tensor], labels: Mapping[Level, Tensor], rows: Tensor, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the sum of the losses, and each by name.

        Args:
            logits: float32[n, nbits] by level; float32[2n, nbits], first views and then second ones, where a level has no
                criterion. Of 2n, levels with a criterion use the first n.
            labels: int64[n] by level.
            rows: int64[n], which training images they are.
            progress: share of the training that is done.
        """
        first = {level: values[: len(rows)] for level, values in logits.items()}
        parts: dict[str, Tensor] = {}
        for level, values in logits.items():
            if level in self.criteria:
                loss = self.criteria[level](first[level], labels[level], rows, progress)
            else:
                loss = contrastive_views(*values.chunk(2))
            parts[str(level)] = self.settings.weight.get(level, 1.0) * loss
        if self.settings.distillation and Level.FUSED in logits:
            for level, student in first.items():
                if level is not Level.FUSED and level in self.criteria:
                    taught = gram_distillation(student, first[Level.FUSED])
                    parts[f"{level} from fused"] = self.settings.distillation * taught
        total: Tensor = torch.stack(list(parts.values())).sum()
        return total, {name: value.item() for name, value in parts.items()}

    def finished(self) -> tuple[HashNetwork, dict[Level, HeadSpec]]:
        """Return the network with the hash layers folded into it, and what they are."""
        heads = {level: HeadSpec(nbits) for level, nbits in self.settings.bits.items()}
        network = HashNetwork(
            self.network.backbone, self.settings.pooling, heads, Normalisation.NONE, self.settings.exits
        )
        network.pools, network.exits = self.network.pools, self.network.exits
        for level in heads:
            weight, bias = cast(HashLearner, self.hashes[level]).folded()
            network.head(level).weight.data.copy_(weight)
            network.head(level).bias.data.copy_(bias)
        return network.eval(), heads
