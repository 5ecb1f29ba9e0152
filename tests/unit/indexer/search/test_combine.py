from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.row_mask import row_set
from indexer.search.combine import MultiLevelQuery, combine
from indexer.settings import BuildSettings, Combine, CombineSettings, Dedupe, IndexKind, SearchSettings
from tests.support.level_indexes import sub_index
from tests.support.oracles import hamming

SIZES = {Level.FINE: 3, Level.MID: 8, Level.COARSE: 1, Level.FUSED: 16}
SEGMENTS = [200, 0, 77]


@pytest.fixture(scope="module")
def codes():
    """Codes with ties at every level."""
    rng = np.random.default_rng(3)
    rows = sum(SEGMENTS)
    return {
        level: rng.integers(0, 256, (40, size), dtype=np.uint8)[rng.integers(0, 40, rows)]
        for level, size in SIZES.items()
    }


@pytest.fixture(scope="module")
def indexes(codes, tmp_path_factory):
    """Some segments share codes, some do not."""
    folder, cuts = tmp_path_factory.mktemp("combine"), np.cumsum(SEGMENTS)[:-1]
    builds = [BuildSettings(IndexKind.FLAT, dedupe=dedupe) for dedupe in (Dedupe.ON, Dedupe.OFF, Dedupe.OFF)]
    return {level: sub_index(folder, np.split(values, cuts), builds, level) for level, values in codes.items()}


@pytest.fixture(scope="module")
def queries(codes):
    rng = np.random.default_rng(4)
    return {
        level: np.concatenate([values[:2], rng.integers(0, 256, (2, values.shape[1]), dtype=np.uint8)])
        for level, values in codes.items()
    }


asked = st.lists(st.sampled_from(list(Level)), min_size=1, max_size=4, unique=True).map(tuple)
shares = st.sampled_from([None, 0, 0.1, 0.9])


def counts_like(share):
    return (
        np.ones(sum(SEGMENTS), dtype=np.bool_)
        if share is None
        else np.random.default_rng(5).random(sum(SEGMENTS)) < share
    )


def order_by(values, rows, k):
    """The k rows with the smallest values; equal values in row order."""
    return [row for _, row in sorted((values[row], row) for row in rows)][:k]


@settings(max_examples=60)
@given(asked, shares, st.integers(1, 300), st.data())
def test_a_sum_is_exact_over_all_rows(codes, indexes, queries, levels, share, k, data):
    weights = data.draw(st.one_of(st.just(()), st.tuples(*[st.integers(1, 9)] * len(levels))))
    counts = counts_like(share)
    wanted = CombineSettings(Combine.SUM, levels, SearchSettings(k), weights=weights)
    found = combine(MultiLevelQuery(indexes, queries, wanted, None if share is None else row_set(counts)))
    for at, one in enumerate(found):
        distances = {level: hamming(queries[level][at : at + 1], codes[level])[0] for level in levels}
        each = weights or (1,) * len(levels)
        # fractions of small whole numbers: rounded, so that sums that are equal are equal here too
        sums = np.round(
            sum(w * distances[level] / (8 * SIZES[level]) for level, w in zip(levels, each, strict=True)) / sum(each),
            12,
        )
        assert one.rows.tolist() == order_by(sums, np.flatnonzero(counts), k)
        assert one.scores == pytest.approx(sums[one.rows])
        assert all((one.distances[level] == distances[level][one.rows]).all() for level in levels)


@settings(max_examples=60)
@given(asked, shares, st.integers(1, 20), st.data())
def test_a_cascade_narrows_level_by_level(codes, indexes, queries, levels, share, k, data):
    budgets = data.draw(st.one_of(st.just(()), st.tuples(*[st.integers(1, 200)] * (len(levels) - 1))))
    counts = counts_like(share)
    wanted = CombineSettings(Combine.CASCADE, levels, SearchSettings(k), budgets=budgets)
    steps = [*budgets, k] if budgets else [k * 10 ** (len(levels) - 1 - step) for step in range(len(levels))]
    for at, one in enumerate(
        combine(MultiLevelQuery(indexes, queries, wanted, None if share is None else row_set(counts)))
    ):
        rows, survivors = np.flatnonzero(counts).tolist(), []
        for level, budget in zip(levels, steps, strict=True):
            distances = hamming(queries[level][at : at + 1], codes[level])[0]
            rows = order_by(distances, rows, budget)
            survivors.append(len(rows))
        assert (one.rows.tolist(), one.survivors) == (rows, tuple(survivors))
        assert one.scores is None
        assert one.distances[levels[-1]].tolist() == distances[rows].tolist()


