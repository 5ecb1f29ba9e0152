"""Several levels asked as one: a cascade, a weighted sum of distances, or reciprocal rank fusion."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import lcm
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes, hamming
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.matches import Distances, Found, Rows, Terms
from indexer.row_mask import RowSet
from indexer.search.level_index import SubIndex
from indexer.settings import Combine, CombineSettings, SearchSettings

RRF_CONSTANT: Final = 60
"""Source: Cormack, Clarke and Buettcher, Reciprocal Rank Fusion outperforms Condorcet, SIGIR 2009."""
RRF_DEPTH: Final = 10
"""Rows that each level is asked for, as multiples of k; at least `RRF_LEAST`."""
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


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries at several levels, and what is wanted of them."""

    subs: Mapping[Level, SubIndex]
    """The levels of the index."""
    codes: Mapping[Level, Codes]
    """uint8[nq, nbits / 8] for each level of the settings."""
    settings: CombineSettings
    rows: RowSet | None
    """Those that count; None: all."""

    @property
    def k(self) -> int:
        """Most rows a query returns."""
        return self.settings.search.k or 1

    @property
    def weights(self) -> tuple[int, ...]:
        """Of each level."""
        return self.settings.weights or (1,) * len(self.settings.levels)

    def search(self, level: Level, settings: SearchSettings) -> list[Found]:
        """Ask one level."""
        return self.subs[level].search(self.codes[level], settings, self.rows)

    def distances(self, level: Level, at: int, rows: Rows) -> Distances:
        """Return int32[len(rows)], bits between a query and some rows."""
        distances: Distances = hamming(self.codes[level][at : at + 1], self.subs[level].codes_at(rows))[0]
        return distances

    def ranked(self, at: int, rows: Rows, scores: Scores, survivors: tuple[int, ...] = ()) -> Ranked:
        """Return the answer to a query, with its distances."""
        return Ranked(
            rows, scores, {level: self.distances(level, at, rows) for level in self.settings.levels}, survivors
        )


def combine(asked: Asked) -> list[Ranked]:
    """Answer queries at several levels, at most k rows each.

    Raises:
        HashgrainError: `bad-value` for weights too large to sum up exactly.
    """
    return HOW[asked.settings.how](asked)


def _cascade(asked: Asked) -> list[Ranked]:
    levels, radii = asked.settings.levels, asked.settings.radii
    steps = len(levels)
    budgets: list[int | None] = [*asked.settings.budgets, asked.k]
    if radii:
        budgets = [None] * (steps - 1) + [asked.k]
    elif not asked.settings.budgets:
        budgets = [asked.k * NARROWING ** (steps - 1 - step) for step in range(steps)]
    first = asked.settings.search
    first = replace(first, k=budgets[0], radius=radii[0] if radii else None, exact=first.exact or bool(radii))
    answers = []
    for at, found in enumerate(asked.search(levels[0], first)):
        rows, distances, survivors = found.rows, found.distances, [len(found.rows)]
        for step in range(1, steps):
            rows = np.sort(rows)
            distances = asked.distances(levels[step], at, rows)
            if radii:
                near = distances <= radii[step]
                rows, distances = rows[near], distances[near]
            inside = len(rows)
            order = np.argsort(distances, kind="stable")[: budgets[step]]
            rows, distances = rows[order], distances[order]
            survivors.append(inside if radii else len(rows))
        answers.append(asked.ranked(at, rows, None, tuple(survivors)))
    return answers


def _sum(asked: Asked) -> list[Ranked]:
    from indexer.engines.scan.weighted import LARGEST_SUM, search_sums

    levels, weights = asked.settings.levels, asked.weights
    bits = [asked.subs[level].nbits for level in levels]
    # a distance as a share of its bits, times the least common multiple of all bits, is a whole number: sums are exact
    multiple = lcm(*bits)
    largest = multiple * sum(weights)
    if largest > LARGEST_SUM:
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"weights {weights} over levels of {bits} bits make sums up to {largest}, the largest is {LARGEST_SUM}; take "
            f"smaller weights, or levels of bits with a smaller common multiple than {multiple}",
        )
    summands = [
        asked.subs[level].summand(weight * multiple // nbits)
        for level, weight, nbits in zip(levels, weights, bits, strict=True)
    ]
    rows, codes = asked.subs[levels[0]].rows, [asked.codes[level] for level in levels]
    found = search_sums(summands, rows, codes, Terms(asked.k, rows=asked.rows))
    return [asked.ranked(at, one.rows, one.distances / largest) for at, one in enumerate(found)]


def _rrf(asked: Asked) -> list[Ranked]:
    each = replace(asked.settings.search, k=max(RRF_LEAST, RRF_DEPTH * asked.k))
    of_levels = [asked.search(level, each) for level in asked.settings.levels]
    answers = []
    for at, found in enumerate(zip(*of_levels, strict=True)):
        rows, places = np.unique(np.concatenate([one.rows for one in found]), return_inverse=True)
        shares = [
            weight / (RRF_CONSTANT + 1 + np.arange(len(one.rows)))
            for one, weight in zip(found, asked.weights, strict=True)
        ]
        scores = np.bincount(places, weights=np.concatenate(shares), minlength=len(rows)).astype(np.float64)
        order = np.argsort(-scores, kind="stable")[: asked.k]
        answers.append(asked.ranked(at, rows[order], scores[order]))
    return answers


HOW: Final[Mapping[Combine, Callable[[Asked], list[Ranked]]]] = {
    Combine.CASCADE: _cascade,
    Combine.SUM: _sum,
    Combine.RRF: _rrf,
}
