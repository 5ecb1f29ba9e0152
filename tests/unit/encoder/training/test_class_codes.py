import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.errors import HashgrainError
from encoder.training.class_codes import hadamard, nested_codes, spread_codes


def distances(codes):
    return (codes.shape[1] - codes @ codes.T) / 2


@pytest.mark.parametrize("size", [1, 2, 16, 128])
def test_rows_of_a_hadamard_matrix_are_orthogonal(size):
    matrix = hadamard(size)
    np.testing.assert_array_equal(matrix @ matrix.T, size * np.eye(size))


@given(classes=st.integers(1, 120), nbits=st.sampled_from([16, 24, 32, 48, 64]), seed=st.integers(0, 9))
def test_spread_codes_are_distinct_points_of_the_cube(classes, nbits, seed):
    codes = spread_codes(classes, nbits, np.random.default_rng(seed))
    assert codes.shape == (classes, nbits)
    assert codes.dtype == np.float32
    assert set(np.unique(codes)) <= {-1, 1}
    assert len(np.unique(codes, axis=0)) == classes


def test_a_hundred_classes_of_64_bits_differ_in_half_of_them():
    far = distances(spread_codes(100, 64, np.random.default_rng(0)))
    assert far[~np.eye(100, dtype=bool)].min() == 32


def test_searched_codes_lie_farther_apart_than_random_ones():
    rng = np.random.default_rng(0)
    searched = distances(spread_codes(100, 48, rng)) + 48 * np.eye(100)
    random = distances(rng.choice([-1.0, 1.0], (100, 48))) + 48 * np.eye(100)
    assert searched.min() >= random.min() + 4


@pytest.mark.parametrize("nbits", [16, 32, 64, 128])
def test_siblings_are_nearer_than_strangers_on_average_and_share_their_kind_exactly(nbits):
    kinds = np.repeat(np.arange(20), 5)
    codes = nested_codes(kinds, nbits, np.random.default_rng(0))
    siblings = kinds[:, None] == kinds
    far = distances(codes)
    assert far[siblings & ~np.eye(100, dtype=bool)].mean() < far[~siblings].mean()
    shared = max(8, nbits // 4)
    assert all(len(np.unique(codes[kinds == kind, :shared], axis=0)) == 1 for kind in range(20))
    assert len(np.unique(codes, axis=0)) == 100


def test_eight_bits_have_no_room_for_two_parts():
    with pytest.raises(HashgrainError, match="8 bits are too few"):
        nested_codes(np.zeros(2, np.int64), 8, np.random.default_rng(0))
