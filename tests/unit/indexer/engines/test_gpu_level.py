"""A level on a GPU: answers of the scan, one set of resources, and a hand-over where memory is short."""

import gc
import threading

import numpy as np
import pytest

from indexer.engines import faiss_gpu
from indexer.engines.faiss_gpu import MOST, TEMPORARY_BYTES
from indexer.engines.gpu_level import GPU_LEAST_QUERIES
from indexer.row_mask import row_set
from indexer.search.level_index import LevelIndex
from indexer.settings import BuildSettings, Dedupe, Engine, IndexKind, SearchSettings
from tests.support.level_indexes import sub_index
from tests.support.one_gpu import OneGpu, installed

ROWS = (3000, 0, 70)
CODES = 8 * sum(ROWS)
QUERIES = 20


@pytest.fixture
def gpu(monkeypatch):
    """A GPU with room for all."""
    with installed(monkeypatch, OneGpu()) as gpu:
        yield gpu


@pytest.fixture
def queries(rng):
    return rng.integers(0, 4, (QUERIES, 8), dtype=np.uint8)


@pytest.fixture
def lines():
    return []


@pytest.fixture
def level(tmp_path, rng, lines):
    segments = [rng.integers(0, 4, (rows, 8), dtype=np.uint8) for rows in ROWS]
    index = sub_index(tmp_path, segments, [BuildSettings(IndexKind.FLAT)] * len(ROWS))
    return LevelIndex(index.parts, index._first_rows, lines.append)


def answers(level, queries, k, engine):
    found = level.search(queries, SearchSettings(k, engine=engine), None)
    return [(one.rows.tolist(), one.distances.tolist()) for one in found]


def is_right(level, queries, k):
    return answers(level, queries, k, Engine.GPU) == answers(level, queries, k, Engine.SCAN)


@pytest.mark.parametrize("k", [1, 10, MOST - 1])
def test_a_gpu_with_room_answers_as_the_scan_does(level, queries, lines, gpu, k):
    assert is_right(level, queries, k)
    assert gpu.searches
    assert not lines


def test_all_segments_and_levels_share_one_set_of_resources(level, queries, lines, gpu):
    assert is_right(level, queries, 3)
    other = LevelIndex(level.parts, level._first_rows)
    assert is_right(other, queries, 3)
    [resources] = gpu.resources
    assert (resources.temporary, resources.pinned) == (TEMPORARY_BYTES, 0)
    assert gpu.taken == TEMPORARY_BYTES + 2 * CODES


@pytest.mark.parametrize("room", [0, TEMPORARY_BYTES, TEMPORARY_BYTES + CODES - 1])
def test_without_room_for_the_copy_the_scan_answers_with_one_notice(level, queries, lines, gpu, room):
    gpu.memory = room
    for _ in range(3):
        assert is_right(level, queries, 3)
    assert len(gpu.resources) == 1  # it was not tried again
    assert not gpu.searches
    [line] = lines
    assert "GPU memory is short for 3,070 codes of 64 bits" in line
    assert "the scan searches them" in line
    gc.collect()
    assert gpu.taken in {0, TEMPORARY_BYTES}


def test_a_gpu_without_room_at_first_serves_the_next_level(level, queries, lines, gpu):
    gpu.memory = 0
    assert is_right(level, queries, 3)
    gpu.memory = 1 << 40
    other = LevelIndex(level.parts, level._first_rows, lines.append)
    assert is_right(other, queries, 3)
    assert gpu.searches
    assert len(lines) == 1


def test_memory_that_runs_short_later_is_given_back(level, queries, lines, gpu):
    assert is_right(level, queries, 3)
    gpu.fail_at = len(gpu.searches) + 2
    for _ in range(3):
        assert is_right(level, queries, 3)
    assert len(gpu.searches) == gpu.fail_at
    assert len(lines) == 1
    gc.collect()
    assert gpu.taken == TEMPORARY_BYTES


def test_threads_that_find_memory_short_say_so_once(level, queries, lines, gpu):
    gpu.memory, found = TEMPORARY_BYTES, []
    threads = [threading.Thread(target=lambda: found.append(is_right(level, queries, 3))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4
    assert len(lines) == 1


@pytest.mark.parametrize(("count", "k"), [(GPU_LEAST_QUERIES - 1, 3), (QUERIES, MOST)])
def test_what_is_not_worth_a_gpu_is_the_scans(level, queries, lines, gpu, count, k):
    assert is_right(level, queries[:count], k)
    assert not gpu.searches
    assert not gpu.taken
    assert is_right(level, queries[:GPU_LEAST_QUERIES], 3)
    assert gpu.searches


def test_ties_that_go_on_and_on_are_scanned_in_one_batch(tmp_path, rng, gpu, monkeypatch):
    index = sub_index(tmp_path, [np.zeros((MOST + 9, 8), np.uint8)], [BuildSettings(IndexKind.FLAT, dedupe=Dedupe.OFF)])
    scanned, scan = [], index._search_scan

    def search_scan(queries, *of):
        scanned.append(len(queries))
        return scan(queries, *of)

    monkeypatch.setattr(index, "_search_scan", search_scan)
    assert answers(index, np.zeros((QUERIES, 8), np.uint8), 3, Engine.GPU) == [([0, 1, 2], [0, 0, 0])] * QUERIES
    assert gpu.searches
    assert scanned == [QUERIES]


def test_more_queries_than_the_temporary_memory_holds_are_asked_in_turns(level, queries, lines, gpu, monkeypatch):
    monkeypatch.setattr(faiss_gpu, "TEMPORARY_BYTES", 600)
    assert is_right(level, queries, 3)
    assert max(count * (12 * k + 8) for count, k in gpu.searches) <= 600
    assert max(count for count, _ in gpu.searches) > 1


@pytest.mark.parametrize("share", [0.4, 0.01, 0])
def test_removed_rows_are_left_out_of_what_a_gpu_finds(level, rng, queries, gpu, share):
    rows = row_set(rng.random(sum(ROWS)) >= share)
    for k in (1, 10, 300):
        mine, truth = (
            level.search(queries, SearchSettings(k, engine=engine), rows) for engine in (Engine.GPU, Engine.SCAN)
        )
        assert [(a.rows.tolist(), a.distances.tolist()) for a in mine] == [
            (b.rows.tolist(), b.distances.tolist()) for b in truth
        ]
    assert gpu.searches


def test_a_filter_that_leaves_few_rows_is_the_scans(level, rng, queries, gpu):
    rows = row_set(rng.random(sum(ROWS)) < 0.1)
    assert len(level.search(queries, SearchSettings(10, engine=Engine.GPU), rows)[0].rows) == 10
    assert gpu.searches == []


def test_codes_are_not_copied_again_to_a_gpu_that_has_them(level, tmp_path, rng, queries, gpu):
    assert is_right(level, queries, 10)
    taken = gpu.taken
    added = sub_index(tmp_path / "added", [rng.integers(0, 4, (40, 8), dtype=np.uint8)], [BuildSettings()])
    grown = LevelIndex([*level.parts, *added.parts], [*level._first_rows, sum(ROWS) + 40])
    grown.take_over(level)
    assert is_right(grown, queries, 10)
    assert gpu.taken == taken + 40 * 8
