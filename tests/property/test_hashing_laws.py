from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from encoder.hashing import itq
from encoder.hashing.methods import fit_layer
from encoder.hashing.names import HashKind
from encoder.hashing.pca import leading_axes
from encoder.hashing.sh import smoothest

seeds = st.integers(0, 2**32 - 1)
kinds = st.sampled_from(HashKind)
NBITS = 8


@st.composite
def samples(draw):
    """Float32 features of both shapes, tall and wide: correlated, off centre, small or large as a whole."""
    rows, dim = draw(st.integers(NBITS + 1, 60)), draw(st.integers(NBITS, 60))
    rng = np.random.default_rng(draw(seeds))
    mixed = rng.standard_normal((rows, dim)) @ rng.standard_normal((dim, dim)) + rng.standard_normal(dim)
    return (draw(st.sampled_from([1e-3, 1, 1e3])) * mixed / np.sqrt(dim)).astype(np.float32)


def fitted(kind, features, seed=0):
    """Classes, for those that read them: 0, 1, 2 in turn."""
    return fit_layer(kind, features, NBITS, np.random.default_rng(seed), np.arange(len(features)) % 3)


def agree(one, two):
    """The same bits, but where a logit is zero up to rounding."""
    clear = np.minimum(np.abs(one), np.abs(two)) > 1e-3 * np.abs(one).max(axis=0)
    return ((one >= 0) == (two >= 0))[clear].all()


@given(kinds, samples(), seeds)
def test_equal_seeds_make_equal_layers(kind, features, seed):
    one, two = fitted(kind, features, seed), fitted(kind, features.copy(), seed)
    assert (one.weight == two.weight).all()
    assert (one.bias == two.bias).all()


@given(samples(), seeds)
def test_other_seeds_make_other_random_hyperplanes(features, seed):
    assert (fitted(HashKind.LSH, features, seed).weight != fitted(HashKind.LSH, features, seed + 1).weight).any()


@given(kinds, samples(), seeds)
def test_an_image_s_bits_depend_on_no_other_image_of_the_batch(kind, features, seed):
    layer, order = fitted(kind, features), np.random.default_rng(seed).permutation(len(features))
    assert agree(layer.logits(features[order]), layer.logits(features)[order])
    assert agree(np.concatenate([layer.logits(row[None]) for row in features]), layer.logits(features))


@given(st.sampled_from([HashKind.LSH, HashKind.PCAH, HashKind.SH]), samples(), st.floats(-4, 4))
def test_moving_every_feature_changes_no_bit(kind, features, step):
    """Not for ITQ: moving rounds the features, and fifty rounds may carry a last digit to another optimum."""
    moved = features + np.float32(step * features.std())
    assert agree(fitted(kind, moved).logits(moved), fitted(kind, features).logits(features))


@given(kinds, samples(), st.integers(-8, 8))
def test_scaling_every_feature_changes_no_bit(kind, features, exponent):
    scaled = np.ldexp(features, exponent)
    assert agree(fitted(kind, scaled).logits(scaled), fitted(kind, features).logits(features))


@given(samples(), st.integers(1, 70))
def test_principal_axes_are_orthonormal_uncorrelated_and_ordered(features, most):
    pca = leading_axes(features, most)
    ndims = len(pca.axes)
    assert ndims == min(most, features.shape[1], len(features) - 1)
    assert np.allclose(pca.axes @ pca.axes.T, np.eye(ndims), atol=1e-7)
    projected = pca.project(features)
    scatter = projected.T @ projected
    assert np.allclose(scatter, np.diag(np.diag(scatter)), atol=1e-9 * scatter[0, 0])
    assert (np.diff(np.diag(scatter)) <= 1e-9 * scatter[0, 0]).all()
    assert (pca.axes.max(axis=1) == np.abs(pca.axes).max(axis=1)).all()


@given(st.integers(1, 200), st.integers(1, 24), seeds)
def test_itq_s_error_never_rises_and_its_rotation_stays_orthogonal(rows, nbits, seed):
    rng = np.random.default_rng(seed)
    projected = rng.standard_normal((rows, nbits)) * rng.random(nbits)
    rounds = list(islice(itq.rotations(projected, rng), 20))
    errors = np.array([error for _, error in rounds])
    assert (np.diff(errors) <= 1e-12 * errors[0]).all()
    for rotation, error in rounds:
        rotated = projected @ rotation
        assert np.allclose(rotation @ rotation.T, np.eye(nbits), atol=1e-12)
        assert np.isclose(error, np.linalg.norm(np.where(rotated >= 0, 1, -1) - rotated) ** 2)


@given(st.lists(st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 7.0]), min_size=1, max_size=9), st.integers(1, 64))
def test_spectral_hashing_takes_the_smallest_eigenvalues_of_all(ranges, nbits):
    axes, modes = smoothest(np.array(ranges), nbits)
    every = sorted((m * np.pi / width) ** 2 for width in ranges for m in range(1, nbits + 1))
    assert np.allclose([(m * np.pi / ranges[i]) ** 2 for i, m in zip(axes, modes, strict=True)], every[:nbits])
    assert modes.min() >= 1
    assert len(set(zip(axes.tolist(), modes.tolist(), strict=True))) == nbits
