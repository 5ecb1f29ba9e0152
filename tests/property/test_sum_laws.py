"""Laws of weighted sums: the scan returns what numpy adds up, up to the largest sum there is room for, whatever k and filter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.engines.scan import driver as running
from indexer.engines.scan.weighted import search_weighted
from indexer.engines.sums import LARGEST_SUM, WeightedLevel, search_sums
from indexer.matches import Bounds
from indexer.row_mask import row_set

ROWS = 700


@st.composite
def sums(draw):
    """Levels and their factors, the largest sum often just below what there is room for."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = draw(st.lists(st.sampled_from([1, 2, 3, 8, 16, 17]), min_size=1, max_size=3))
    share = draw(st.lists(st.integers(1, 9), min_size=len(sizes), max_size=len(sizes)))
    unit = sum(8 * size * part for size, part in zip(sizes, share, strict=True))
    scale = draw(st.one_of(st.just(LARGEST_SUM // unit), st.integers(1, LARGEST_SUM // unit)))
    queries = [rng.integers(0, 256, (2, size), dtype=np.uint8) for size in sizes]
    # from every bit alike to every bit different
    turned = np.linspace(0, 1, ROWS)[rng.permutation(ROWS)][:, None, None]
    codes = [
        of_query[:1] ^ np.packbits(rng.random((ROWS, size, 8)) < turned, axis=-1)[:, :, 0]
        for of_query, size in zip(queries, sizes, strict=True)
    ]
    counts = rng.random(ROWS) < draw(st.sampled_from([0, 0.02, 0.3, 1]))
    return queries, codes, [scale * part for part in share], counts, draw(st.integers(1, ROWS + 200))


@pytest.mark.parametrize("words_per_thread", [1, running.WORDS_PER_THREAD], ids=["threads", "one-thread"])
@settings(max_examples=150)
@given(sums(), st.booleans(), st.sampled_from([0, 1, 300, ROWS]))
def test_a_sum_is_exact_up_to_the_largest_there_is_room_for(monkeypatch, words_per_thread, case, filtered, cut):
    monkeypatch.setattr(running, "WORDS_PER_THREAD", words_per_thread)
    queries, codes, factors, counts, k = case
    levels = [
        WeightedLevel([of_level[:cut], of_level[cut:]], [None, None], factor)
        for of_level, factor in zip(codes, factors, strict=True)
    ]
    bounds = Bounds(k, rows=row_set(counts) if filtered else None)
    found = search_weighted(levels, [cut, ROWS - cut], queries, bounds)
    by_numpy = search_sums(levels, [cut, ROWS - cut], queries, bounds)
    rows = np.flatnonzero(counts) if filtered else np.arange(ROWS)
    for at, one in enumerate(found):
        assert by_numpy[at].rows.tolist() == one.rows.tolist()
        assert by_numpy[at].distances.tolist() == one.distances.tolist()
        truth = sum(
            factor * np.bitwise_count(of_query[at] ^ of_level).sum(axis=1, dtype=np.int64)
            for of_query, of_level, factor in zip(queries, codes, factors, strict=True)
        )
        nearest = rows[np.lexsort((rows, truth[rows]))][:k]
        assert one.rows.tolist() == nearest.tolist()
        assert one.distances.tolist() == truth[nearest].tolist()
