"""BRE against its objective, written out with dense matrices."""

from itertools import islice

import numpy as np
import pytest

from encoder.bits import signs
from encoder.hashing import bre
from encoder.hashing.pairs import Residual, kernel_sample
from tests.support.classes import clusters, error, every_code, similarity


def sampled(images, dim, nclasses, seed):
    features, classes = clusters(images, dim, nclasses, seed)
    return kernel_sample(features, classes, images, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(6))
def test_bre_ends_at_the_best_codes_there_are_on_a_tiny_case(seed):
    """Within 15 % of the best of all 4,096 codes of two bits."""
    sample, everything = sampled(6, 4, 3, seed), every_code(6, 2)
    best = np.square(everything @ everything.transpose(0, 2, 1) / 2 - similarity(sample.classes)).sum(axis=(1, 2)).min()
    weights = next(islice(bre.rounds(sample.values, sample.classes, 2, np.random.default_rng(seed)), 4, None))
    assert error(signs(sample.values @ weights.T), sample.classes, 2) <= 1.15 * best


@pytest.mark.parametrize("seed", range(3))
def test_no_round_of_bre_raises_the_error(seed):
    sample = sampled(80, 5, 4, seed)
    rounds = islice(bre.rounds(sample.values, sample.classes, 8, np.random.default_rng(seed)), 5)
    errors = [error(signs(sample.values @ weights.T), sample.classes, 8) for weights in rounds]
    assert (np.diff(errors) <= 0).all()
    assert errors[-1] < 0.8 * errors[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_step_of_bre_is_the_best_along_its_line(seed):
    sample, rng = sampled(40, 5, 4, seed), np.random.default_rng(seed)
    dense = 8 * similarity(sample.classes)
    logits, column = sample.values @ rng.standard_normal(40), sample.values[:, 3]

    def height(step):
        bit = signs(logits + step * column)
        return bit @ dense @ bit

    found = height(bre.best_step(logits, column, Residual.of(sample.classes, 8)))
    assert found >= max(height(step) for step in [0.0, *(10.0 ** rng.uniform(-4, 4, 2000) * rng.choice([-1, 1], 2000))])


def test_a_weight_of_what_is_zero_everywhere_stays():
    assert bre.best_step(np.array([1.0, -1.0]), np.zeros(2), Residual.of(np.array([0, 1]), 8)) == 0.0


def test_images_that_are_the_same_change_sign_together(rng):
    logits, column = (np.repeat(rng.standard_normal(10), 3) for _ in range(2))
    step = bre.best_step(logits, column, Residual.of(np.arange(30) % 3, 8))
    assert (signs(logits + step * column).reshape(10, 3).std(axis=1) == 0).all()
