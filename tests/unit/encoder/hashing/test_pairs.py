"""Pairs of images as bits see them, against dense matrices."""

import numpy as np
import pytest

from encoder.bits import signs
from encoder.hashing.pairs import Residual
from tests.support.classes import similarity


def test_a_residual_is_the_dense_matrix_less_what_bits_say(rng):
    classes, bits, values = np.arange(20) % 3, signs(rng.standard_normal((20, 4))), rng.standard_normal(20)
    residual = Residual.of(classes, 8).less(bits[:, :1]).less(bits[:, 1:])
    dense = 8 * similarity(classes) - bits @ bits.T
    assert residual.times(values) == pytest.approx(dense @ values)
    assert residual.fit_of(values) == pytest.approx(values @ dense @ values)
