"""CCA-ITQ against a discriminant analysis."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from encoder.hashing import cca
from tests.support.classes import clusters


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
