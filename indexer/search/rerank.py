"""Hits in the order of the asymmetric distance: the query's logits, which say how sure it is of each bit, against codes."""

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes, unpack
from indexer.matches import Matches


def rerank(
    matches: Matches, codes: Codes, logits: npt.NDArray[np.float32], k: int | None
) -> tuple[Matches, npt.NDArray[np.float32]]:
    """Order what was found by the sum of |logit| over the bits that differ; ties by (distance, row).

    Args:
        matches: rows and Hamming distances.
        codes: uint8[len(matches.rows), nbits / 8], their codes.
        logits: float32[nbits] of the query.
        k: most rows that are kept; None: all.

    Returns:
        The rows in their new order, and float32[m], their asymmetric distances.

    Source: Gordo, Perronnin, Gong and Lazebnik, Asymmetric distances for binary embeddings, PAMI 2014: the distance of a
    query to the nearest point that would have the code, up to a constant of the query.
    """
    differ = unpack(codes) != (logits >= 0)
    # not a matrix product, which adds up in an order that depends on the place: equal codes would not be equally far
    distances = np.where(differ, np.abs(logits), 0).sum(axis=1, dtype=np.float64).astype(np.float32)
    order = np.lexsort((matches.rows, matches.distances, distances))[:k]
    return Matches(matches.rows[order], matches.distances[order]), distances[order]
