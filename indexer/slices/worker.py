"""One slice of one generation, opened by whoever holds it. Rows are numbered over the whole index; plain data comes and goes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from encoder.bits import Bits, Codes
from encoder.levels import Level
from indexer.matches import Matches, Rows
from indexer.opened import NOWHERE, Detail
from indexer.search.bit_weights import WeightedCode
from indexer.search.combine import Ranked
from indexer.search.histogram import Counts
from indexer.settings import CombineSettings, SearchSettings, Trust
from indexer.snapshot import Snapshot
from indexer.storage.pictures import Place

BROUGHT: Final = 256
"""Rows of a slice's answer up to which what is known of them comes along with it, so that nobody has to ask again."""


@dataclass(frozen=True, slots=True, eq=False)
class SlicedRow:
    """What is known of a row."""

    row: int
    detail: Detail
    place: Place
    live: bool
    codes: dict[Level, Codes]
    """uint8[nbits / 8] at every level."""


class Probed(NamedTuple):
    """What a slice found."""

    matches: list[Matches]
    """Of each query."""
    rows: list[SlicedRow]
    """What is known of the rows in them; none where they are over `BROUGHT`."""


class SliceWorker:
    """One slice of a generation. Any number of threads may ask it.

    Args:
        path: folder of the index, or of a copy of it that holds the slice's files and the generation's manifest.
        segments: numbers of its segments among all of the generation, contiguous, at least one.
        pointer: what the pointer held when the generation was the current one.
        trust: what of the index is believed.
        earlier: a slice of an earlier generation; what is unchanged of it is not opened again.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`.
    """

    def __init__(
        self,
        path: Path,
        segments: range,
        pointer: bytes,
        *,
        trust: Trust = Trust(),
        earlier: "SliceWorker | None" = None,
    ) -> None:
        self._opened = Snapshot(path, pointer=pointer, trust=trust, segments=segments)
        if earlier is not None:
            self._opened.take_over(earlier._opened)
        before = self._opened.manifest.segments[: segments.start]
        self._first = sum(record.rows for record in before)
        self._lists_before = {
            level: sum(record.levels[level].ivf is not None for record in before)
            for level in self._opened.manifest.bits
        }

    def probe(self, level: Level, queries: Codes, settings: SearchSettings, nprobes: Sequence[int] | None) -> Probed:
        """Return the slice's eligible rows nearest to each query, as `LevelIndex.probe`.

        Args:
            level: which code.
            queries: uint8[nq, nbits / 8].
            settings: k, radius, filter and engine.
            nprobes: lists to probe in each segment of the whole index that has any; None: every code is compared.
        """
        opened, mine = self._opened.level(level), None
        if nprobes is not None:
            start = self._lists_before[level]
            mine = nprobes[start : start + len(opened.listed)] or None
        if settings.k is not None:
            settings = replace(settings, k=min(settings.k, max(1, self._opened.ntotal)))
        found = opened.probe(queries, settings, self._opened.passing(settings.where), mine)
        matches = [Matches(one.rows + self._first, one.distances) for one in found]
        few = sum(len(one.rows) for one in matches) <= BROUGHT
        return Probed(matches, self.rows(np.unique(np.concatenate([one.rows for one in matches]))) if few else [])

    def combine(self, queries: Mapping[Level, Codes], settings: CombineSettings, exclude: Rows | None) -> list[Ranked]:
        """Return the slice's best rows for each query, as `Snapshot.combine`; what a cascade left over counts its rows alone."""
        if exclude is not None:
            exclude = np.where(self._holds(exclude), exclude - self._first, NOWHERE)
        return [self._of_all(one) for one in self._opened.combine(queries, settings, exclude)]

    def search_by_bits(self, query: Mapping[Level, WeightedCode], settings: SearchSettings, without: Rows) -> Ranked:
        """Return the slice's rows of the smallest weighted distance, as `Snapshot.search_by_bits`."""
        return self._of_all(self._opened.search_by_bits(query, settings, self._mine(without)))

    def eligible(self, where: str | None) -> int:
        """Return how many rows of the slice have not been removed and pass a filter."""
        return self._opened.eligible(where)

    def contains(self, where: str | None, rows: Rows) -> Bits:
        """Return bool[len(rows)]: which of some rows are of this slice, have not been removed and pass a filter."""
        found = self._holds(rows)
        found[found] = self._opened.contains(where, self._mine(rows))
        return found

    def live_rows(self, most: int | None) -> Rows:
        """Return int64[n], the first rows of the slice that have not been removed; None: all."""
        return self._opened.live_rows(most) + self._first

    def histogram(self, level: Level, code: Codes, where: str | None) -> Counts:
        """Count the slice's eligible rows at each distance from a code."""
        return self._opened.histogram(level, code, where)

    def find(self, keys: Sequence[str]) -> list[SlicedRow | None]:
        """Return what is known of the row of each key; None: the slice has no such row, or it was removed."""
        found = self._opened.find_each(keys)
        rows = iter(self.rows(found[found != NOWHERE] + self._first))
        return [None if row == NOWHERE else next(rows) for row in found.tolist()]

    def codes(self, level: Level, rows: Rows) -> Codes:
        """Return uint8[m, nbits / 8], the codes of those of some rows that are of this slice, in their order."""
        return self._opened.codes(level, self._mine(rows))

    def rows(self, rows: Rows) -> list[SlicedRow]:
        """Return what is known of those of some rows that are of this slice, in their order."""
        mine = self._mine(rows)
        codes = {level: self._opened.codes(level, mine) for level in self._opened.manifest.bits}
        live = self._opened.contains(None, mine)
        return [
            SlicedRow(
                row + self._first,
                detail,
                self._opened.place(row),
                bool(live[at]),
                {level: of_level[at].copy() for level, of_level in codes.items()},
            )
            for at, (row, detail) in enumerate(zip(mine.tolist(), self._opened.details(mine.tolist()), strict=True))
        ]

    def _holds(self, rows: Rows) -> Bits:
        return (rows >= self._first) & (rows < self._first + self._opened.ntotal)

    def _mine(self, rows: Rows) -> Rows:
        """Return those of some rows that are of this slice, as numbers in it."""
        return rows[self._holds(rows)] - self._first

    def _of_all(self, ranked: Ranked) -> Ranked:
        """Return an answer with rows numbered over the whole index."""
        return replace(ranked, rows=ranked.rows + self._first)
