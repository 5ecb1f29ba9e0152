"""Named figures of one ranking: codes or real-valued features of all images in, means over the queries out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.evaluation import counts as levelcounts
from encoder.evaluation import metrics
from encoder.evaluation.counts import Counts
from pipelines.evaluation.protocols import Indices, Split

Features: TypeAlias = npt.NDArray[np.float32]
"""float32[n, dim]."""
Values: TypeAlias = npt.NDArray[np.float64]
"""float64[nq]."""

GRADED = "graded"
"""The group of the metrics that weigh both labels; the other groups are label fields."""
RADIUS = 2
WITHIN = f"P r<={RADIUS}"
CUTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Where precision@k is taken for the curve."""
CELLS = 1 << 21
"""Pairs of a query and a distance level counted at once; real-valued features have up to a level a database row."""
TIES = (
    "images at the same distance are in no order: each figure is its expectation over all orders "
    "(McSherry and Najork 2008)"
)


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure by name."""

    name: str
    formula: str
    """For the report."""
    of: Callable[[Counts, int], Values]
    """Takes counts and the lowest grade that is relevant, which graded metrics do without."""


def _precision_at(k: int, counts: Counts, grade: int) -> Values:
    return metrics.precision_at(counts, k, relevant=grade)


def binary_metrics(at: int | None) -> list[Metric]:
    """Return the metrics of one label: relevant is what shares it.

    Args:
        at: rank that average precision stops at; None for the whole database.
    """
    name = "mAP" if at is None else f"mAP@{at}"
    return [
        Metric(
            name,
            "mean over queries of the average precision over the first R ranks, divided by min(R, relevant images)",
            lambda counts, grade: metrics.average_precision(counts, at, relevant=grade),
        ),
        *(
            Metric(f"P@{k}", f"share of the first {k} ranks that is relevant", partial(_precision_at, k))
            for k in (1, 10, 100)
        ),
        Metric(
            "R@100",
            "share of the relevant images among the first 100 ranks",
            lambda counts, grade: metrics.recall_at(counts, 100, relevant=grade),
        ),
        Metric(
            WITHIN,
            f"share of the images within {RADIUS} bits that is relevant; 0 where there is none",
            lambda counts, grade: metrics.precision_within(counts, RADIUS, relevant=grade),
        ),
    ]


GRADED_METRICS = [
    Metric(
        "NDCG@100",
        "sum over the first 100 ranks i of (2^grade - 1) / log2(i + 1), divided by that of the best order; "
        "grade 2: same finer label, 1: same coarser one only, 0: neither",
        lambda counts, _: metrics.ndcg_at(counts, 100),
    ),
    Metric("ACG@100", "mean grade of the first 100 ranks", lambda counts, _: metrics.acg_at(counts, 100)),
    Metric(
        "WAP@100",
        "mean of ACG@i over the ranks i <= 100 whose image has a grade above 0",
        lambda counts, _: metrics.wap_at(counts, 100),
    ),
    Metric(
        "mAHP@250",
        "mean over k <= 250 of the sum of grades of the first k ranks, divided by that of the best order",
        lambda counts, _: metrics.mahp_at(counts, 250),
    ),
]


@dataclass(frozen=True, slots=True)
class Curves:
    """What the plots draw, all of the finest label."""

    at: list[int]
    precision_at: list[float]
    """Precision at each of `at` ranks."""
    precision: list[float]
    """Within each radius 0..nbits; empty for real-valued features."""
    recall: list[float]
    distances: list[list[int]]
    """By grade: pairs of a query and a database image at each distance; empty for real-valued features."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Every figure of one ranking."""

    queries: int
    means: dict[str, dict[str, float]]
    """By label field, or `graded`; then by the metric's name. Means over the queries that have a relevant image."""
    unanswerable: dict[str, int]
    """By label field: queries without any relevant image in the database, which no order could answer."""
    empty_balls: float | None
    """Share of the queries without any image within the radius; None for real-valued features."""
    curves: Curves


