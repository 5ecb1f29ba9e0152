"""What a sample must be for any hash function to be fitted to it."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from encoder.errors import HashgrainError, Reason

Features: TypeAlias = npt.NDArray[np.float32]
"""float32[n, dim], one row an image."""
Classes: TypeAlias = npt.NDArray[np.int64]
"""int64[n], number of each image's class, -1 for an image without a label."""
Reals: TypeAlias = npt.NDArray[np.float64]
"""float64 of any shape: what hash functions are fitted in."""


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


def check_classes(classes: Classes, *, all_labelled: bool = True) -> None:
    """Make sure that labels tell images apart.

    Raises:
        HashgrainError: `fit-impossible` for fewer than two classes, or for images without a label where all need one.
    """
    labelled = classes[classes >= 0]
    if all_labelled and len(labelled) < len(classes):
        raise HashgrainError(
            Reason.FIT_IMPOSSIBLE,
            f"{len(classes) - len(labelled)} of {len(classes)} images have no label, and this hash function reads one of "
            "each; name another field, or take ssh, which needs only some",
        )
    if (found := len(np.unique(labelled))) < 2:
        raise HashgrainError(
            Reason.FIT_IMPOSSIBLE,
            f"{len(labelled)} labelled images are of {found} class{'' if found == 1 else 'es'}, and labels must tell "
            "two apart; give more images, or name another field",
        )


def distinct_rows(features: Features, most: int, rng: np.random.Generator) -> Features:
    """Draw rows of which no two are the same: `most` of them, or all there are.

    Returns:
        float32[m, dim], in random order.
    """
    rows = {features[row].tobytes(): row for row in rng.permutation(len(features))}
    return features[list(rows.values())[:most]]
