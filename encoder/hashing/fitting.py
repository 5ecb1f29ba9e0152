"""The hash functions by name."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from encoder.config import HashKind
from encoder.hashing import itq, lsh, pcah, sh
from encoder.hashing.layer import Features, HashLayer

Fit: TypeAlias = Callable[[Features, int, np.random.Generator], HashLayer]

FITS: Mapping[HashKind, Fit] = {
    HashKind.ITQ: itq.fit,
    HashKind.PCAH: pcah.fit,
    HashKind.SH: sh.fit,
    HashKind.LSH: lsh.fit,
}


def fit_layer(kind: HashKind, features: Features, nbits: int, rng: np.random.Generator) -> HashLayer:
    """Fit a hash function to a sample of features without labels.

    Args:
        kind: which one.
        features: float32[n, dim]; each is centred exactly by the fit itself.
        nbits: length of the code.
        rng: makes random choices repeatable.

    Raises:
        HashgrainError: `fit-impossible` for features that are not finite or all the same, or vary in too few directions.
    """
    return FITS[kind](features, nbits, rng)
