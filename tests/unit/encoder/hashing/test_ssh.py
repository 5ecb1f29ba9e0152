"""SSH against its objective, written out with dense matrices."""

import numpy as np
import pytest

from encoder.hashing import ssh
from encoder.hashing.itq import random_rotation
from tests.support.classes import clusters, similarity


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
