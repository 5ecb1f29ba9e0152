"""What a sample must be for any hash function to be fitted to it."""

import numpy as np

from encoder.errors import HashgrainError, Reason
from encoder.hashing.layer import Features, Reals


def sample_mean(features: Features) -> Reals:
    """Return the exact centre of a sample that has something to tell apart.

    Args:
        features: float32[n, dim].

    Returns:
        float64[dim].

    Raises:
        HashgrainError: `fit-impossible` for values that are not finite, or without two different rows.
    """
    if broken := int((~np.isfinite(features)).any(axis=1).sum()):
        raise HashgrainError(
            Reason.FIT_IMPOSSIBLE,
            f"features of {broken} of {len(features)} images are not finite (NaN or infinity); give other weights",
        )
    if (features == features[:1]).all():
        raise HashgrainError(
            Reason.FIT_IMPOSSIBLE,
            f"the features of all {len(features)} images are the same, and a hash function needs differences; "
            "give more images, or other weights",
        )
    mean: Reals = features.mean(axis=0, dtype=np.float64)
    return mean
