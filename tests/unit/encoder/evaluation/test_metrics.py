"""Every metric against its definition, averaged over all orders of tied items."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from encoder.bits import hamming
from encoder.evaluation import metrics
from encoder.evaluation.counts import blocks, count_codes, count_reals, grades

small_counts = (
    st.lists(st.integers(0, 2), min_size=12, max_size=12)
    .map(lambda flat: np.array(flat, np.int64).reshape(3, 1, 4))
    .filter(lambda counts: 2 <= counts.sum() <= 8)
)


def orders(counts):
    """Every ranking that the ties allow, as grades by rank; all are equally likely."""
    levels = [[g for g in range(3) for _ in range(counts[g, 0, d])] for d in range(counts.shape[2])]
    for ranking in itertools.product(*(sorted(set(itertools.permutations(level))) for level in levels)):
        yield np.array([grade for level in ranking for grade in level])


def average_precision(ranking, at, normaliser="min"):
    hits = ranking >= 1
    total = sum(hits[: rank + 1].mean() for rank in range(min(at, len(ranking))) if hits[rank])
    every, found = hits.sum(), hits[:at].sum()
    by = {"min": min(at, every), "all": every, "found": found}[normaliser]
    return total / by if by else 0


def ndcg(ranking, at):
    gains, discounts = 2.0**ranking - 1, 1 / np.log2(np.arange(2, len(ranking) + 2))
    best = (np.sort(gains)[::-1] * discounts)[:at].sum()
    return (gains * discounts)[:at].sum() / best if best else 0


def acg(ranking, at):
    return ranking[:at].sum() / at


def wap(ranking, at):
    found = [ranking[: rank + 1].mean() for rank in range(min(at, len(ranking))) if ranking[rank]]
    return np.mean(found) if found else 0


def hp(ranking, at):
    best = np.sort(ranking)[::-1][:at].sum()
    return ranking[:at].sum() / best if best else 0


def mahp(ranking, at):
    at = min(at, len(ranking))
    return np.mean([hp(ranking, rank) for rank in range(1, at + 1)])


@pytest.mark.parametrize(
    ("fast", "slow"),
    [
        (metrics.average_precision, average_precision),
        (lambda c, at: metrics.average_precision(c, at, "all"), lambda r, at: average_precision(r, at, "all")),
        (lambda c, at: metrics.average_precision(c, at, "found"), lambda r, at: average_precision(r, at, "found")),
        (metrics.precision_at, lambda r, at: (r[:at] >= 1).sum() / at),
        (metrics.recall_at, lambda r, at: (r[:at] >= 1).sum() / max(1, (r >= 1).sum())),
        (metrics.ndcg_at, ndcg),
        (metrics.acg_at, acg),
        (metrics.wap_at, wap),
        (metrics.mahp_at, mahp),
    ],
    ids=["ap-min", "ap-all", "ap-found", "precision", "recall", "ndcg", "acg", "wap", "mahp"],
)
@given(counts=small_counts, at=st.integers(1, 9))
def test_a_metric_is_its_mean_over_all_orders_of_the_tied(fast, slow, counts, at):
    assert fast(counts, at)[0] == pytest.approx(np.mean([slow(ranking, at) for ranking in orders(counts)]))


@given(counts=small_counts, radius=st.integers(0, 3))
def test_within_a_radius_an_empty_ball_counts_as_nothing(counts, radius):
    ball = counts[:, 0, : radius + 1]
    expected = ball[1:].sum() / ball.sum() if ball.sum() else 0
    assert metrics.precision_within(counts, radius)[0] == pytest.approx(expected)
    assert metrics.empty_balls(counts, radius)[0] == (ball.sum() == 0)


@given(st.lists(st.booleans(), min_size=2, max_size=40).filter(any), st.integers(0, 99))
def test_without_ties_they_are_scikit_learns(relevant, seed):
    order = np.random.default_rng(seed).permutation(len(relevant))
    counts = np.zeros((2, 1, len(relevant)), np.int64)
    counts[np.array(relevant, int), 0, order] = 1
    assert metrics.average_precision(counts)[0] == pytest.approx(average_precision_score(relevant, -order))
    assert metrics.ndcg_at(counts, 5)[0] == pytest.approx(ndcg_score([np.array(relevant, float)], [-order], k=5))


@given(counts=small_counts)
def test_ndcg_of_ties_is_scikit_learns(counts):
    graded = [(2**g - 1, -d) for g in range(3) for d in range(4) for _ in range(counts[g, 0, d])]
    gains, scores = np.array(graded, float).T
    expected = ndcg_score([gains], [scores], k=4) if gains.any() else 0
    assert metrics.ndcg_at(counts, 4)[0] == pytest.approx(expected)


@given(seed=st.integers(0, 99), size=st.sampled_from([1, 4, 8, 12]), leave=st.booleans())
def test_counts_of_codes_are_those_of_every_pair(seed, size, leave):
    rng = np.random.default_rng(seed)
    codes, labels = rng.integers(0, 4, (30, size), dtype=np.uint8), rng.integers(0, 3, (30, 2))
    queries = np.arange(0, 30, 3)
    counts = count_codes(codes[queries], codes, labels[queries], labels, queries if leave else None)
    distances, graded = hamming(codes[queries], codes), grades(labels[queries], labels)
    expected = np.zeros((3, len(queries), 8 * size + 1), np.int64)
    for at, query in enumerate(queries):
        for row in range(30):
            if not (leave and row == query):
                expected[graded[at, row], at, distances[at, row]] += 1
    np.testing.assert_array_equal(counts, expected)


def test_grades_go_by_the_finest_label_that_agrees():
    ours, theirs = np.array([[1, 7]]), np.array([[1, 7], [2, 7], [1, 8], [3, 9]])
    assert grades(ours, theirs).tolist() == [[2, 1, 2, 0]]


def test_real_values_are_ranked_by_cosine_and_the_own_row_left_out(rng):
    vectors, labels = rng.standard_normal((20, 6)).astype(np.float32), rng.integers(0, 3, (20, 1))
    counts = count_reals(vectors, vectors, labels, labels, np.arange(20))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for query in range(20):
        others = np.delete(np.arange(20), query)
        same = (labels[others] == labels[query])[:, 0]
        if same.any():
            expected = average_precision_score(same, units[others] @ units[query])
            assert metrics.average_precision(counts)[query] == pytest.approx(expected, abs=1e-4)


def test_queries_without_anything_to_find_are_named():
    counts = np.zeros((2, 2, 3), np.int64)
    counts[0], counts[1, 1, 2] = 1, 1
    assert metrics.answerable(counts).tolist() == [False, True]


def test_the_order_of_the_database_and_the_size_of_blocks_change_nothing(rng):
    codes, labels = rng.integers(0, 256, (200, 8), dtype=np.uint8), rng.integers(0, 5, (200, 1))
    mixed = rng.permutation(200)
    scores = [
        metrics.average_precision(count_codes(codes[:50], codes[rows], labels[:50], labels[rows]))
        for rows in (np.arange(200), mixed)
    ]
    np.testing.assert_allclose(scores[0], scores[1])
    parts = [
        metrics.average_precision(count_codes(codes[part], codes, labels[part], labels))
        for part in blocks(50, 200, 1000)
    ]
    assert len(parts) > 3
    np.testing.assert_allclose(np.concatenate(parts), scores[0])
