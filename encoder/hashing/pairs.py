"""Similarity of labelled pairs, and what kernel hash functions have in common that are fitted to it.

S_ij = 1 for images i and j of one class, -1 for others. With codes of -1 and +1 in the rows of H, (1/K) H H' is S where two
images of one class have the same code, and two others opposite ones; ||(1/K) H H' - S||^2 is what is made small.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from encoder.hashing.checks import Classes, Features, Reals, check_classes, distinct_rows, sample_mean
from encoder.hashing.kernel import Kernel, squared_distances

ANCHORS = 300
"""Of the kernel. Source: Liu et al."""


@dataclass(frozen=True, slots=True, eq=False)
class KernelSample:
    """Images as kernel features, and their classes."""

    kernel: Kernel
    mean: Reals
    """float64[m], mean of k over the sample."""
    values: Reals
    """float64[n, m], k - mean, of the images whose pairs are used."""
    classes: Classes
    """int64[n], of the same images."""


def kernel_sample(features: Features, classes: Classes, items: int, rng: np.random.Generator) -> KernelSample:
    """Draw anchors and images; the kernel's width is the root of the mean squared distance of images and anchors.

    Args:
        features: float32[n, dim].
        classes: int64[n], without any -1: every image has a label.
        items: images whose pairs are used, at most.
        rng: draws both.

    Raises:
        HashgrainError: `fit-impossible`.

    Source: Liu, Wang, Ji, Jiang and Chang, Supervised hashing with kernels, CVPR 2012, and the authors' code.
    """
    sample_mean(features)  # for its checks alone
    check_classes(classes)
    anchors = distinct_rows(features, ANCHORS, rng)
    points = features.astype(np.float64)
    kernel = Kernel(anchors, float(np.sqrt(squared_distances(points, anchors).mean())))
    values = kernel(points)
    mean = values.mean(axis=0)
    chosen = np.sort(rng.permutation(len(features))[:items])
    return KernelSample(kernel, mean, values[chosen] - mean, classes[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """What bits h_t leave over of the pairs: R = K S - sum_t h_t h_t', kept as R = V diag(scales) V', never as n x n.

    With R for the other bits, ||(1/K) H H' - S||^2 is a constant - 2 h'R h / K^2: a bit is the better, the larger h'R h.
    """

    factors: Reals
    """V, float64[n, rank]."""
    scales: Reals
    """float64[rank]."""

    @classmethod
    def of(cls, classes: Classes, nbits: int) -> Self:
        """Return K S: S = 2 Y Y' - 1 1', Y the one-hot classes."""
        belongs = (classes[:, None] == np.unique(classes)).astype(np.float64)
        ones = np.ones((len(classes), 1))
        return cls(np.hstack([belongs, ones]), nbits * np.append(np.full(belongs.shape[1], 2.0), -1.0))

    def less(self, bits: Reals) -> "Residual":
        """Return R - h h' for each column h of float64[n, nbits]."""
        return Residual(np.hstack([self.factors, bits]), np.append(self.scales, np.full(bits.shape[1], -1.0)))

    def times(self, values: Reals) -> Reals:
        """Return R v, float64[n]."""
        product: Reals = self.factors @ (self.scales * (values @ self.factors))
        return product

    def fit_of(self, values: Reals) -> float:
        """Return v'R v."""
        return float(np.square(values @ self.factors) @ self.scales)