@dataclass(slots=True)
class _CurveSums:
    """Sums over queries of what `Curves` are the means of."""

    grade: int
    """Of the finest label."""
    coded: bool
    queries: int = 0
    items: int = 0
    """That each query has to order."""
    precision_at: Values | float = 0.0
    precision: Values | float = 0.0
    recall: Values | float = 0.0
    distances: npt.NDArray[np.int64] | int = 0

    def add(self, counts: Counts) -> None:
        """Take a block of queries in."""
        asked = counts[:, metrics.answerable(counts, relevant=self.grade)]
        self.queries += (queries := asked.shape[1])
        self.items = int(counts[:, 0].sum())
        at = [metrics.precision_at(asked, k, relevant=self.grade).sum() for k in CUTS]
        self.precision_at = self.precision_at + np.array(at)
        if self.coded:
            precision, recall = metrics.precision_recall(asked, relevant=self.grade)
            self.precision, self.recall = self.precision + queries * precision, self.recall + queries * recall
            self.distances = self.distances + counts.sum(axis=1)

    def mean(self) -> Curves:
        """Return the means."""
        precision_at, precision, recall = (
            np.atleast_1d(sums / max(self.queries, 1)).tolist()
            for sums in (self.precision_at, self.precision, self.recall)
        )
        cuts = [k for k in CUTS if k <= self.items]
        return Curves(cuts, precision_at[: len(cuts)], precision, recall, np.atleast_2d(self.distances).tolist())


def counted(values: Codes | Features, classes: Indices, split: Split) -> Iterator[Counts]:
    """Yield the counts of a ranking, a block of queries at a time.

    Args:
        values: uint8[n, code_size], ranked by Hamming distance, or float32[n, dim], by cosine distance; one row an image.
        classes: int64[n, fields], the finest field first.
        split: queries and database.
    """
    coded = values.dtype == np.uint8
    count: Callable[..., Counts] = levelcounts.count_codes if coded else levelcounts.count_reals
    database, found = rows_of(values, split.database), classes[split.database]
    levels = 8 * values.shape[1] + 1 if coded else len(split.database)
    for part in levelcounts.blocks(len(split.queries), levels, CELLS):
        queries = split.queries[part]
        own = None if split.own_rows is None else split.own_rows[part]
        yield count(values[queries], database, classes[queries], found, own)


def rows_of(values: npt.NDArray[Any], rows: Indices) -> npt.NDArray[Any]:
    """Take rows, without a copy where they stand in one piece: the features of a database may be a mapped file."""
    first, last = int(rows[0]), int(rows[-1]) + 1
    return values[first:last] if last - first == len(rows) else values[rows]


def score(blocks: Iterable[Counts], fields: Sequence[str], at: int | None, *, coded: bool) -> Scores:
    """Average every metric over the queries.

    Args:
        blocks: counts of one ranking, blocks of queries.
        fields: names of the labels, the finest first.
        at: rank that average precision stops at; None for the whole database.
        coded: the distance levels are Hamming distances.
    """
    groups = [(field, len(fields) - column, binary_metrics(at)) for column, field in enumerate(fields)]
    groups.append((GRADED, 1, GRADED_METRICS))
    sums = {group: np.zeros(len(chosen)) for group, _, chosen in groups}
    answered = dict.fromkeys(sums, 0)
    queries, empty, curves = 0, 0.0, _CurveSums(len(fields), coded)
    for counts in blocks:
        queries += counts.shape[1]
        for group, grade, chosen in groups:
            asked = counts[:, metrics.answerable(counts, relevant=grade)]
            answered[group] += asked.shape[1]
            sums[group] += [metric.of(asked, grade).sum() for metric in chosen]
        empty += float(metrics.empty_balls(counts, RADIUS).sum()) if coded else 0.0
        curves.add(counts)
    means = {
        group: {
            metric.name: float(total / max(answered[group], 1))
            for metric, total in zip(chosen, sums[group], strict=True)
            if coded or metric.name != WITHIN
        }
        for group, _, chosen in groups
    }
    unanswerable = {field: queries - answered[field] for field in fields}
    return Scores(queries, means, unanswerable, empty / queries if coded else None, curves.mean())
