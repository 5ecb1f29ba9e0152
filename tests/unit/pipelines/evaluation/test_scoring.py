from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.bits import hamming
from pipelines.evaluation import scoring
from pipelines.evaluation.protocols import Split
from pipelines.evaluation.scoring import GRADED, WITHIN, counted, score

FIELDS = ("fine", "coarse")


def drawn(seed, queries, database, *, own=False, classes=4, size=1):
    """Codes or, for size 0, features of a pool, its classes, and who asks whom."""
    rng = np.random.default_rng(seed)
    rows = database if own else queries + database
    values = rng.integers(0, 4, (rows, size), dtype=np.uint8) if size else rng.standard_normal((rows, 3), np.float32)
    fine = rng.integers(0, classes, rows)
    labels = np.stack([fine, fine // 2], axis=1)
    if own:
        asked = np.sort(rng.permutation(rows)[:queries])
        return values, labels, Split(asked, np.arange(rows), asked, np.arange(0))
    return values, labels, Split(np.arange(queries), np.arange(queries, rows), None, np.arange(0))


def orders(distances):
    """Every order of the items that the distances allow."""
    for order in permutations(range(len(distances))):
        ranked = [distances[item] for item in order]
        if ranked == sorted(ranked):
            yield list(order)


def average_precision(relevant):
    hits = np.flatnonzero(relevant)
    return np.mean([(number + 1) / (rank + 1) for number, rank in enumerate(hits)])


@given(st.integers(0, 2**31), st.booleans())
def test_means_are_those_of_all_orders_of_tied_images(seed, own):
    values, labels, asked = drawn(seed, 4, 6, own=own)
    found = score(counted(values, labels, asked), FIELDS, None, coded=True)
    expected: dict[str, list[float]] = {"fine": [], "coarse": []}
    for position, query in enumerate(asked.queries):
        database = asked.database if not own else np.delete(asked.database, asked.own_rows[position])
        distances = hamming(values[[query]], values[database])[0].tolist()
        for column, field in enumerate(FIELDS):
            relevant = labels[database, column] == labels[query, column]
            if relevant.any():
                expected[field].append(np.mean([average_precision(relevant[order]) for order in orders(distances)]))
    for field, of_field in expected.items():
        assert found.unanswerable[field] == 4 - len(of_field)
        assert found.means[field]["mAP"] == pytest.approx(np.mean(of_field) if of_field else 0)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("size", [0, 1, 9])
def test_blocks_change_nothing(monkeypatch, own, size):
    values, labels, asked = drawn(3, 20, 40, own=own, size=size)
    whole = score(counted(values, labels, asked), FIELDS, 10, coded=bool(size))
    monkeypatch.setattr(scoring, "CELLS", 1)
    parts = list(counted(values, labels, asked))
    assert len(parts) == 20
    split = score(parts, FIELDS, 10, coded=bool(size))
    for group, means in whole.means.items():
        assert split.means[group] == pytest.approx(means)
    assert (split.unanswerable, split.queries) == (whole.unanswerable, whole.queries)
    assert split.curves.precision == pytest.approx(whole.curves.precision)
    assert split.curves.distances == whole.curves.distances


def test_a_perfect_code_scores_one_everywhere():
    labels = np.stack([np.arange(12) % 4, np.arange(12) % 4 // 2], axis=1)
    codes = np.array([[0b0000_0000], [0b0000_0111], [0b0011_1000], [0b1111_1111]], np.uint8)[labels[:, 0]]
    codes[labels[:, 0] == 2] = 0b1111_1000
    found = score(
        counted(codes, labels, Split(np.arange(4), np.arange(4, 12), None, np.arange(0))), FIELDS, None, coded=True
    )
    for group, name in (("fine", "mAP"), ("coarse", "mAP"), (GRADED, "NDCG@100"), ("fine", "P@1"), ("fine", WITHIN)):
        assert found.means[group][name] == pytest.approx(1), (group, name)
    assert found.means["fine"]["R@100"] == pytest.approx(1)
    assert found.means["fine"]["P@10"] == pytest.approx(0.2)
    assert found.empty_balls == 0


def test_queries_without_a_relevant_image_are_counted_and_in_no_mean():
    labels = np.array([[0, 0], [7, 0], [8, 9], [0, 0], [1, 0]])
    codes = np.zeros((5, 1), np.uint8)
    asked = Split(np.arange(3), np.array([3, 4]), None, np.arange(0))
    found = score(counted(codes, labels, asked), FIELDS, None, coded=True)
    assert found.unanswerable == {"fine": 2, "coarse": 1}
    assert found.means["fine"]["mAP"] == pytest.approx(0.75)  # the one hit is first or second of two tied images
    assert found.means["coarse"]["mAP"] == pytest.approx(1)
    assert found.queries == 3


def test_figures_of_real_values_have_no_radius():
    found = score(counted(*drawn(1, 5, 30, size=0)), FIELDS, None, coded=False)
    assert found.empty_balls is None
    assert WITHIN not in found.means["fine"]
    assert not any(found.curves.precision)
    assert len(found.curves.precision_at) == len(found.curves.at)


def test_precision_is_drawn_up_to_the_rank_that_every_query_has():
    assert score(counted(*drawn(1, 5, 30)), FIELDS, None, coded=True).curves.at == [1, 2, 5, 10, 20]
    assert score(counted(*drawn(1, 5, 20, own=True)), FIELDS, None, coded=True).curves.at == [1, 2, 5, 10]


def test_curves_end_where_everything_is_found():
    values, labels, asked = drawn(2, 10, 50, size=2)
    curves = score(counted(values, labels, asked), FIELDS, None, coded=True).curves
    assert len(curves.precision) == len(curves.recall) == 17
    assert curves.recall[-1] == pytest.approx(1)
    assert np.all(np.diff(curves.recall) >= 0)
    assert np.sum(curves.distances) == 10 * 50


def test_the_rank_that_precision_is_averaged_up_to_is_in_its_name():
    values, labels, asked = drawn(4, 5, 30)
    found = score(counted(values, labels, asked), FIELDS, 3, coded=True)
    assert "mAP@3" in found.means["fine"]
    assert "mAP" not in found.means["fine"]


def test_one_label_is_enough():
    values, labels, asked = drawn(5, 5, 30)
    both = score(counted(values, labels, asked), FIELDS, None, coded=True)
    one = score(counted(values, labels[:, :1], asked), FIELDS[:1], None, coded=True)
    assert one.means["fine"] == pytest.approx(both.means["fine"])
    assert "coarse" not in one.means
