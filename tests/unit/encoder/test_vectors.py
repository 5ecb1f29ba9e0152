import numpy as np
import pytest

from encoder.vectors import unit_rows


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_have_length_one_and_their_direction_and_rows_of_zeros_stay(dtype):
    vectors = np.array([[3, 4], [0, 0], [-1e-3, 0]], dtype)
    units = unit_rows(vectors)
    assert units.dtype == dtype
    assert units == pytest.approx(np.array([[0.6, 0.8], [0, 0], [-1, 0]]))
