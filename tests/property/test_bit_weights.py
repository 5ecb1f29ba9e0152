"""Law of a weight per bit: both engines return what numpy adds up bit by bit, whatever the codes, segments, levels and eligible rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.levels import Level
from indexer.engines.scan import driver as running
from indexer.matches import Bounds
from indexer.row_mask import row_set
from indexer.search.bit_weights import WeightedCode, nearest_by_bits
from indexer.settings import BuildSettings, Dedupe, Engine, IndexKind
from tests.support.level_indexes import sub_index

SIZES = [*range(1, 10), 12, 16, 17, 20, 24, 31, 32, 33, 48, 64, 100, 128, 256]


@st.composite
def cases(draw):
    """Segments of codes at one or two levels, a code and weights for each, which rows are eligible, and k."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.lists(st.sampled_from([0, 1, 63, 64, 65, 300, 700]), min_size=1, max_size=3))
    sizes = draw(st.sampled_from([[size] for size in SIZES] + [[8, 16], [3, 2], [16, 5]]))
    most = draw(st.sampled_from([1, 2, 7, 8, 15]))
    levels, wanted = {}, {}
    for level, size in zip(Level, sizes, strict=False):
        centres = rng.integers(0, 256, (3, size), dtype=np.uint8)
        levels[level] = centres[rng.integers(0, 3, sum(rows))] ^ (
            rng.random((sum(rows), size)) < draw(st.sampled_from([0, 0.1]))
        )
        weights = rng.integers(0, most + 1, 8 * size).astype(np.int32)
        wanted[level] = WeightedCode(rng.integers(0, 256, size, dtype=np.uint8), weights)
    wanted[Level.FINE].weights[rng.integers(8 * sizes[0])] = most
    share = draw(st.sampled_from([None, 0, 0.02, 0.5, 1]))
    counts = None if share is None else rng.random(sum(rows)) < share
    dedupe = [draw(st.sampled_from([Dedupe.ON, Dedupe.OFF])) for _ in rows]
    return rows, levels, wanted, counts, draw(st.integers(1, sum(rows) + 5)), dedupe


@pytest.mark.parametrize("words_per_thread", [1, running.WORDS_PER_THREAD], ids=["threads", "one-thread"])
@settings(max_examples=100)
@given(cases())
def test_rows_come_in_the_order_of_their_weighted_distance(tmp_path, monkeypatch, words_per_thread, case):
    monkeypatch.setattr(running, "WORDS_PER_THREAD", words_per_thread)
    rows, levels, wanted, counts, k, dedupe = case
    builds = [BuildSettings(IndexKind.FLAT, dedupe=how) for how in dedupe]
    indexes = {
        level: sub_index(tmp_path, np.split(codes, np.cumsum(rows)[:-1]), builds, level)
        for level, codes in levels.items()
    }
    sums = np.zeros(sum(rows), dtype=np.int64)
    for level, codes in levels.items():
        bits, code = (np.unpackbits(of, axis=-1, bitorder="little") for of in (codes, wanted[level].code))
        sums += (bits != code) @ wanted[level].weights.astype(np.int64)
    eligible = np.arange(sum(rows)) if counts is None else np.flatnonzero(counts)
    nearest = eligible[np.lexsort((eligible, sums[eligible]))][:k]
    total = sum(int(weights.sum()) for _, weights in wanted.values())
    bounds = Bounds(k, rows=None if counts is None else row_set(counts))
    for engine in (Engine.SCAN, Engine.FAISS):
        found = nearest_by_bits(indexes, wanted, engine, bounds)
        assert found.scores is not None
        assert found.rows.tolist() == nearest.tolist()
        assert np.rint(found.scores * total).astype(int).tolist() == sums[nearest].tolist()
        for level, codes in levels.items():
            plain = np.bitwise_count(codes[nearest] ^ wanted[level].code).sum(axis=1, dtype=int)
            assert found.distances[level].tolist() == plain.tolist()
