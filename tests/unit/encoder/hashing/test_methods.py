"""The hash functions by name: each against its definition, and what all of them do."""

import itertools

import numpy as np
import pytest
from sklearn.decomposition import PCA

from encoder.bits import binarize, unpack
from encoder.errors import HashgrainError, Reason
from encoder.hashing import bre, cca, imh, itq, ksh, lsh, pcah, sh, ssh
from encoder.hashing.itq import random_rotation
from encoder.hashing.layer import HashLayer
from encoder.hashing.methods import fit_layer
from encoder.hashing.names import HashKind
from encoder.hashing.pca import fit_pca, leading_axes
from encoder.model.spec import Activation
from tests.support.classes import clusters
from tests.support.oracles import hamming

TALL, WIDE = (300, 24), (40, 90)


def gaussian(shape, seed=7):
    """Float32 features whose axes differ in variance, rotated at random, far from the origin."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) * np.geomspace(1, 0.1, shape[1])
    return (values @ itq.random_rotation(shape[1], rng) + rng.standard_normal(shape[1])).astype(np.float32)


def fitted(kind, features, nbits, seed=0):
    """Classes, for those that read them: 0, 1, 2 in turn."""
    return fit_layer(kind, features, nbits, np.random.default_rng(seed), np.arange(len(features)) % 3)


def bits(layer, features):
    return unpack(binarize(layer.logits(features)))


def same_up_to_a_flip(found, expected):
    """Per column: the same bits, or all of them inverted, as an axis of the other sign makes them."""
    return ((found == expected).all(axis=0) | (found != expected).all(axis=0)).all()


@pytest.mark.parametrize(
    ("weight", "bias"),
    [
        pytest.param(np.ones(8), np.ones(8), id="a weight of one dimension"),
        pytest.param(np.ones((8, 3)), np.ones(7), id="another number of biases"),
        pytest.param(np.ones((8, 3)), np.ones((8, 1)), id="a bias of two dimensions"),
        pytest.param(np.ones((0, 3)), np.ones(0), id="no bits"),
        pytest.param(np.ones((8, 0)), np.ones(8), id="no features"),
        pytest.param(np.full((8, 3), np.nan), np.ones(8), id="a weight that is not a number"),
        pytest.param(np.ones((8, 3)), np.full(8, np.inf), id="an infinite bias"),
    ],
)
def test_a_layer_refuses_what_is_no_affine_map(weight, bias):
    with pytest.raises(HashgrainError) as caught:
        HashLayer(weight.astype(np.float32), bias.astype(np.float32))
    assert caught.value.reason is Reason.MODEL_INVALID


@pytest.mark.parametrize("types", [(np.float64, np.float32), (np.float32, np.float16)])
def test_a_layer_refuses_other_types_than_float32(types):
    with pytest.raises(HashgrainError) as caught:
        HashLayer(np.ones((8, 3), types[0]), np.ones(8, types[1]))
    assert caught.value.reason is Reason.MODEL_INVALID


def test_logits_are_the_affine_map_and_its_sine(rng):
    weight, bias, features = (rng.standard_normal(shape).astype(np.float32) for shape in [(8, 3), 8, (5, 3)])
    expected = np.array([[w @ x + b for w, b in zip(weight, bias, strict=True)] for x in features])
    linear = HashLayer(weight, bias).logits(features)
    assert linear.dtype == np.float32
    assert linear == pytest.approx(expected, abs=1e-5)
    assert HashLayer(weight, bias, Activation.SINE).logits(features) == pytest.approx(np.sin(expected), abs=1e-5)


@pytest.mark.parametrize("kind", HashKind)
def test_every_hash_function_makes_as_many_bits_as_asked_for(kind):
    layer = fitted(kind, gaussian(TALL), 16)
    assert layer.spec.bits == 16
    logits = layer.logits(gaussian(TALL))
    assert (logits.shape, logits.dtype) == ((300, 16), np.float32)
    assert (layer.kernel is not None) == (kind in {HashKind.KSH, HashKind.BRE, HashKind.IMH})
    assert layer.activation is (Activation.SINE if kind is HashKind.SH else Activation.LINEAR)


@pytest.mark.parametrize("shape", [TALL, WIDE], ids=["more rows", "more columns"])
def test_pca_axes_are_those_of_scikit_learn(shape):
    features = gaussian(shape)
    pca, other = fit_pca(features, 16), PCA(16, svd_solver="full").fit(features.astype(np.float64))
    assert pca.mean == pytest.approx(other.mean_, abs=1e-9)
    assert np.abs(np.sum(pca.axes * other.components_, axis=1)) == pytest.approx(np.ones(16), abs=1e-9)
    assert np.abs(pca.project(features)) == pytest.approx(np.abs(other.transform(features)), abs=1e-6)


@pytest.mark.parametrize("shape", [TALL, WIDE], ids=["more rows", "more columns"])
def test_pcah_is_the_sign_of_scikit_learn_s_projection(shape):
    features = gaussian(shape)
    projected = PCA(16, svd_solver="full").fit_transform(features.astype(np.float64))
    assert same_up_to_a_flip(bits(fitted(HashKind.PCAH, features, 16), features), projected >= 0)


def test_two_images_differ_in_an_lsh_bit_with_probability_angle_over_pi():
    nbits = 40_000
    turned = [np.array([np.cos(angle), np.sin(angle), 0]) for angle in np.linspace(0.1, 3, 6)]
    seen_from_the_mean = np.array([sign * x for x in turned for sign in (1, -1)])
    features = (seen_from_the_mean + np.array([3, -5, 2])).astype(np.float32)
    code = bits(fitted(HashKind.LSH, features, nbits), features)
    for one, two in itertools.combinations(range(len(features)), 2):
        share = np.arccos(np.clip(seen_from_the_mean[one] @ seen_from_the_mean[two], -1, 1)) / np.pi
        deviation = np.sqrt(share * (1 - share) / nbits)
        assert abs((code[one] != code[two]).mean() - share) <= 5 * deviation + 1e-3  # float32 moves a few borders


def test_spectral_hashing_is_its_formula_on_scikit_learn_s_projection():
    features, nbits = gaussian(TALL), 40  # more bits than axes
    y = PCA(24, svd_solver="full").fit_transform(features.astype(np.float64))
    low, high = y.min(axis=0), y.max(axis=0)
    waves = sorted((m / (high[i] - low[i]), m, i) for i in range(24) for m in range(1, nbits + 1))[:nbits]
    assert max(m for _, m, _ in waves) > 2
    expected = [np.sin(np.pi / 2 + m * np.pi * (y[:, i] - low[i]) / (high[i] - low[i])) >= 0 for _, m, i in waves]
    assert same_up_to_a_flip(bits(fitted(HashKind.SH, features, nbits), features), np.array(expected).T)


def test_spectral_hashing_needs_no_more_than_one_axis():
    features = np.linspace(0, 1, 1001, dtype=np.float32)[:, None] * np.ones((1, 5), dtype=np.float32)
    code = bits(fitted(HashKind.SH, features, 8), features)
    assert [int(np.count_nonzero(column[1:] != column[:-1])) for column in code.T] == list(range(1, 9))


def test_itq_s_layer_is_the_rotation_of_the_fiftieth_round():
    features = gaussian(TALL)
    pca = fit_pca(features, 16)
    projected = pca.project(features)
    rounds = itq.rotations(projected.astype(np.float32), np.random.default_rng(0))
    rotation, _ = next(itertools.islice(rounds, 50, None))
    assert fitted(HashKind.ITQ, features, 16).logits(features) == pytest.approx(projected @ rotation, abs=1e-5)


@pytest.mark.parametrize("shape", [TALL, WIDE], ids=["more rows", "more columns"])
def test_itq_ends_nearer_to_the_corners_than_pcah(shape):
    projected = fit_pca(gaussian(shape), 16).project(gaussian(shape))
    for seed in range(5):
        errors = [error for _, error in itertools.islice(itq.rotations(projected, np.random.default_rng(seed)), 51)]
        assert errors[-1] < errors[0]
        assert errors[-1] < np.square(np.where(projected >= 0, 1, -1) - projected).sum()


def test_itq_finds_a_cube_that_was_turned(rng):
    corners = np.array(list(itertools.product([-1.0, 1.0], repeat=4)))
    turned = corners @ itq.random_rotation(4, rng)
    ends = [
        next(itertools.islice(itq.rotations(turned, np.random.default_rng(seed)), 50, None))[1] for seed in range(10)
    ]
    assert min(ends) == pytest.approx(0, abs=1e-12)


def test_a_random_rotation_prefers_no_direction(rng):
    entries = np.array([itq.random_rotation(3, rng) for _ in range(4000)])
    assert entries.mean(axis=0) == pytest.approx(np.zeros((3, 3)), abs=5 * np.sqrt(1 / 3 / 4000))
    assert np.square(entries).mean(axis=0) == pytest.approx(np.full((3, 3), 1 / 3), abs=0.03)


@pytest.mark.parametrize("kind", [HashKind.PCAH, HashKind.ITQ])
def test_bits_are_balanced_on_gaussian_features(kind):
    features = gaussian((4000, 24))
    assert bits(fitted(kind, features, 16), features).mean(axis=0) == pytest.approx(np.full(16, 0.5), abs=0.04)


@pytest.mark.parametrize("kind", [HashKind.PCAH, HashKind.ITQ, HashKind.SSH])
@pytest.mark.parametrize("shape", [(10, 24), (300, 9)], ids=["too few images", "too few features"])
def test_more_bits_than_principal_axes_are_refused_with_the_numbers_and_the_remedy(kind, shape):
    features = gaussian(shape)
    fitted(kind, features, 9)
    with pytest.raises(HashgrainError, match=r"10 bits .* have 9 .* more images, fewer bits, or take lsh") as caught:
        fitted(kind, features, 10)
    assert caught.value.reason is Reason.FIT_IMPOSSIBLE


def test_repeated_rows_and_repeated_columns_make_no_axes():
    features = np.tile(gaussian((6, 9)), (50, 4))
    assert len(leading_axes(features, 36).axes) == 5
    assert len(leading_axes(features.T.copy(), 36).axes) == 6


@pytest.mark.parametrize("kind", [HashKind.SH, HashKind.LSH, HashKind.KSH, HashKind.BRE, HashKind.IMH])
def test_some_hash_functions_make_more_bits_than_features(kind):
    features = gaussian((300, 9))
    assert len(np.unique(bits(fitted(kind, features, 64), features), axis=1).T) > 32


@pytest.mark.parametrize("kind", HashKind)
@pytest.mark.parametrize(
    "features",
    [
        pytest.param(np.full((50, 24), 0.1), id="the same row again and again"),
        pytest.param(np.ones((1, 24)), id="one row"),
        pytest.param(np.ones((0, 24)), id="no rows"),
        pytest.param(np.where(np.eye(50, 24) == 1, np.nan, 1), id="not a number"),
        pytest.param(np.where(np.eye(50, 24) == 1, np.inf, 1), id="infinite"),
    ],
)
def test_features_that_tell_nothing_apart_are_refused(kind, features):
    with pytest.raises(HashgrainError) as caught:
        fitted(kind, features.astype(np.float32), 8)
    assert caught.value.reason is Reason.FIT_IMPOSSIBLE


@pytest.mark.parametrize("module", [itq, lsh, pcah, sh, imh, ksh, bre, ssh, cca])
def test_a_hash_function_is_fitted_by_the_name_of_its_module(module):
    features, name = gaussian(TALL), module.__name__.rpartition(".")[2]
    kind = HashKind.CCA_ITQ if module is cca else HashKind(name)
    named = fitted(kind, features, 8)
    classes = [np.arange(300) % 3] if kind.supervised else []
    direct = module.fit(features, 8, np.random.default_rng(0), *classes)
    assert (named.weight == direct.weight).all()
    assert (named.bias == direct.bias).all()


SUPERVISED = [kind for kind in HashKind if kind.supervised]


def precision(layer, database, classes, queries, query_classes):
    """Share of the same class among the 20 nearest, ties by row."""
    codes, asked = binarize(layer.logits(database)), binarize(layer.logits(queries))
    nearest = np.argsort(hamming(asked, codes), axis=1, kind="stable")[:, :20]
    return (classes[nearest] == query_classes[:, None]).mean()


@pytest.fixture(scope="module")
def nuisance():
    """Five classes that differ in five directions; twenty more have most of the variance and tell nothing."""
    rng = np.random.default_rng(9)
    classes = np.arange(400) % 5
    features = np.hstack([3 * np.eye(5)[classes] + rng.normal(0, 0.6, (400, 5)), rng.normal(0, 2.5, (400, 20))])
    features = (features @ random_rotation(25, rng)).astype(np.float32)
    return features[:250], classes[:250], features[250:], classes[250:]


@pytest.mark.parametrize("kind", SUPERVISED)
def test_labels_beat_pcah_among_nuisance_directions(kind, nuisance):
    database, classes, _, _ = nuisance
    without = precision(fit_layer(HashKind.PCAH, database, 16, np.random.default_rng(0)), *nuisance)
    supervised = precision(fit_layer(kind, database, 16, np.random.default_rng(0), classes), *nuisance)
    assert supervised > without + 0.1


def test_ssh_needs_only_some_labels(nuisance):
    database, classes, _, _ = nuisance
    few = np.where(np.arange(250) % 25 < 10, classes, -1)
    without = precision(fit_layer(HashKind.PCAH, database, 8, np.random.default_rng(0)), *nuisance)
    assert precision(fit_layer(HashKind.SSH, database, 8, np.random.default_rng(0), few), *nuisance) > without + 0.1


@pytest.mark.parametrize("kind", SUPERVISED)
@pytest.mark.parametrize(
    ("classes", "says"),
    [
        pytest.param(np.zeros(50, np.int64), "50 labelled images are of 1 class, and labels must", id="one class"),
        pytest.param(None, "is fitted with labels, and none were given", id="no labels"),
    ],
)
def test_labels_that_tell_nothing_apart_are_refused(kind, classes, says):
    with pytest.raises(HashgrainError, match=says) as caught:
        fit_layer(kind, clusters(50, 9, 3, 0)[0], 8, np.random.default_rng(0), classes)
    assert caught.value.reason is Reason.FIT_IMPOSSIBLE


@pytest.mark.parametrize("kind", [kind for kind in SUPERVISED if kind is not HashKind.SSH])
def test_images_without_a_label_are_refused_where_each_needs_one(kind):
    features, classes = clusters(50, 9, 3, 0)
    classes[:7] = -1
    with pytest.raises(HashgrainError, match=r"7 of 50 images have no label, .* or take ssh") as caught:
        fit_layer(kind, features, 8, np.random.default_rng(0), classes)
    assert caught.value.reason is Reason.FIT_IMPOSSIBLE


@pytest.mark.parametrize("kind", SUPERVISED)
def test_as_many_classes_as_images_still_make_codes(kind):
    features, _ = clusters(50, 9, 3, 0)
    assert fit_layer(kind, features, 8, np.random.default_rng(0), np.arange(50)).logits(features).shape == (50, 8)


@pytest.mark.parametrize("kind", SUPERVISED)
def test_repeated_images_and_constant_features_do_no_harm(kind):
    features, classes = clusters(20, 9, 4, 0)
    features = np.hstack([np.tile(features, (5, 1)), np.ones((100, 3), np.float32)])
    layer = fit_layer(kind, features, 8, np.random.default_rng(0), np.tile(classes, 5))
    bits = unpack(binarize(layer.logits(features)))
    assert len(np.unique(bits[:20], axis=0)) >= 4
