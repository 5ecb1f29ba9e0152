"""Several levels searched as one: a cascade, a weighted sum of distances, or reciprocal rank fusion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import Any, Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes, hamming
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.engines.kit import Kind, Kit
from indexer.engines.readiness import READINESS
from indexer.engines.sums import LARGEST_SUM, WeightedLevel, search_sums
from indexer.matches import Bounds, Distances, Matches, Rows, without
from indexer.search.level_index import LevelIndex
from indexer.search.planned import PlannedLevel
from indexer.settings import Combine, CombineSettings, Engine, SearchSettings

RRF_CONSTANT: Final = 60
"""Source: Cormack, Clarke and Buettcher, Reciprocal Rank Fusion outperforms Condorcet, SIGIR 2009."""
RRF_DEPTH: Final = 10
"""Rows that each level returns, as multiples of k; at least `RRF_LEAST`."""
RRF_LEAST: Final = 100
NARROWING: Final = 10
"""How many times as many rows a level of a cascade leaves over as the next one."""


Scores = npt.NDArray[np.floating[Any]] | None
"""float[m], or None where rows are ordered by the distance at one level."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """Rows found for one query over several levels, best first; equal scores in row order."""

    rows: Rows
    """int64[m]."""
    scores: Scores
    """Cascade: None, ordered by the distance at the last level. Sum: 0..1, the weighted mean of distance / bits, rising. rrf:
    falling."""
    distances: dict[Level, Distances]
    """int32[m] bits for each level."""
    survivors: tuple[int, ...] = ()
    """Cascade: how many rows each level left over."""


AnyLevel = TypeVar("AnyLevel", bound=PlannedLevel[Any])


@dataclass(frozen=True, slots=True)
class MultiLevelQuery(Generic[AnyLevel]):
    """Queries at several levels, and what is wanted of them."""

    indexes: Mapping[Level, AnyLevel]
    """The levels of the index."""
    codes: Mapping[Level, Codes]
    """uint8[nq, nbits / 8] for each level of the settings."""
    settings: CombineSettings
    rows: Any
    """Those that are eligible, as the levels tell them; None: all."""
    exclude: Rows | None = None
    """int64[nq], a row that each query leaves out, -1 for none; None: none at all."""

    @property
    def k(self) -> int:
        """Most rows a query returns."""
        return self.settings.search.k or 1

    @property
    def weights(self) -> tuple[int, ...]:
        """Of each level."""
        return self.settings.weights or (1,) * len(self.settings.levels)

    def search(self, level: Level, settings: SearchSettings) -> list[Matches]:
        """Search one level."""
        return self.indexes[level].search(self.codes[level], settings, self.rows, self.exclude)

    def distances(self, level: Level, at: int, rows: Rows) -> Distances:
        """Return int32[len(rows)], bits between a query and some rows."""
        distances: Distances = hamming(self.codes[level][at : at + 1], self.indexes[level].codes_at(rows))[0]
        return distances

    def ranked(self, at: int, rows: Rows, scores: Scores, survivors: tuple[int, ...] = ()) -> Ranked:
        """Return the answer to a query, with its distances."""
        return Ranked(
            rows, scores, {level: self.distances(level, at, rows) for level in self.settings.levels}, survivors
        )


def combine(query: MultiLevelQuery[LevelIndex]) -> list[Ranked]:
    """Answer queries at several levels, at most k rows each.

    Raises:
        HashgrainError: `bad-value` for weights too large to sum up exactly.
    """
    return _sum(query) if query.settings.how is Combine.SUM else combine_found(query)


def combine_found(query: MultiLevelQuery[Any]) -> list[Ranked]:
    """Answer as `combine` what is not a sum: from what each level finds, whoever compares its codes."""
    return _cascade(query) if query.settings.how is Combine.CASCADE else _rrf(query)


def _cascade(query: MultiLevelQuery[Any]) -> list[Ranked]:
    levels, radii = query.settings.levels, query.settings.radii
    steps = len(levels)
    budgets: list[int | None] = [*query.settings.budgets, query.k]
    if radii:
        budgets = [None] * (steps - 1) + [query.k]
    elif not query.settings.budgets:
        budgets = [query.k * NARROWING ** (steps - 1 - step) for step in range(steps)]
    first = query.settings.search
    first = replace(first, k=budgets[0], radius=radii[0] if radii else None, exact=first.exact or bool(radii))
    answers = []
    for at, matches in enumerate(query.search(levels[0], first)):
        rows, distances, survivors = matches.rows, matches.distances, [len(matches.rows)]
        for step in range(1, steps):
            rows = np.sort(rows)
            distances = query.distances(levels[step], at, rows)
            if radii:
                near = distances <= radii[step]
                rows, distances = rows[near], distances[near]
            inside = len(rows)
            order = np.argsort(distances, kind="stable")[: budgets[step]]
            rows, distances = rows[order], distances[order]
            survivors.append(inside if radii else len(rows))
        answers.append(query.ranked(at, rows, None, tuple(survivors)))
    return answers


def _sum(query: MultiLevelQuery[LevelIndex]) -> list[Ranked]:
    levels, weights = query.settings.levels, query.weights
    bits = [query.indexes[level].nbits for level in levels]
    # a distance as a share of its bits, times the least common multiple of all bits, is a whole number: sums are exact
    multiple = lcm(*bits)
    largest = multiple * sum(weights)
    if largest > LARGEST_SUM:
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"weights {weights} over levels of {bits} bits make sums up to {largest}, the largest is {LARGEST_SUM}; take "
            f"smaller weights, or levels of bits with a smaller common multiple than {multiple}",
        )
    weighted = [
        query.indexes[level].weighted(weight * multiple // nbits)
        for level, weight, nbits in zip(levels, weights, bits, strict=True)
    ]
    rows, codes = query.indexes[levels[0]].rows, [query.codes[level] for level in levels]
    more = 0 if query.exclude is None else 1
    matches = nearest_sums(query.settings.search.engine, weighted, rows, codes, Bounds(query.k + more, rows=query.rows))
    if query.exclude is not None:
        matches = [without(one, row, query.k) for one, row in zip(matches, query.exclude.tolist(), strict=True)]
    return [query.ranked(at, one.rows, one.distances / largest) for at, one in enumerate(matches)]


def nearest_sums(
    engine: Engine, levels: Sequence[WeightedLevel], rows: Sequence[int], queries: Sequence[Codes], bounds: Bounds
) -> list[Matches]:
    """Answer as `engines.sums.search_sums`: by numpy, query by query, where the scan was not asked for and is not there yet."""
    kit, matches = Kit(Kind.SUMS, 0), list[Matches]()
    while len(matches) < len(queries[0]) and (
        engine is Engine.FAISS or (engine is Engine.AUTO and kit not in READINESS)
    ):
        with READINESS.counted(kit, engine is Engine.AUTO):
            here = slice(len(matches), len(matches) + 1)
            matches += search_sums(levels, rows, [of_level[here] for of_level in queries], bounds)
    if len(matches) < len(queries[0]):
        from indexer.engines.scan.weighted import search_weighted

        matches += search_weighted(levels, rows, [of_level[len(matches) :] for of_level in queries], bounds)
    return matches


def _rrf(query: MultiLevelQuery[Any]) -> list[Ranked]:
    each = replace(query.settings.search, k=max(RRF_LEAST, RRF_DEPTH * query.k))
    of_levels = [query.search(level, each) for level in query.settings.levels]
    answers = []
    for at, matches in enumerate(zip(*of_levels, strict=True)):
        rows, places = np.unique(np.concatenate([one.rows for one in matches]), return_inverse=True)
        shares = [
            weight / (RRF_CONSTANT + 1 + np.arange(len(one.rows)))
            for one, weight in zip(matches, query.weights, strict=True)
        ]
        scores = np.bincount(places, weights=np.concatenate(shares), minlength=len(rows)).astype(np.float64)
        order = np.argsort(-scores, kind="stable")[: query.k]
        answers.append(query.ranked(at, rows[order], scores[order]))
    return answers
