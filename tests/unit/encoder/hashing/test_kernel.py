"""Kernel values follow their formula."""

import numpy as np
import pytest

from encoder.errors import HashgrainError, Reason
from encoder.hashing.kernel import Kernel


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
