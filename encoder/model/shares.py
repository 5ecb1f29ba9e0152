"""What each place of a picture adds to each bit's logit: an identity, not an estimate.

Pooled features are f = sum_p w_p F_p, what a linear hash layer reads is g = (f - m) / c, with c a number of this picture (or
m = 0, c = 1), and its logits are u = W g + v. With b_p = w_p / sum(w), hence sum(b) = 1,

    u_k = sum_p [ w_p W_k F_p / c + b_p (v_k - W_k m / c) ].

The fused level reads three such g side by side, each through its own columns of W; a third of v stands with each.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from encoder.bits import Logits
from encoder.errors import HashgrainError, Reason
from encoder.levels import STAGE_LEVELS, Level
from encoder.model.network import AttentionPool, Exit, HashNetwork
from encoder.model.spec import Activation, Normalisation
from encoder.vectors import EPSILON


@dataclass(frozen=True, slots=True)
class Shares:
    """What each place of one picture adds to the logits of a level."""

    grids: tuple[npt.NDArray[np.float32], ...]
    """float32[nbits, h, w]: one, or three for the fused level, one per stage. Over all of them a bit adds up to its logit."""
    logits: Logits
    """float32[nbits], as the network has them."""


@torch.inference_mode()
def shares(network: HashNetwork, images: Tensor, level: Level, boxes: Tensor | None = None) -> list[Shares]:
    """Return the shares of each picture, in float64 until they are done.

    Args:
        network: in eval mode.
        images: uint8[n, size, size, 3].
        level: which hash layer.
        boxes: as of `HashNetwork.features`; places outside have a share of 0.

    Raises:
        HashgrainError: `bad-value` for a hash layer that is not linear in pooled features.
    """
    head = network.head(level)
    if head.spec.kernel or head.spec.activation is not Activation.LINEAR:
        what = "a kernel" if head.spec.kernel else f"the activation {head.spec.activation}"
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"the hash layer of level {level} has {what}, so that its logits are not sums over places; take a level whose layer "
            "is linear",
        )
    read: list[Tensor] = []
    grids: list[npt.NDArray[np.float32]] = []
    at, parts = 0, 3 if level is Level.FUSED else 1
    for stage, pool, maps in _maps(network, images, level):
        pooled = pool(maps, boxes)
        read.append(pooled if stage is None else network.centre(stage, pooled))
        weight = head.weight[:, at : at + maps.shape[1]].double()
        at += maps.shape[1]
        constant, scale = (head.bias.double() / parts).expand(len(maps), -1), torch.ones(len(maps), 1, 1)
        if stage is not None and network.normalisation is Normalisation.UNIT:
            mean = network.means[stage].double()
            scale = (pooled.double() - mean).norm(dim=1).clamp_min(EPSILON)[:, None, None]
            constant = constant - (weight @ mean) / scale[:, :, 0]
        weights, even = (each.double()[:, None] for each in pool.weights(maps, boxes))
        projected = weight @ maps.double().flatten(2)
        of_places = projected / scale.to(projected) * weights + constant[:, :, None] * even
        grids.append(of_places.float().reshape(len(maps), -1, *maps.shape[2:]).cpu().numpy())
    logits = head(torch.cat(read, dim=1)).cpu().numpy()
    return [Shares(tuple(grid[row] for grid in grids), logits[row]) for row in range(len(logits))]


def _maps(network: HashNetwork, images: Tensor, level: Level) -> Iterator[tuple[Level | None, AttentionPool, Tensor]]:
    """Yield what a level reads: pooling and float[n, C, H, W], with the stage whose mean is taken off; None for an exit."""
    for stage, maps in zip(STAGE_LEVELS, network.backbone(network.normalise(images)), strict=True):
        if level is Level.FUSED:
            yield stage, network.pool(stage), maps
        elif level is stage:
            if level in network.exits:
                own = cast(Exit, network.exits[level])
                yield None, own.pool, own.convs(maps)
            else:
                yield stage, network.pool(stage), maps
            return
