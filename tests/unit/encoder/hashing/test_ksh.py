"""KSH against its objective, written out with dense matrices."""

import numpy as np
import pytest

from encoder.hashing import ksh
from encoder.hashing.pairs import Residual, kernel_sample
from tests.support.classes import clusters, error, every_code, similarity


def sampled(images, dim, nclasses, seed):
    features, classes = clusters(images, dim, nclasses, seed)
    return kernel_sample(features, classes, images, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(4))
def test_each_ksh_bit_is_the_best_of_all_signs_on_a_tiny_case(seed):
    """Within 2 %; eleven directions in general position can make nearly every sign pattern of twelve images."""
    sample = sampled(12, 4, 3, seed)
    residual, everything = 4 * similarity(sample.classes), every_code(12)[:, :, 0]
    axes = ksh.whitening(sample.values)
    for _, bit in ksh.greedy_bits(sample.values @ axes.T, sample.classes, 4):
        best = np.einsum("ij,jk,ik->i", everything, residual, everything).max()
        assert bit @ residual @ bit >= 0.98 * best
        residual -= np.outer(bit, bit)


@pytest.mark.parametrize("seed", range(3))
def test_every_ksh_bit_lowers_the_error(seed):
    sample = sampled(120, 6, 4, seed)
    axes = ksh.whitening(sample.values)
    bits = np.array([bit for _, bit in ksh.greedy_bits(sample.values @ axes.T, sample.classes, 16)]).T
    errors = [error(bits[:, :count], sample.classes, 16) for count in range(17)]
    assert (np.diff(errors) < 0).all()
    assert errors[-1] < 0.5 * errors[0]


def test_whitened_kernel_features_are_uncorrelated_with_mean_square_one():
    values = sampled(120, 6, 4, 0).values
    white = values @ ksh.whitening(values).T
    assert white.T @ white / 120 == pytest.approx(np.eye(white.shape[1]), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_climb_goes_up_and_ends_on_a_summit(seed):
    sample = sampled(60, 5, 4, seed)
    values = sample.values @ ksh.whitening(sample.values).T
    dense = 8 * similarity(sample.classes)
    rng = np.random.default_rng(seed)

    def height(direction):
        smooth = 1 - 2 / (1 + np.exp(np.minimum(values @ direction, 700)))
        return smooth @ dense @ smooth

    start = rng.standard_normal(values.shape[1])
    end = ksh.climb(values, Residual.of(sample.classes, 8), start)
    assert height(end) > height(start)
    for _ in range(50):
        aside = 0.05 * np.linalg.norm(end) * rng.standard_normal(len(end)) / np.sqrt(len(end))
        assert height(end + aside) <= 1.01 * height(end)
