"""KSH, BRE, SSH, CCA-ITQ and IMH against their objectives, written out with dense matrices or computed by others."""

import itertools
from itertools import islice

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.manifold import spectral_embedding

from encoder.bits import binarize, unpack
from encoder.config import HashKind
from encoder.errors import HashgrainError, Reason
from encoder.hashing import bre, cca, imh, ksh, ssh
from encoder.hashing.fitting import fit_layer
from encoder.hashing.itq import random_rotation
from encoder.hashing.kernel import Kernel, squared_distances
from encoder.hashing.pairs import Residual, kernel_sample, signs
from encoder.hashing.sample import distinct_rows
from tests.oracles import hamming

SUPERVISED = [kind for kind in HashKind if kind.supervised]


def clusters(images, dim, nclasses, seed):
    """Float32 features around a centre per class, and the classes in turn."""
    rng = np.random.default_rng(seed)
    classes = np.arange(images) % nclasses
    return (rng.standard_normal((nclasses, dim))[classes] + rng.standard_normal((images, dim))).astype(
        np.float32
    ), classes


def similarity(classes):
    """S: 1 for two of one class, -1 for others, 0 where one has no label."""
    same = np.where(classes[:, None] == classes, 1.0, -1.0)
    return np.where((classes[:, None] >= 0) & (classes >= 0), same, 0.0)


def error(codes, classes, nbits):
    """||(1/K) H H' - S||^2."""
    return np.square(codes @ codes.T / nbits - similarity(classes)).sum()


def every_code(images, nbits=1):
    """Each matrix of signs that there is: [2^(images nbits), images, nbits]."""
    return np.array(list(itertools.product([-1.0, 1.0], repeat=images * nbits))).reshape(-1, images, nbits)


def sampled(images, dim, nclasses, seed):
    features, classes = clusters(images, dim, nclasses, seed)
    return kernel_sample(features, classes, images, np.random.default_rng(seed))


def test_a_residual_is_the_dense_matrix_less_what_bits_say(rng):
    classes, bits, values = np.arange(20) % 3, signs(rng.standard_normal((20, 4))), rng.standard_normal(20)
    residual = Residual.of(classes, 8).less(bits[:, :1]).less(bits[:, 1:])
    dense = 8 * similarity(classes) - bits @ bits.T
    assert residual.times(values) == pytest.approx(dense @ values)
    assert residual.fit_of(values) == pytest.approx(values @ dense @ values)


def test_kernel_values_follow_their_formula(rng):
    anchors, points = (rng.standard_normal(shape).astype(np.float32) for shape in [(7, 3), (5, 3)])
    distances = np.array([[np.sum((x - a) ** 2) for a in anchors] for x in points.astype(np.float64)])
    gauss = np.exp(-distances / (2 * 1.5**2))
    assert Kernel(anchors, 1.5)(points) == pytest.approx(gauss, abs=1e-6)
    for row, values in zip(gauss, Kernel(anchors, 1.5, 3)(points), strict=True):
        nearest = np.argsort(-row)[:3]
        assert values[nearest] == pytest.approx(row[nearest] / row[nearest].sum(), abs=1e-6)
        assert np.count_nonzero(values) == 3


def test_a_point_far_from_every_anchor_still_has_neighbours(rng):
    values = Kernel(rng.standard_normal((7, 3)).astype(np.float32), 0.01, 3)(np.full((1, 3), 1e3, np.float32))
    assert values.sum() == pytest.approx(1)


@pytest.mark.parametrize("anchors", [np.ones(3, np.float32), np.ones((2, 3)), np.full((2, 3), np.nan, np.float32)])
def test_a_kernel_refuses_what_are_no_anchors(anchors):
    with pytest.raises(HashgrainError) as caught:
        Kernel(anchors, 1.0)
    assert caught.value.reason is Reason.MODEL_INVALID


def test_rows_are_drawn_once_however_often_they_stand_there(rng):
    rows = np.tile(rng.standard_normal((5, 3)).astype(np.float32), (4, 1))
    assert len(np.unique(distinct_rows(rows, 9, rng), axis=0)) == len(distinct_rows(rows, 9, rng)) == 5
    assert len(distinct_rows(rows, 3, rng)) == 3


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


def test_ssh_s_pair_matrix_is_that_of_all_pairs(rng):
    values, classes = rng.standard_normal((30, 6)), rng.integers(-1, 3, 30)
    assert ssh.pair_matrix(values, classes) == pytest.approx(values.T @ similarity(classes) @ values)


@pytest.mark.parametrize("shape", [(200, 12), (30, 50)], ids=["more rows", "more columns"])
def test_ssh_s_axes_are_orthonormal_and_reach_the_largest_objective(shape, rng):
    features, classes = clusters(shape[0], shape[1], 4, 0)
    classes = np.where(np.arange(shape[0]) % 3 == 0, -1, classes)
    centred = features - features.mean(axis=0, dtype=np.float64)
    pairs, spread = centred.T @ similarity(classes) @ centred, centred.T @ centred
    matrix = pairs / np.trace(pairs) + ssh.SPREAD * spread / np.trace(spread)
    weight = ssh.fit(features, 8, rng, classes).weight.astype(np.float64)
    assert weight @ weight.T == pytest.approx(np.eye(8), abs=1e-5)
    reached = np.trace(weight @ matrix @ weight.T)
    assert reached == pytest.approx(np.linalg.eigvalsh(matrix)[-8:].sum(), rel=1e-5)
    assert all(
        reached > np.trace(w[:8] @ matrix @ w[:8].T) for w in (random_rotation(shape[1], rng) for _ in range(50))
    )


