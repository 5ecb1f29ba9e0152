"""What any sample must be."""

import numpy as np

from encoder.hashing.checks import distinct_rows


def test_rows_are_drawn_once_however_often_they_stand_there(rng):
    rows = np.tile(rng.standard_normal((5, 3)).astype(np.float32), (4, 1))
    assert len(np.unique(distinct_rows(rows, 9, rng), axis=0)) == len(distinct_rows(rows, 9, rng)) == 5
    assert len(distinct_rows(rows, 3, rng)) == 3
