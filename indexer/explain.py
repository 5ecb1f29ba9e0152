"""What the agreeing bits of two pictures rest on: heat maps of both, exact where hash layers are linear.

With u_k the logits of a picture, share_kp what its place p adds to u_k (`encoder.model.shares`), and A the bits in which both
codes agree, each with the sign s_k: E_p = sum_{k in A} s_k share_kp. Over all places that is sum_{k in A} |u_k|, how sure the
picture is of the bits that agree; a place with E_p < 0 speaks against them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from encoder.bits import binarize, unpack
from encoder.errors import HashgrainError, Reason
from encoder.images.region import Box
from encoder.levels import Level
from indexer.index import Index
from indexer.options import chosen_level
from indexer.query import ByImage, ByKey, Query, as_query, name_of

if TYPE_CHECKING:
    from encoder.model.shares import Shares


@dataclass(frozen=True, slots=True)
class HeatMap:
    """How much each place of a picture says for the bits that agree."""

    grids: tuple[npt.NDArray[np.float32], ...]
    """float32[h, w] over the square: one, or three for the fused level, one per stage."""
    box: tuple[float, float, float, float]
    """x, y, width, height of the square that the network saw, in shares of the upright picture."""
    total: float
    """What the places of all grids add up to: the sum of |logit| over the bits that agree."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the agreeing bits of a query and a hit rest on."""

    level: Level
    bits: int
    agreeing: int
    query: HeatMap
    hit: HeatMap


def explain(index: Index, query: Query, key: str, level: Level | str | None = None) -> Explanation:
    """Explain why a row is near a query, or how near it is.

    Args:
        index: with its model, and with the pictures of its rows within reach.
        query: an image or a key; a region of it, too.
        key: of the hit.
        level: which code; None: fused, or the only one there is.

    Raises:
        HashgrainError: `key-unknown`, `level-unknown`, `image-rejected`, `shard-missing`, `shard-damaged`, `not-allowed`,
            `model-invalid`, `model-mismatch`; `bad-value` for a code, which has no picture, and a hash layer that is not linear.
    """
    opened = index.snapshot
    level = chosen_level(level, opened.manifest.bits)
    opened.check_level(level)
    asked = as_query(query)
    row = opened.find(key)
    mine = None
    match asked:
        case ByImage():
            picture = asked
        case ByKey(own, region, mode):
            at = opened.find(own)
            picture = ByImage(opened.image(at), None, region, mode)
            mine = opened.codes(level, np.array([at]))[0] if region is None else None
        case _:
            raise HashgrainError(
                Reason.BAD_VALUE, f"{name_of(asked)} has no picture to explain; give an image, or the key of a row"
            )
    at_query, of_query = _shares(index, picture, level)
    at_hit, of_hit = _shares(index, ByImage(opened.image(row)), level)
    bits = unpack(binarize(of_query.logits) if mine is None else mine)
    agree = bits == unpack(opened.codes(level, np.array([row]))[0])
    signs = np.where(bits, 1.0, -1.0) * agree
    return Explanation(
        level, len(agree), int(agree.sum()), _heat_map(at_query, of_query, signs), _heat_map(at_hit, of_hit, signs)
    )


def _shares(index: Index, query: ByImage, level: Level) -> tuple[Box, "Shares"]:
    """Return where the square lies that the network sees of a picture, and the shares of its places."""
    from encoder.images.inputs import look

    model = index.encoder
    seen = look(query.image, model.model.config.image_size, index.limits, query.region, query.region_mode)
    return seen.square, model.shares(seen.pixels, level, seen.inside)


def _heat_map(square: Box, of: "Shares", signs: npt.NDArray[np.float64]) -> HeatMap:
    """Add the shares of bits up, each by its sign, 0 for those that disagree."""
    grids = tuple(np.tensordot(signs, grid, axes=1).astype(np.float32) for grid in of.grids)
    left, top, right, bottom = square
    box = (left, top, right - left, bottom - top)
    return HeatMap(grids, box, float(sum(grid.sum(dtype=np.float64) for grid in grids)))