def test_canonical_directions_are_those_of_a_discriminant_analysis():
    """Without a ridge r^2 / (1 - r^2) are the eigenvalues, between classes over within them, of Fisher's discriminant."""
    features, classes = clusters(300, 10, 5, 1)
    centred = features - features.mean(axis=0, dtype=np.float64)
    directions = cca.canonical_directions(centred, classes, ridge=0)
    projected = centred @ directions.T
    scatter = projected.T @ projected / 300
    assert scatter == pytest.approx(np.diag(np.diag(scatter)), abs=1e-9)
    ratios = np.diag(scatter) / (1 - np.diag(scatter))  # each is of length r
    fisher = LinearDiscriminantAnalysis(solver="eigen").fit(centred, classes)
    assert ratios / ratios.sum() == pytest.approx(fisher.explained_variance_ratio_, abs=1e-6)
    assert (np.diff(ratios) <= 0).all()
    other = fisher.transform(centred)
    assert np.abs(np.corrcoef(projected.T, other.T)[:4, 4:].diagonal()) == pytest.approx(np.ones(4), abs=1e-6)


def test_cca_itq_makes_more_bits_than_directions_from_a_rotation_with_zeros_appended(rng):
    features, classes = clusters(200, 10, 3, 2)
    layer = cca.fit(features, 16, rng, classes)
    centred = features - features.mean(axis=0, dtype=np.float64)
    projected = centred @ cca.canonical_directions(centred, classes).T
    logits = layer.logits(features)
    assert np.linalg.matrix_rank(layer.weight, tol=1e-5) == 2
    assert logits @ logits.T == pytest.approx(projected @ projected.T, abs=1e-4)  # a rotation keeps inner products


def test_k_means_ends_where_scikit_learn_s_ends(rng):
    features, _ = clusters(300, 5, 6, 3)
    centres = imh.k_means(features, 12, np.random.default_rng(0))
    first = distinct_rows(features, 12, np.random.default_rng(0))
    other = KMeans(12, init=first, n_init=1, max_iter=imh.ROUNDS, tol=0, algorithm="lloyd").fit(features)
    inertia = squared_distances(features.astype(np.float64), centres).min(axis=1).sum()
    assert inertia == pytest.approx(other.inertia_, rel=1e-3)
    assert inertia < squared_distances(features.astype(np.float64), first).min(axis=1).sum()


def graph(centres):
    """Join each centre and its nearest ones."""
    joined = np.zeros((len(centres), len(centres)))
    for row, centre in enumerate(centres.astype(np.float64)):
        joined[row, np.argsort(np.square(centres - centre).sum(axis=1))[1 : imh.GRAPH_NEIGHBOURS + 1]] = 1
    return np.maximum(joined, joined.T)


def test_the_embedding_is_scikit_learn_s_and_no_other_is_smoother(rng):
    centres = rng.standard_normal((60, 4)).astype(np.float32)
    joined = graph(centres)
    degrees = np.diag(joined.sum(axis=1))
    embedding = imh.laplacian_eigenmap(centres, 5)
    assert embedding @ degrees @ embedding.T == pytest.approx(np.eye(5), abs=1e-9)
    assert embedding @ degrees @ np.ones(60) == pytest.approx(np.zeros(5), abs=1e-9)
    other = spectral_embedding(joined, n_components=5, drop_first=True, random_state=0).T
    assert np.abs(np.corrcoef(embedding, other)[:5, 5:].diagonal()) == pytest.approx(np.ones(5), abs=1e-4)
    laplacian = degrees - joined
    roughness = np.trace(embedding @ laplacian @ embedding.T)
    for _ in range(50):
        drawn = np.column_stack([np.ones(60), rng.standard_normal((60, 5))])
        half = np.sqrt(degrees)
        rest = np.linalg.solve(half, np.linalg.qr(half @ drawn)[0])[:, 1:]
        assert roughness < np.trace(rest.T @ laplacian @ rest)


def test_imh_s_logits_are_weighted_means_of_its_neighbours_embeddings():
    features, _ = clusters(410, 6, 5, 4)
    layer = imh.fit(features, 8, np.random.default_rng(0))
    assert layer.kernel is not None
    assert len(layer.kernel.anchors) == imh.CENTRES
    for x, logits in zip(features[:20], layer.logits(features[:20]), strict=True):
        distances = np.square(layer.kernel.anchors.astype(np.float64) - x).sum(axis=1)
        near = np.argsort(distances)[: imh.NEIGHBOURS]
        shares = np.exp(-distances[near] / (2 * layer.kernel.width**2))
        assert logits == pytest.approx(layer.weight[:, near] @ shares / shares.sum(), abs=1e-5)


def test_imh_lays_out_two_groups_apart(rng):
    features = np.concatenate([rng.normal(0, 1, (100, 5)), rng.normal(30, 1, (100, 5))]).astype(np.float32)
    bits = unpack(binarize(imh.fit(features, 8, rng).logits(features)))
    assert (bits[:100, 0] != bits[100:, 0]).all()
    assert len(np.unique(bits[:100, 0])) == 1


def test_imh_refuses_more_bits_than_it_has_centres(rng):
    features = np.tile(rng.standard_normal((8, 5)).astype(np.float32), (50, 1))
    with pytest.raises(HashgrainError, match="8 bits need more than 8 centres, and 400 images have 8") as caught:
        imh.fit(features, 8, rng)
    assert caught.value.reason is Reason.FIT_IMPOSSIBLE


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
    with pytest.raises(HashgrainError, match=r"7 of 50 images have no label, .* or give --hash ssh") as caught:
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
