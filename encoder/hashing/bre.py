"""Binary reconstructive embeddings: weights of anchors, one changed at a time, so that codes repeat the distances of labels."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from encoder.bits import signs
from encoder.hashing.checks import Classes, Features, Reals
from encoder.hashing.layer import HashLayer
from encoder.hashing.pairs import Residual, kernel_sample

ITEMS = 1000
"""Images whose pairs are used: the order of the source's."""
ANCHORS_PER_BIT = 50
"""Anchors that a bit reads: the authors' choice."""
ROUNDS = 4
"""Measured on a part of the Grocery Store training photos: the fifth round lowers the objective by less than a thousandth."""


def fit(features: Features, nbits: int, rng: np.random.Generator, classes: Classes) -> HashLayer:
    """Fit bit_p = (sum_q W_pq (k_q(x) - mean_q) >= 0) so that distances of codes repeat those of labels.

    d_M = 0 for two images of one class, else 1; d_R = (1/K) sum_p (b_p(x_i) - b_p(x_j))^2 for bits b of 0 and 1. The sum
    of (d_M - d_R)^2 over pairs is ||(1/K) H H' - S||^2 / 4 for H = 2 b - 1. Each bit reads a few anchors of its own.

    Args:
        features: float32[n, dim].
        nbits: K, any number.
        rng: draws anchors, the images whose pairs are used, and the first weights.
        classes: int64[n], without any -1: every image has a label.

    Raises:
        HashgrainError: `fit-impossible`.

    Source: Kulis and Darrell, Learning to hash with binary reconstructive embeddings, NIPS 2009.
    """
    sample = kernel_sample(features, classes, ITEMS, rng)
    weights = next(islice(rounds(sample.values, sample.classes, nbits, rng), ROUNDS, None))
    return HashLayer.through(sample.mean, weights, sample.kernel)


def rounds(values: Reals, classes: Classes, nbits: int, rng: np.random.Generator) -> Iterator[Reals]:
    """Improve random weights without end: in a round each weight of each bit once, to the best that it can be.

    Args:
        values: centred kernel features, float64[n, m].
        classes: int64[n].
        nbits: K.
        rng: draws the anchors of each bit and the first weights.

    Yields:
        W, float64[nbits, m], first the random one, then of each round; ||(1/K) H H' - S||^2 never rises.
    """
    own = [rng.permutation(values.shape[1])[:ANCHORS_PER_BIT] for _ in range(nbits)]
    weights = np.zeros((nbits, values.shape[1]))
    for bit, anchors in enumerate(own):
        weights[bit, anchors] = rng.standard_normal(len(anchors))
    pairs, codes = Residual.of(classes, nbits), signs(values @ weights.T)
    while True:
        yield weights.copy()
        for bit, anchors in enumerate(own):
            others = pairs.less(np.delete(codes, bit, axis=1))
            logits = values @ weights[bit]
            for anchor in anchors:
                step = best_step(logits, values[:, anchor], others)
                weights[bit, anchor] += step
                logits += step * values[:, anchor]
            codes[:, bit] = signs(values @ weights[bit])


def best_step(logits: Reals, column: Reals, others: Residual) -> float:
    """Return the step t for which h = sgn(logits + t column) has the largest h'R h; 0.0 where none is better than that.

    As t grows from minus to plus infinity, the sign of each image changes once, at t = -logit / column: between two such
    places h does not change, so all there is to try is one t in each gap.

    Args:
        logits: of the bit as it is, float64[n].
        column: the kernel feature whose weight changes, float64[n].
        others: R for all other bits.
    """
    moving = np.flatnonzero(column)
    if len(moving) == 0:
        return 0.0
    places = -logits[moving] / column[moving]
    order = np.argsort(places)
    moving, places = moving[order], places[order]
    first = signs(logits)
    first[moving] = -signs(column[moving])  # at minus infinity
    changes = np.cumsum(2 * first[moving, None] * others.factors[moving], axis=0)
    sums = first @ others.factors - np.vstack([np.zeros_like(changes[:1]), changes])
    fits = np.square(sums) @ others.scales
    beyond = 1 + places[-1] - places[0]
    edges = np.concatenate([[places[0] - beyond], places, [places[-1] + beyond]])
    gaps = np.diff(edges)
    fits[gaps <= 1e-9 * np.abs(edges[1:])] = -np.inf  # images that change together, up to rounding
    best = int(fits.argmax())
    return float(edges[best] + gaps[best] / 2) if fits[best] > others.fit_of(signs(logits)) else 0.0
