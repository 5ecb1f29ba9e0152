"""Locality-sensitive hashing: random hyperplanes through the mean; nothing but the mean is learnt."""

import numpy as np

from encoder.hashing.checks import Features, sample_mean
from encoder.hashing.layer import HashLayer


def fit(features: Features, nbits: int, rng: np.random.Generator) -> HashLayer:
    """Draw bit_k = (w_k . (x - mean) >= 0) with w_k ~ N(0, I).

    Two images at angle t, seen from the mean, differ in a bit with probability t / pi. Any number of bits is possible.

    Args:
        features: float32[n, dim].
        nbits: number of hyperplanes.
        rng: draws the hyperplanes.

    Raises:
        HashgrainError: `fit-impossible`.

    Source: Charikar, Similarity estimation techniques from rounding algorithms, STOC 2002.
    """
    return HashLayer.through(sample_mean(features), rng.standard_normal((nbits, features.shape[1])))
