"""Images to be more like and images to be less like, as a code with a weight per bit.

The order by the weighted distance sum_j w_j [x_j != q_j] is that of the linear score sum_j s_j x_j, x_j = +-1, with q_j the sign
of s_j and w_j its size: so any linear classifier of bits, here Rocchio's direction, is a code and weights, but for rounding.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes, binarize, signs, unpack
from encoder.levels import Level
from indexer.search.bit_weights import WeightedCode

Direction = npt.NDArray[np.float64]
"""float64[nbits]: which way each bit is wanted, and how much."""

LARGEST_WEIGHT: Final = 15
"""Of a bit: four bits, so that sums are made of five."""
START: Final = 1.0
DISLIKE: Final = 0.5
"""Weights of what was asked first and of the disliked beside that of the liked, 1. Source: docs/LOG.md."""


def of_codes(codes: Codes) -> Direction:
    """Return float64[nbits], the mean of the bits of uint8[n, nbits / 8] as +-1; zeros for no codes."""
    nbits = 8 * codes.shape[1]
    return np.where(unpack(codes), 1.0, -1.0).mean(axis=0) if len(codes) else np.zeros(nbits)


def of_logits(logits: npt.NDArray[np.float32]) -> Direction:
    """Return float64[nbits]: +-1 for the surer half of an image's bits, less for bits that its logits are less sure of.

    Args:
        logits: float32[nbits].
    """
    middle = float(np.median(np.abs(logits)))
    return np.clip(logits / middle, -1.0, 1.0).astype(np.float64) if middle > 0 else signs(logits)


def direction(start: Direction | None, like: Codes, dislike: Codes) -> Direction:
    """Return the direction from what is disliked to what was asked first and is liked.

    Args:
        start: of what was asked first; None: only the examples count.
        like: uint8[n, nbits / 8].
        dislike: uint8[m, nbits / 8].

    Source: Rocchio, Relevance feedback in information retrieval, 1971: a sum of the query, the mean of the relevant and, from
    it, the mean of the others, each with its weight.
    """
    of_examples = of_codes(like) - DISLIKE * of_codes(dislike)
    return of_examples if start is None else START * start + of_examples


def weigh(directions: Mapping[Level, Direction]) -> dict[Level, WeightedCode]:
    """Return the code and the weights of a direction over one or several levels, the largest weight `LARGEST_WEIGHT`.

    Where nothing is wanted, since the examples cancel out, all bits weigh the same.
    """
    largest = max(float(np.abs(of_level).max()) for of_level in directions.values())
    scale = LARGEST_WEIGHT / largest if largest > 0 else 0.0
    return {
        level: WeightedCode(
            binarize(of_level.astype(np.float32)),
            np.rint(scale * np.abs(of_level)).astype(np.int32) if scale else np.ones(len(of_level), dtype=np.int32),
        )
        for level, of_level in directions.items()
    }
