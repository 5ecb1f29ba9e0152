"""Bits of a code: the one home of the threshold, the bit order and the Hamming distance.

A code is packed lowest bit first, as FAISS packs it; `numpy.packbits` defaults to the other order.
"""

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Logits: TypeAlias = npt.NDArray[np.float32]
"""float32[n, nbits], network output before thresholding."""
Codes: TypeAlias = npt.NDArray[np.uint8]
"""uint8[n, nbits // 8], lowest bit first."""
Bits: TypeAlias = npt.NDArray[np.bool_]
"""bool[n, nbits]."""

BIT_ORDER: Final = "little"


def binarize(logits: Logits) -> Codes:
    """Threshold logits and pack them: bit = (logit >= 0), also for 0.0 and -0.0.

    Args:
        logits: float32[n, nbits], nbits a multiple of 8.

    Returns:
        uint8[n, nbits // 8], lowest bit first.
    """
    return pack(logits >= 0)


def signs(logits: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Return float64 of the shape of `logits`: 1 where `binarize` sets a bit, else -1."""
    return np.where(logits >= 0, 1.0, -1.0)


def pack(bits: Bits) -> Codes:
    """Pack bool[n, nbits] into uint8[n, nbits // 8], bit j of a row in byte j // 8 at position j % 8."""
    return np.packbits(bits, axis=-1, bitorder=BIT_ORDER)


def unpack(codes: Codes) -> Bits:
    """Unpack uint8[n, code_size] into bool[n, 8 * code_size]; the inverse of `pack`."""
    return np.unpackbits(codes, axis=-1, bitorder=BIT_ORDER).view(np.bool_)


def reversed_bits(codes: Codes) -> Codes:
    """Turn codes that are packed highest bit first, as `numpy.packbits` does by default, into codes lowest bit first, and back.

    Args:
        codes: uint8[n, code_size].

    Returns:
        uint8[n, code_size], the bits of each byte in the other order.
    """
    return np.packbits(np.unpackbits(codes, axis=-1), axis=-1, bitorder=BIT_ORDER)


def hamming(queries: Codes, database: Codes) -> npt.NDArray[np.int32]:
    """Count the differing bits between every query and every database code.

    Args:
        queries: uint8[nq, code_size], lowest bit first.
        database: uint8[nb, code_size], same code_size as queries.

    Returns:
        int32[nq, nb], bits, 0..8 * code_size.

    Source: definition of the Hamming distance. Plain and slow, for measuring and small cases; the index has its own.
    """
    distances = np.zeros((len(queries), len(database)), dtype=np.int32)
    for byte in range(queries.shape[1]):
        distances += np.bitwise_count(queries[:, byte, None] ^ database[None, :, byte])
    return distances
