"""Weighted Hamming distance, a whole number per bit, exact over all rows: as a sum of plain distances to other codes.

With M_b the bits whose weight has bit b, d_j = 1 where bit j of code x is not that of the query q, and n bits,

    H(x, q) + H(x, not (q xor M_b)) = n - |M_b| + 2 sum over M_b of d_j,

since H(x, q xor M) = H(x, q) + |M| - 2 sum over M of d_j and H(x, not y) = n - H(x, y). Times 2^b and added up over b this is
twice the weighted distance and a constant. So the engines of sums answer it as they are: the same codes several times over, asked
by other queries.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes, hamming, pack
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.engines.sums import LARGEST_SUM, WeightedLevel
from indexer.matches import Bounds
from indexer.search.combine import Ranked, nearest_sums
from indexer.search.level_index import LevelIndex
from indexer.settings import Engine

Weights = npt.NDArray[np.int32]
"""int32[nbits], at least 0."""


class WeightedCode(NamedTuple):
    """A code, and what each of its bits adds to the distance of a row where that has another."""

    code: Codes
    """uint8[nbits / 8], lowest bit first."""
    weights: Weights


def nearest_by_bits(
    indexes: Mapping[Level, LevelIndex], query: Mapping[Level, WeightedCode], engine: Engine, bounds: Bounds
) -> Ranked:
    """Return the rows of the smallest weighted distance to a query over one or several levels, ties by row.

    Args:
        indexes: the levels of an index.
        query: at each level that counts; not every weight is 0.
        engine: who adds up.
        bounds: k, and the eligible rows; a radius has no meaning here.

    Returns:
        The rows. Scores are weighted distances as a share of the largest that there can be, 0..1; distances are plain.

    Raises:
        HashgrainError: `bad-value` for weights too large to add up exactly.
    """
    parts, codes, constant, total, room = list[WeightedLevel](), list[Codes](), 0, 0, 0
    for level, (code, weights) in query.items():
        planes = [weights >> plane & 1 > 0 for plane in range(int(weights.max()).bit_length())]
        factors = [(1 << plane) * int(bits.any()) for plane, bits in enumerate(planes)]
        asked = [
            (sum(factors), code),
            *((factor, ~(code ^ pack(bits))) for factor, bits in zip(factors, planes, strict=True)),
        ]
        for factor, other in asked:
            if factor:
                parts.append(indexes[level].weighted(factor))
                codes.append(other[None])
        constant += indexes[level].nbits * sum(factors) - int(weights.sum())
        room += 2 * indexes[level].nbits * sum(factors)
        total += int(weights.sum())
    if room > LARGEST_SUM:
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"weights per bit over {', '.join(query)} make sums up to {room}, the largest is {LARGEST_SUM}; take fewer levels",
        )
    first = next(iter(query))
    (found,) = nearest_sums(engine, parts, indexes[first].rows, codes, bounds)
    return Ranked(
        found.rows,
        (found.distances - constant) / (2 * total),
        {level: hamming(code[None], indexes[level].codes_at(found.rows))[0] for level, (code, _) in query.items()},
    )
