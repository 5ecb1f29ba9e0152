"""How much of a level a query looks at, whoever compares the codes: lists to probe, a row left out, a second try for too few."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Generic, TypeVar

import numpy as np

from encoder.bits import Bits, Codes
from encoder.errors import HashgrainError, Reason
from indexer.matches import Matches, Rows, without
from indexer.settings import SearchSettings
from indexer.storage.manifest import LevelRecord

Eligible = TypeVar("Eligible")
"""What tells the rows that a query may return."""


class PlannedLevel(ABC, Generic[Eligible]):
    """One level of an index, as a query is planned over it.

    Args:
        records: of the level in each segment, in row order.
        rows: of each segment.
        live: rows of each segment that have not been removed.
    """

    def __init__(self, records: Sequence[LevelRecord], rows: Sequence[int], live: Sequence[int]) -> None:
        self.nbits = records[0].nbits
        """Bits of a code; every segment has the same."""
        self.ntotal, self._live = sum(rows), sum(live)
        self.listed = [(record, count) for record, count in zip(records, live, strict=True) if record.ivf is not None]
        """The record of each segment that has inverted lists, and its rows that have not been removed."""

    @property
    def has_lists(self) -> bool:
        """Whether any segment has inverted lists."""
        return bool(self.listed)

    @abstractmethod
    def probe(
        self, queries: Codes, settings: SearchSettings, rows: Eligible | None, nprobes: Sequence[int] | None
    ) -> list[Matches]:
        """Return the eligible rows nearest to each query that lie in the lists nearest to it, however few these are.

        Args:
            queries: uint8[nq, nbits / 8].
            settings: k, radius and engine; effort is not used.
            rows: those that are eligible; None: all.
            nprobes: lists to probe in each segment that has any; None: compare every code.
        """

    @abstractmethod
    def codes_at(self, rows: Rows) -> Codes:
        """Return uint8[len(rows), nbits / 8], the codes of rows int64[m]."""

    @abstractmethod
    def count(self, rows: Eligible) -> int:
        """Return how many rows are eligible."""

    @abstractmethod
    def contains(self, rows: Eligible, some: Rows) -> Bits:
        """Return bool[len(some)]: which of some rows are eligible."""

    def search(
        self, queries: Codes, settings: SearchSettings, rows: Eligible | None, exclude: Rows | None = None
    ) -> list[Matches]:
        """Return the eligible rows nearest to each query.

        Args:
            queries: uint8[nq, nbits / 8].
            settings: k, radius, engine and effort.
            rows: those that are eligible; None: all.
            exclude: int64[nq], a row that each query leaves out, -1 for none; None: none at all.
        """
        if settings.k is not None and settings.k > (there := max(1, self.ntotal)):
            settings = replace(settings, k=there)
        nprobes = self._nprobes(settings, rows)
        matches = self._excluding(queries, settings, rows, nprobes, exclude)
        if nprobes is None or settings.k is None or settings.radius is not None:
            return matches
        if not (short := [at for at, one in enumerate(matches) if len(one.rows) < settings.k]):
            return matches
        available = np.full(len(queries), self.ntotal if rows is None else self.count(rows))
        if exclude is not None:
            available -= (exclude >= 0) & (True if rows is None else self.contains(rows, np.maximum(exclude, 0)))
        wanted = np.minimum(available, settings.k).tolist()
        if short := [at for at in short if len(matches[at].rows) < wanted[at]]:
            # k rows need not lie in the lists near a query
            others = None if exclude is None else exclude[short]
            for at, whole in zip(short, self._excluding(queries[short], settings, rows, None, others), strict=True):
                matches[at] = whole
        return matches

    def _excluding(
        self,
        queries: Codes,
        settings: SearchSettings,
        rows: Eligible | None,
        nprobes: Sequence[int] | None,
        exclude: Rows | None,
    ) -> list[Matches]:
        """Probe for one more than is wanted, and leave out of each query's matches its row to exclude."""
        if exclude is None:
            return self.probe(queries, settings, rows, nprobes)
        wider = settings if settings.k is None else replace(settings, k=settings.k + 1)
        return [
            without(one, row, settings.k)
            for one, row in zip(self.probe(queries, wider, rows, nprobes), exclude.tolist(), strict=True)
        ]

    def _nprobes(self, settings: SearchSettings, rows: Eligible | None) -> list[int] | None:
        """Return the lists to probe in each segment that has any; None: look at every entry, if that is all or costs less."""
        known = [] if settings.exact else [_nprobe(record, settings) for record, _ in self.listed]
        if not known or None in known:
            return None
        sizes = [record.nlist or 1 for record, _ in self.listed]
        nprobes = [min(nprobe or 1, nlist) for nprobe, nlist in zip(known, sizes, strict=True)]
        if rows is None:
            return nprobes
        eligible = self.count(rows)
        if eligible and settings.recall is not None:
            # the nearest of a share of the rows lie as far out as 1 / share times as many of all rows, and so in as many more lists
            more = max(1.0, self._live / eligible)
            nprobes = [min(math.ceil(nprobe * more), nlist) for nprobe, nlist in zip(nprobes, sizes, strict=True)]
        return None if eligible <= self._probed(nprobes) else nprobes

    def _probed(self, nprobes: Sequence[int]) -> float:
        """Return how many rows lie in so many lists of each segment that has any, without those removed."""
        return sum(
            live * nprobe / (record.nlist or 1) for nprobe, (record, live) in zip(nprobes, self.listed, strict=True)
        )


def _nprobe(record: LevelRecord, settings: SearchSettings) -> int | None:
    """Return the lists of a segment to probe; None: no number of lists is known to do."""
    if settings.recall is None:
        return settings.nprobe or record.nprobe
    if record.tuned is None:
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"recall is {settings.recall}, but nothing is known of these lists; tune the index, or give nprobe or exact",
        )
    if settings.k is None or settings.k > record.tuned.k:
        return None  # the farther neighbours lie in more lists than the k that were measured
    return min((nprobe for nprobe, recall in record.tuned.recalls.items() if recall >= settings.recall), default=None)