@settings(max_examples=60)
@given(asked, shares, st.integers(1, 300), st.data())
def test_a_cascade_by_radii_misses_nothing(codes, indexes, queries, levels, share, k, data):
    radii = data.draw(st.tuples(*[st.integers(0, 8 * SIZES[level]) for level in levels]))
    counts = counts_like(share)
    wanted = CombineSettings(Combine.CASCADE, levels, SearchSettings(k), radii=radii)
    for at, one in enumerate(
        combine(MultiLevelQuery(indexes, queries, wanted, None if share is None else row_set(counts)))
    ):
        distances = {level: hamming(queries[level][at : at + 1], codes[level])[0] for level in levels}
        inside = counts.copy()
        for level, radius in zip(levels, radii, strict=True):
            inside &= distances[level] <= radius
        assert one.rows.tolist() == order_by(distances[levels[-1]], np.flatnonzero(inside), k)
        assert one.survivors[-1] == (inside.sum() if len(levels) > 1 else min(k, inside.sum()))


def test_reciprocal_ranks_are_summed_up(codes, indexes, queries):
    levels, weights = (Level.FINE, Level.FUSED), (2, 1)
    wanted = CombineSettings(Combine.RRF, levels, SearchSettings(5), weights=weights)
    for at, one in enumerate(combine(MultiLevelQuery(indexes, queries, wanted, None))):
        scores = dict.fromkeys(range(sum(SEGMENTS)), 0.0)
        for level, weight in zip(levels, weights, strict=True):
            distances = hamming(queries[level][at : at + 1], codes[level])[0]
            for rank, row in enumerate(order_by(distances, range(sum(SEGMENTS)), 100), start=1):
                scores[row] += weight / (60 + rank)
        best = sorted(scores, key=lambda row: (-round(scores[row], 12), row))[:5]
        assert one.rows.tolist() == best
        assert one.scores == pytest.approx([scores[row] for row in best])


@pytest.mark.parametrize(
    "options",
    [
        {"levels": ()},
        {"levels": (Level.FINE, Level.FINE)},
        {"search": SearchSettings(3, radius=2)},
        {"search": SearchSettings(None, radius=2)},
        {"weights": (1, 1)},
        {"how": Combine.SUM, "weights": (1,)},
        {"how": Combine.SUM, "weights": (1, 0)},
        {"how": Combine.SUM, "budgets": (5,)},
        {"how": Combine.RRF, "radii": (5, 5)},
        {"budgets": (5, 5)},
        {"radii": (5,)},
        {"radii": (5, -1)},
        {"budgets": (5,), "radii": (5, 5)},
    ],
)
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(HashgrainError) as caught:
        CombineSettings(**{"how": Combine.CASCADE, "levels": (Level.FINE, Level.MID)} | options)
    assert caught.value.reason is Reason.BAD_VALUE
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [1, 43, 85])
def test_weights_that_differ_by_a_factor_find_the_same_rows_in_the_same_order(indexes, queries, scale):
    few = row_set(counts_like(0.1))
    wanted = CombineSettings(
        Combine.SUM, (Level.FINE, Level.FUSED), SearchSettings(100), weights=(scale, scale)
    )  # sums up to 768 * scale; more than 65,535 is refused
    found = combine(MultiLevelQuery(indexes, queries, wanted, few))
    assert [one.rows.tolist() for one in found] == [
        one.rows.tolist() for one in combine(MultiLevelQuery(indexes, queries, replace(wanted, weights=()), few))
    ]
    assert all(len(one.rows) == counts_like(0.1).sum() for one in found)


def test_weights_too_large_to_be_summed_up_exactly_are_refused(indexes, queries):
    wanted = CombineSettings(Combine.SUM, (Level.FINE, Level.FUSED), weights=(1, 200))
    with pytest.raises(HashgrainError, match="smaller weights") as caught:
        combine(MultiLevelQuery(indexes, queries, wanted, None))
    assert caught.value.reason is Reason.BAD_VALUE


@pytest.mark.parametrize(
    ("how", "search", "more", "said"),
    [
        (Combine.SUM, {"nprobe": 4}, {}, "nprobe: 4; expected left out: a sum"),
        (Combine.SUM, {"exact": True}, {}, "exact: True; expected left out: a sum"),
        (Combine.CASCADE, {"nprobe": 4}, {"radii": (3, 9)}, "nprobe: 4; expected left out: radii"),
        (Combine.CASCADE, {"recall": 0.9}, {"radii": (3, 9)}, "recall: 0.9; expected left out: radii"),
    ],
)
def test_effort_that_would_be_ignored_is_refused(how, search, more, said):
    with pytest.raises(HashgrainError, match=said):
        CombineSettings(how, (Level.FINE, Level.MID), SearchSettings(**search), **more)


def test_two_kinds_of_effort_are_named():
    with pytest.raises(HashgrainError, match="nprobe and exact: 4, True; expected one of"):
        SearchSettings(nprobe=4, exact=True)


def test_a_cascade_takes_any_radius(indexes, queries):
    asked_for = CombineSettings(Combine.CASCADE, (Level.COARSE, Level.FINE), SearchSettings(5), radii=(2**31 - 1,) * 2)
    for ranked in combine(MultiLevelQuery(indexes, queries, asked_for, None)):
        assert len(ranked.rows) == 5
