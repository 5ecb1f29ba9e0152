import numpy as np

from indexer.matches import Matches
from indexer.search.rerank import rerank


def test_equal_codes_are_equally_far_and_come_in_row_order():
    for seed in range(100):
        rng = np.random.default_rng(seed)
        codes = np.tile(rng.integers(0, 256, (1, 16), dtype=np.uint8), (2 + seed % 39, 1))
        rows = np.sort(rng.permutation(1000)[: len(codes)])
        found = Matches(rows, np.full(len(rows), 7, np.int32))
        logits = rng.standard_normal(128).astype(np.float32)
        ordered, distances = rerank(found, codes, logits, None)
        assert ordered.rows.tolist() == rows.tolist()
        assert len(set(distances.tolist())) == 1


def test_the_surest_bits_count_most():
    logits = np.array([3, -1, 0.5, 2, -4, 1, 1, 1], dtype=np.float32)  # the query's own code is 0b11101101
    codes = np.array([[0b11101101], [0b11101001], [0b11111101], [0b11101111]], dtype=np.uint8)
    ordered, distances = rerank(Matches(np.arange(4), np.array([0, 1, 1, 1], np.int32)), codes, logits, 3)
    assert ordered.rows.tolist() == [0, 1, 3]
    assert distances.tolist() == [0, 0.5, 1]
