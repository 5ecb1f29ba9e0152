"""Laws of search: both engines return what a slow oracle returns, whatever the codes, segments, rows that count, k and radius."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.engines.scan import driver as running
from indexer.engines.scan.kernels import WORTH_COPYING
from indexer.row_mask import row_set
from indexer.settings import BuildSettings, Dedupe, Engine, IndexKind, SearchSettings
from tests.support.level_indexes import sub_index

SIZES = [*range(1, 10), 12, 16, 17, 20, 24, 31, 32, 33, 48, 64, 100, 128]


def codes_like(rng, rows, size, spread):
    """Random codes; the less they spread, the more ties, which real codes are full of."""
    if spread == "uniform":
        return rng.integers(0, 256, (rows, size), dtype=np.uint8)
    centres = rng.integers(0, 256, (3, size), dtype=np.uint8)
    codes = centres[rng.integers(0, 3, rows)]
    return codes if spread == "collapsed" else codes ^ (rng.random(codes.shape) < 0.1)


@st.composite
def cases(draw):
    """Segments of codes, queries, which rows count, and what is asked."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size, spread = draw(st.sampled_from(SIZES)), draw(st.sampled_from(["uniform", "clustered", "collapsed"]))
    sizes = draw(st.lists(st.sampled_from([0, 1, 3, 63, 64, 65, 128, 300, 700, 4200]), min_size=1, max_size=3))
    segments = np.split(codes_like(rng, sum(sizes), size, spread), np.cumsum(sizes)[:-1])
    asked = draw(st.sampled_from([2, int(WORTH_COPYING)]))
    queries = np.concatenate(
        [codes_like(rng, asked, size, "uniform"), np.concatenate(segments)[: draw(st.integers(0, 3))]]
    )
    share = draw(st.sampled_from([None, 0, 0.01, 0.5, 0.99, 1]))
    counts = None if share is None else rng.random(sum(sizes)) < share
    k = draw(st.one_of(st.none(), st.integers(1, 20), st.integers(1, sum(sizes) + 5)))
    radius = draw(st.one_of(st.none() if k else st.nothing(), st.integers(0, 8 * size), st.just(8 * size), st.just(0)))
    kinds = [draw(st.sampled_from(list(IndexKind))) for _ in segments]
    together = draw(st.booleans())
    builds = [
        BuildSettings(kind, dedupe=draw(st.sampled_from(list(Dedupe))), nlist=None if kind is IndexKind.FLAT else 4)
        for kind in kinds
    ]
    return segments, queries, counts, k, radius, builds, together


def oracle(queries, codes, counts, k, radius):
    """(rows, distances) of each query, by (distance, row)."""
    distances = np.bitwise_count(queries[:, None] ^ codes[None]).sum(axis=2, dtype=np.int64)
    for of_query in distances:
        rows = np.lexsort((np.arange(len(codes)), of_query))
        if counts is not None:
            rows = rows[counts[rows]]
        if radius is not None:
            rows = rows[of_query[rows] <= radius]
        yield rows[:k].tolist(), of_query[rows[:k]].tolist()


def check(folder, case):
    segments, queries, counts, k, radius, builds, together = case
    index = sub_index(folder, segments, builds, together=together)
    rows = None if counts is None else row_set(counts)
    truth = list(oracle(queries, np.concatenate(segments), counts, k, radius))
    for engine in set(Engine) - {Engine.GPU}:
        # four lists at most, so that probing four is exact as well
        for effort in ({"exact": True}, {"nprobe": 4}):
            assert answers(index, queries, SearchSettings(k, radius, engine=engine, **effort), rows) == truth
    for nprobe in (1, 2):
        scan, theirs = (
            answers(index, queries, SearchSettings(k, radius, engine=engine, nprobe=nprobe), rows)
            for engine in (Engine.SCAN, Engine.FAISS)
        )
        assert scan == theirs


def answers(index, queries, settings, rows):
    return [(one.rows.tolist(), one.distances.tolist()) for one in index.search(queries, settings, rows)]


@pytest.mark.parametrize("words_per_thread", [1, running.WORDS_PER_THREAD], ids=["threads", "one-thread"])
@settings(max_examples=150)
@given(cases())
def test_engines_agree_with_the_oracle(tmp_path, monkeypatch, words_per_thread, case):
    monkeypatch.setattr(running, "WORDS_PER_THREAD", words_per_thread)
    check(tmp_path, case)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))  # of ten thousand, so that several processes can share them
@settings(max_examples=2_500)
@given(cases())
def test_ten_thousand_cases(tmp_path, monkeypatch, part, case):
    monkeypatch.setattr(running, "WORDS_PER_THREAD", 1)
    check(tmp_path, case)
