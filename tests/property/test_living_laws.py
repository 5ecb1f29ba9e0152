"""Laws of an index that changes: whatever was added and removed, answers are those of what is there, by every engine."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.engines.faiss_cpu import assign, write_lists
from indexer.engines.faiss_file import write_flat
from indexer.matches import MOST_AHEAD
from indexer.row_mask import row_set
from indexer.search.level_index import LevelIndex
from indexer.settings import BuildSettings, Dedupe, Engine, IndexKind, SearchSettings
from indexer.storage.manifest import LevelRecord, Tuned
from indexer.storage.segment import LevelPart
from tests.property.test_search_laws import answers, codes_like, oracle
from tests.support.level_indexes import sub_index

ENGINES = [Engine.AUTO, Engine.FAISS, Engine.SCAN]
TUNED = Tuned(30, {1: 0.5, 2: 0.8, 3: 0.9, 5: 1.0})


@st.composite
def histories(draw):
    """Segments of codes, which rows are left of them, and queries."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size, spread = draw(st.sampled_from([1, 4, 8, 16])), draw(st.sampled_from(["uniform", "clustered", "collapsed"]))
    sizes = draw(st.lists(st.sampled_from([1, 3, 64, 200, 900]), min_size=1, max_size=4))
    codes = codes_like(rng, sum(sizes), size, spread)
    left = rng.random(sum(sizes)) >= draw(st.sampled_from([0, 0.02, 0.3, 0.5, 0.9, 1]))
    queries = np.concatenate([codes_like(rng, 3, size, "uniform"), codes[: draw(st.integers(0, 3))]])
    if draw(st.booleans()):  # what is nearest is gone: the worst that can happen to a search that finds more
        left &= np.bitwise_count(codes ^ queries[-1]).sum(axis=1) > draw(st.integers(0, 4 * size))
    return np.split(codes, np.cumsum(sizes)[:-1]), left, queries


def shared_lists(folder, segments, centroids):
    """Open segments whose lists have the same centroids, as an index that grew has them."""
    folder.mkdir(parents=True, exist_ok=True)
    parts, nbits = [], 8 * centroids.shape[1]
    for number, codes in enumerate(segments):
        for old in folder.glob(f"{number}.*"):
            old.unlink()
        write_flat(folder / f"{number}.flat", nbits, len(codes), [codes])
        write_lists(folder / f"{number}.ivf", codes, assign(codes, centroids), centroids)
        record = LevelRecord(nbits, f"{number}.flat", f"{number}.ivf", len(centroids), 2, TUNED)
        parts.append(LevelPart(folder, record, len(codes)))
    return parts


@settings(max_examples=100)
@given(histories(), st.integers(1, 60), st.sampled_from(list(Dedupe)), st.sampled_from([None, 3]))
def test_k_answers_stay_k_after_removals(tmp_path, history, k, dedupe, radius):
    segments, left, queries = history
    builds = [BuildSettings(IndexKind.IVF, dedupe=dedupe, nlist=3) for _ in segments]
    index, rows = sub_index(tmp_path, segments, builds), row_set(left)
    truth = list(oracle(queries, np.concatenate(segments), left, k, radius))
    for engine in ENGINES:
        assert answers(index, queries, SearchSettings(k, radius, engine=engine, exact=True), rows) == truth
        few = answers(index, queries, SearchSettings(k, radius, engine=engine, nprobe=1), rows)
        if radius is None:
            assert [len(found) for found, _ in few] == [min(k, int(left.sum()))] * len(queries)


@settings(max_examples=100)
@given(histories(), st.integers(1, 40), st.integers(1, 5))
def test_answers_through_lists_do_not_change_when_segments_become_one(tmp_path, history, k, nlist):
    """Rows removed beside rows never there, four segments beside one, by each effort and with a filter: the same answers."""
    segments, left, queries = history
    codes, rng = np.concatenate(segments), np.random.default_rng(len(left))
    centroids = codes_like(rng, nlist, codes.shape[1], "uniform")
    firsts = np.cumsum([0, *map(len, segments)]).tolist()
    live = [int(left[start:stop].sum()) for start, stop in pairwise(firsts)]
    grown = LevelIndex(shared_lists(tmp_path / "grown", segments, centroids), firsts, live=live)
    compacted = LevelIndex(shared_lists(tmp_path / "one", [codes[left]], centroids), [0, sum(live)])
    numbers, passing = np.flatnonzero(left), rng.random(len(left)) < rng.choice([0.05, 0.5, 1])
    efforts: tuple[dict[str, Any], ...] = (
        {},
        {"nprobe": 1},
        {"nprobe": 3},
        {"recall": 0.8},
        {"recall": 0.95},
        {"exact": True},
    )
    for engine in ENGINES:
        for effort in efforts:
            asked = SearchSettings(k, engine=engine, **effort)
            for before, after in ((left, None), (left & passing, row_set(passing[left]))):
                mine = answers(grown, queries, asked, row_set(before))
                theirs = answers(compacted, queries, asked, after)
                assert mine == [(numbers[np.array(rows, int)].tolist(), distances) for rows, distances in theirs]


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_behind_thousands_of_removed_ones_are_found(tmp_path, rng, engine):
    """More than a search finds ahead: all nearer rows, half of all, are gone."""
    codes = np.zeros((4 * MOST_AHEAD, 8), np.uint8)
    codes[::2] = rng.integers(1, 256, (2 * MOST_AHEAD, 8), dtype=np.uint8)
    left = np.arange(len(codes)) % 2 == 0
    for kind in IndexKind.FLAT, IndexKind.IVF:
        index = sub_index(tmp_path / kind, [codes], [BuildSettings(kind, dedupe=Dedupe.OFF)])
        asked = SearchSettings(10, engine=engine, exact=kind is IndexKind.FLAT, nprobe=None)
        [found] = answers(index, np.zeros((1, 8), np.uint8), asked, row_set(left))
        if kind is IndexKind.FLAT:
            assert found == next(oracle(np.zeros((1, 8), np.uint8), codes, left, 10, None))
        assert len(found[0]) == 10
