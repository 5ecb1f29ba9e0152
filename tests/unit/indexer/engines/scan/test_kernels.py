"""What crosses the border between Python and the compiled functions."""

import numpy as np

from indexer.engines.scan.kernels import QueryBatch, no_candidates


def words(number):
    return np.uint64(number)


def test_a_record_that_comes_back_goes_in_again_as_what_it_was():
    batch = QueryBatch(np.zeros((2, 1), np.uint64), np.empty(0, np.uint64), *map(words, (3, 65, 64, 300)))
    parts: tuple[object, ...] = no_candidates(batch, words(1))
    assert all(isinstance(part, np.ndarray) and part.dtype == np.uint64 for part in parts)
