"""The hash functions by name."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from encoder.errors import HashgrainError, Reason
from encoder.hashing import bre, cca, imh, itq, ksh, lsh, pcah, sh, ssh
from encoder.hashing.checks import Classes, Features
from encoder.hashing.layer import HashLayer
from encoder.hashing.names import HashKind

Fit: TypeAlias = Callable[[Features, int, np.random.Generator], HashLayer]
LabelledFit: TypeAlias = Callable[[Features, int, np.random.Generator, Classes], HashLayer]

FITS: Mapping[HashKind, Fit] = {
    HashKind.ITQ: itq.fit,
    HashKind.PCAH: pcah.fit,
    HashKind.SH: sh.fit,
    HashKind.LSH: lsh.fit,
    HashKind.IMH: imh.fit,
}
LABELLED_FITS: Mapping[HashKind, LabelledFit] = {
    HashKind.KSH: ksh.fit,
    HashKind.BRE: bre.fit,
    HashKind.SSH: ssh.fit,
    HashKind.CCA_ITQ: cca.fit,
}


def fit_layer(
    kind: HashKind, features: Features, nbits: int, rng: np.random.Generator, classes: Classes | None = None
) -> HashLayer:
    """Fit a hash function to a sample of features.

    Args:
        kind: which one.
        features: float32[n, dim]; each is centred exactly by the fit itself.
        nbits: length of the code.
        rng: makes random choices repeatable.
        classes: int64[n], -1 for an image without a label; read by the supervised kinds only.

    Raises:
        HashgrainError: `fit-impossible` for features that are not finite or all the same, or vary in too few directions,
            and for labels that are missing or tell nothing apart.
    """
    if not kind.supervised:
        return FITS[kind](features, nbits, rng)
    if classes is None:
        raise HashgrainError(
            Reason.FIT_IMPOSSIBLE,
            f"hash function {kind} is fitted with labels, and none were given; give labels, or take itq",
        )
    return LABELLED_FITS[kind](features, nbits, rng, classes)
