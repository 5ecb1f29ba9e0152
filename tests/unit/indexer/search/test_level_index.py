"""A level of an index: which lists are probed under a filter, and what memory a search takes."""

import time
from dataclasses import replace

import numpy as np
import pytest

from encoder.errors import HashgrainError, Reason
from indexer.engines.faiss_file import lists_layout
from indexer.engines.faiss_lists import IvfIndex
from indexer.engines.readiness import Readiness
from indexer.engines.scan import driver as running
from indexer.matches import Bounds
from indexer.row_mask import row_set
from indexer.search import level_index
from indexer.search.level_index import LevelIndex
from indexer.settings import BuildSettings, Dedupe, Engine, IndexKind, SearchSettings
from indexer.storage.manifest import Tuned
from indexer.storage.segment import LevelPart
from tests.support.level_indexes import sub_index

ROWS, BITS = 4000, 64


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def two_camps(rng):
    """Codes near all zeros in the first half, near all ones in the other."""
    camps = np.repeat(np.array([[0], [255]], dtype=np.uint8), ROWS // 2, axis=0)
    return np.repeat(camps, BITS // 8, axis=1) ^ (rng.random((ROWS, BITS // 8)) < 0.2)


def lists_of(folder, codes, nlist, dedupe=Dedupe.OFF):
    return sub_index(folder, [codes], [BuildSettings(IndexKind.IVF, nlist=nlist, dedupe=dedupe)])


@pytest.mark.parametrize("dedupe", [Dedupe.OFF, Dedupe.ON])
def test_rows_that_pass_are_found_though_they_lie_in_other_lists(tmp_path, rng, dedupe):
    codes = two_camps(rng)
    index = lists_of(tmp_path, codes, 2, dedupe)
    passing = np.arange(ROWS) >= ROWS // 2 - 5  # five in the camp of the query
    wanted = SearchSettings(10, engine=Engine.SCAN, nprobe=1)
    [found] = index.search(codes[:1], wanted, row_set(passing))
    [exact] = index.search(codes[:1], SearchSettings(10, exact=True), row_set(passing))
    assert found.rows.tolist() == exact.rows.tolist()
    assert len(found.rows) == 10


def test_a_recall_holds_for_what_a_filter_leaves(tmp_path, rng):
    centres = rng.integers(0, 256, (60, BITS // 8), dtype=np.uint8)
    codes = centres[rng.integers(0, 60, ROWS)] ^ np.packbits(rng.random((ROWS, BITS)) < 0.2, axis=1)
    queries = codes[:200] ^ np.packbits(rng.random((200, BITS)) < 0.1, axis=1)
    index = lists_of(tmp_path, codes, 64)

    def recall(settings, rows):
        found, exact = (index.search(queries, each, rows) for each in (settings, SearchSettings(10, exact=True)))
        return np.mean([np.isin(a.rows, b.rows).mean() for a, b in zip(found, exact, strict=True)])

    recalls = {n: recall(SearchSettings(10, engine=Engine.SCAN, nprobe=n), None) for n in (1, 2, 4, 8, 16, 32)}
    record = index.parts[0].record
    object.__setattr__(record, "tuned", Tuned(10, recalls))
    rows = row_set(rng.random(ROWS) < 0.5)
    asked = SearchSettings(10, engine=Engine.SCAN, recall=0.9)
    assert index._nprobes(asked, rows)[0] > index._nprobes(asked, None)[0]  # the share is .5, not all and not exact
    assert recall(asked, rows) >= 0.9


def test_what_an_exact_search_does_not_need_is_not_opened(tmp_path, rng, monkeypatch):
    index = lists_of(tmp_path, two_camps(rng), 2)
    monkeypatch.setattr(LevelPart, "ivf", property(lambda _: pytest.fail("the lists were opened")))
    assert len(index.search(np.zeros((1, BITS // 8), np.uint8), SearchSettings(3, exact=True), None)[0].rows) == 3


def test_one_query_with_many_answers_does_not_make_room_for_as_many_of_all(tmp_path, rng):
    codes = np.zeros((100_000, BITS // 8), dtype=np.uint8)
    index = sub_index(tmp_path, [codes], [BuildSettings(IndexKind.FLAT, dedupe=Dedupe.OFF)])
    queries = np.full((500, BITS // 8), 255, dtype=np.uint8)
    queries[7] = 0
    found = index.search(queries, SearchSettings(None, 3, engine=Engine.SCAN, exact=True), None)
    assert [len(one.rows) for one in found] == [100_000 if at == 7 else 0 for at in range(500)]


@pytest.fixture
def readiness(monkeypatch):
    """What a process knows that has just begun."""
    fresh = Readiness()
    monkeypatch.setattr(level_index, "READINESS", fresh)
    return fresh


@pytest.mark.parametrize("effort", [{"exact": True}, {"nprobe": 2}])
@pytest.mark.parametrize("filtered", [True, False])
def test_the_engine_is_chosen_by_what_is_there_and_never_waits(tmp_path, rng, monkeypatch, readiness, effort, filtered):
    codes = two_camps(rng)
    index, rows = lists_of(tmp_path, codes, 4), row_set(rng.random(ROWS) < 0.5) if filtered else None
    asked = SearchSettings(10, **effort)
    truth = index.search(codes[:70], replace(asked, engine=Engine.SCAN), rows)
    with monkeypatch.context() as there:
        there.setattr(index, "_search_scan", lambda *_: pytest.fail("the scan is not there yet"))
        first = index.search(codes[:70], asked, rows)
    readiness._ready = frozenset({index.kit(lists=True), index.kit(lists=False)})
    monkeypatch.setattr(index, "_search_faiss", lambda *_: pytest.fail("the scan is there"))
    for found in (first, index.search(codes[:70], asked, rows)):
        assert [one.rows.tolist() for one in found] == [one.rows.tolist() for one in truth]


def test_the_time_of_answers_counts_not_their_words(tmp_path, rng, readiness, monkeypatch):
    index = lists_of(tmp_path, two_camps(rng), 4)
    search = index._search_faiss

    def search_slowly(*of):
        time.sleep(0.02)
        return search(*of)

    monkeypatch.setattr(index, "_search_faiss", search_slowly)
    index.search(two_camps(rng)[:1], SearchSettings(1, exact=True), None)
    assert 0.02 <= readiness._spent[index.kit(lists=False)] < 1


def test_a_batch_goes_over_to_the_scan_when_that_comes(tmp_path, rng, readiness, monkeypatch):
    monkeypatch.setattr(level_index, "AT_ONCE", 1)
    codes = two_camps(rng)
    index = lists_of(tmp_path, codes, 4)
    by_faiss, by_scan, faiss, scan = [], [], index._search_faiss, index._search_scan

    def search_faiss(queries, *of):
        by_faiss.append(len(queries))
        readiness._ready = frozenset({index.kit(lists=False)}) if len(by_faiss) == 2 else frozenset()
        return faiss(queries, *of)

    def search_scan(queries, *of):
        by_scan.append(len(queries))
        return scan(queries, *of)

    monkeypatch.setattr(index, "_search_faiss", search_faiss)
    monkeypatch.setattr(index, "_search_scan", search_scan)
    found = index.search(codes[:300], SearchSettings(3, exact=True), None)
    assert (by_faiss, by_scan) == ([64, 64], [172])
    truth = index.search(codes[:300], SearchSettings(3, exact=True, engine=Engine.FAISS), None)
    assert [one.rows.tolist() for one in found] == [one.rows.tolist() for one in truth]


def test_batches_are_smaller_where_distances_are_large():
    terms = Bounds(10)
    few = running.batches(np.zeros((1024, 8), np.uint8), terms, 65_000)[0]
    many = running.batches(np.zeros((1024, 8), np.uint8), terms, 64)[0]
    assert len(few) * 65_000 <= running.CANDIDATES
    assert len(many) == running.BATCH


def test_entries_of_a_filter_are_looked_up_once(tmp_path, rng):
    codes = np.repeat(rng.integers(0, 256, (50, BITS // 8), dtype=np.uint8), 4, axis=0)
    index = sub_index(tmp_path, [codes], [BuildSettings(IndexKind.FLAT, dedupe=Dedupe.ON)])
    rows = row_set(np.arange(200) % 3 == 0)
    entries = index._of(rows).entries
    assert index._of(rows).entries is entries
    assert index._of(row_set(np.zeros(200, bool))).entries is not entries


@pytest.mark.parametrize("engine", [Engine.FAISS, Engine.SCAN])
@pytest.mark.parametrize("settings", [SearchSettings(50, nprobe=2), SearchSettings(None, radius=64, nprobe=2)])
@pytest.mark.parametrize("odd", [ROWS, 1 << 47])
def test_ids_of_a_stranger_are_not_answered(tmp_path, rng, engine, settings, odd):
    """Where no row is left out, nothing but the check stands between an id in a file and a row."""
    codes = rng.integers(0, 256, (ROWS, BITS // 8), dtype=np.uint8)
    index = lists_of(tmp_path, codes, 2)
    path = index.parts[0].path
    layout, content = lists_layout(path), bytearray(path.read_bytes())
    first_ids = layout.lists_at + int(layout.sizes[0]) * BITS // 8
    content[first_ids : first_ids + 8 * int(layout.sizes[0])] = np.full(layout.sizes[0], odd, "<i8").tobytes()
    path.write_bytes(content)
    again = LevelIndex([LevelPart(tmp_path, index.parts[0].record, ROWS)], [0, ROWS])
    asked, some = replace(settings, engine=engine), row_set(np.arange(ROWS) > 0)
    with pytest.raises(HashgrainError, match=r"holds ids beyond its (4,000 )?codes; build the index again") as caught:
        again.search(codes[:3], asked, None)
    assert caught.value.reason is Reason.INDEX_DAMAGED
    if engine is Engine.SCAN:  # holds each id against the mask
        assert all(((one.rows > 0) & (one.rows < ROWS)).all() for one in again.probe(codes[:3], asked, some, [2]))
    else:
        with pytest.raises(HashgrainError, match="ids beyond"):
            again.probe(codes[:3], asked, some, [2])


def test_a_segment_of_which_nothing_is_removed_has_no_mask(tmp_path, rng):
    segments = [rng.integers(0, 256, (rows, 8), dtype=np.uint8) for rows in (100, 70, 0, 30)]
    index = sub_index(tmp_path, segments, [BuildSettings(dedupe=Dedupe.OFF)] * 4)
    left = np.ones(200, bool)
    left[[3, 180]] = False
    rows = row_set(left)
    masks = index._of_entries(index._of(rows).entries)
    assert [mask is None for mask in masks] == [False, True, True, False]
    assert masks is index._of_entries(rows)  # found once


@pytest.mark.parametrize("together", [True, False])
def test_segments_with_the_same_centroids_are_asked_at_once(tmp_path, rng, monkeypatch, together):
    segments = np.split(rng.integers(0, 256, (900, 8), dtype=np.uint8), [600, 800])
    index = sub_index(
        tmp_path, segments, [BuildSettings(IndexKind.IVF, nlist=4, dedupe=Dedupe.OFF)] * 3, together=together
    )
    calls, search_one = [], IvfIndex.search

    def search(*of):
        calls.append(of)
        return search_one(*of)

    monkeypatch.setattr(IvfIndex, "search", search)
    asked = SearchSettings(10, nprobe=2)
    found, truth = (
        index.search(segments[0][:5], replace(asked, engine=engine), None) for engine in (Engine.FAISS, Engine.SCAN)
    )
    assert [one.rows.tolist() for one in found] == [one.rows.tolist() for one in truth]
    assert len(calls) == (0 if together else 3)
    assert len(set(index._lists.centroids.table[:, 0].tolist())) == (1 if together else 3)  # compared once
