import numpy as np
import pytest

from encoder.errors import HashgrainError
from encoder.levels import Level
from indexer.matches import Bounds
from indexer.search.bit_weights import WeightedCode, nearest_by_bits
from indexer.settings import BuildSettings, Engine
from tests.support.level_indexes import sub_index


def nearest(tmp_path, codes, weights, k=10):
    index = sub_index(tmp_path, [codes], [BuildSettings()])
    query = WeightedCode(np.zeros(codes.shape[1], dtype=np.uint8), np.asarray(weights, dtype=np.int32))
    return nearest_by_bits({Level.FINE: index}, {Level.FINE: query}, Engine.FAISS, Bounds(k))


def test_a_heavy_bit_outweighs_several_light_ones(tmp_path):
    codes = np.array([[0b1000], [0b0110], [0b0111]], dtype=np.uint8)
    found = nearest(tmp_path, codes, [1, 1, 1, 4, 0, 0, 0, 0])
    assert found.rows.tolist() == [1, 2, 0]
    assert found.scores.tolist() == [2 / 7, 3 / 7, 4 / 7]
    assert found.distances[Level.FINE].tolist() == [2, 3, 1]


def test_equal_weights_order_as_the_plain_distance(tmp_path, rng):
    codes = rng.integers(0, 256, (300, 8), dtype=np.uint8)
    found = nearest(tmp_path, codes, [7] * 64, 300)
    plain = np.bitwise_count(codes).sum(axis=1, dtype=int)
    assert found.rows.tolist() == np.argsort(plain, kind="stable").tolist()
    assert found.scores == pytest.approx(np.sort(plain) / 64)


def test_weights_that_cannot_be_added_up_exactly_are_refused(tmp_path, rng):
    codes = rng.integers(0, 256, (3, 400), dtype=np.uint8)
    with pytest.raises(HashgrainError, match="sums up to 96000, the largest is 65535"):
        nearest(tmp_path, codes, [15] * 3200)
