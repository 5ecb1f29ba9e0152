"""IMH against scikit-learn."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.manifold import spectral_embedding

from encoder.bits import binarize, unpack
from encoder.errors import HashgrainError, Reason
from encoder.hashing import imh
from encoder.hashing.checks import distinct_rows
from encoder.hashing.kernel import squared_distances
from tests.support.classes import clusters


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
