import numpy as np
import pytest

from indexer.matches import MOST_AHEAD, Matches, nearest_eligible
from indexer.row_mask import row_set


def searching(distances, asked):
    """Return an exact search over rows at int32[nq, rows] distances, which the queries number."""

    def search(queries, k):
        asked.append((queries[:, 0].tolist(), k))
        found = []
        for query in queries[:, 0].tolist():
            rows = np.argsort(distances[query], kind="stable")[:k]
            found.append(Matches(rows, distances[query][rows]))
        return found

    return search


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("k", [1, 10, 200, 1000])
def test_the_nearest_among_some_rows_are_those_of_a_search_of_these_alone(rng, share, k):
    distances = rng.integers(0, 9, (20, 500), dtype=np.int32)
    mask = rng.random(500) >= share
    answers = nearest_eligible(searching(distances, []), np.arange(20, dtype=np.uint8)[:, None], k, row_set(mask), 500)
    for query, answer in enumerate(answers):
        assert answer is not None
        rows = np.array([row for row in np.argsort(distances[query], kind="stable") if mask[row]], np.int64)[:k]
        assert answer.rows.tolist() == rows.tolist()
        assert answer.distances.tolist() == distances[query][rows].tolist()


def test_only_the_queries_that_fall_short_are_searched_again():
    distances = np.tile(np.arange(1000, dtype=np.int32), (2, 1))
    distances[1] = distances[1][::-1]
    mask = np.arange(1000) >= 500
    asked: list[tuple[list[int], int]] = []
    answers = nearest_eligible(
        searching(distances, asked), np.arange(2, dtype=np.uint8)[:, None], 10, row_set(mask), 1000
    )
    assert [answer and answer.rows[0] for answer in answers] == [500, 999]
    assert asked[0] == ([0, 1], 10 + 10 + 16)
    assert [queries for queries, _ in asked[1:]] == [[0]] * (len(asked) - 1)
    assert len(asked) < 8


def test_a_query_that_takes_too_many_rows_is_left_to_another_search():
    rows = 10 * MOST_AHEAD
    distances, mask = np.arange(rows, dtype=np.int32)[None], np.arange(rows) >= rows // 2
    assert nearest_eligible(searching(distances, []), np.zeros((1, 1), np.uint8), 5, row_set(mask), rows) == [None]
    assert nearest_eligible(
        lambda queries, _: [None] * len(queries), np.zeros((1, 1), np.uint8), 5, row_set(mask), rows
    ) == [None]
