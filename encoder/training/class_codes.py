"""Class codes: the point of the cube {-1, +1}^nbits that each class's codes are drawn to."""

import numpy as np
import numpy.typing as npt

from encoder.errors import HashgrainError, Reason

Centres = npt.NDArray[np.float32]
"""float32[classes, nbits] of -1 and +1."""

CANDIDATES = 4_000
"""Random codes that the search for far-apart ones starts from."""
KIND_SHARE = 0.25
"""Share of the bits that classes of one kind have in common; docs/RESULTS.md has its ablation."""


def hadamard(size: int) -> Centres:
    """Return Sylvester's Hadamard matrix: rows of -1 and +1, each two of them different in half of their bits.

    Args:
        size: a power of 2.
    """
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def spread_codes(classes: int, nbits: int, rng: np.random.Generator) -> Centres:
    """Return codes that lie far apart.

    Where nbits is a power of 2 and 2 nbits >= classes, rows of a Hadamard matrix, then their negatives (Yuan et al.,
    Central similarity quantization, CVPR 2020). Else random codes, each in turn the one whose nearest predecessor is farthest.
    """
    if nbits & (nbits - 1) == 0 and classes <= 2 * nbits:
        matrix = hadamard(nbits)
        order = rng.permutation(nbits)
        return np.concatenate([matrix[order], -matrix[order]])[:classes]
    pool = rng.choice(np.array([-1, 1], np.float32), (max(CANDIDATES, 4 * classes), nbits))
    nearest = np.full(len(pool), -np.inf, np.float32)  # largest inner product with a code that was chosen
    chosen = []
    for _ in range(classes):
        best = int(nearest.argmin())
        chosen.append(best)
        nearest = np.maximum(nearest, pool @ pool[best])
        nearest[best] = np.inf
    return pool[chosen]


def nested_codes(kinds: npt.NDArray[np.int64], nbits: int, rng: np.random.Generator) -> Centres:
    """Return class codes in which classes of one kind are nearer to each other than to strangers.

    The first `KIND_SHARE` of the bits say the kind, the others the class; siblings share the first part exactly.

    Args:
        kinds: int64[classes], the kind of each class, 0..kinds - 1.
        nbits: length of a code.
        rng: draws the codes.

    Raises:
        HashgrainError: `bad-value`: fewer than 16 bits have no room for two parts.
    """
    shared = max(8, round(nbits * KIND_SHARE / 8) * 8)
    if nbits < shared + 8:
        raise HashgrainError(Reason.BAD_VALUE, f"{nbits} bits are too few for kinds and classes; give 16 or more")
    of_kind = spread_codes(int(kinds.max()) + 1, shared, rng)
    of_class = spread_codes(len(kinds), nbits - shared, rng)
    return np.concatenate([of_kind[kinds], of_class], axis=1)
