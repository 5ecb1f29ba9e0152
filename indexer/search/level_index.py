"""One level of an index, its segments searched as one, by FAISS or by the scan.

What is compared are entries, numbered over all segments: rows, or codes that rows share. Both engines return entries; rows
are found for them here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from encoder.bits import Bits, Codes
from encoder.errors import HashgrainError, Reason
from indexer.engines.kit import Kind, Kit, padded_words
from indexer.engines.readiness import READINESS
from indexer.matches import Bounds, Matches, Rows, complete_ties, merge, mostly, nearest_eligible, out_of_range
from indexer.row_mask import RowSet, in_set, mask_of, row_set, size_of
from indexer.search.planned import PlannedLevel
from indexer.settings import Engine, SearchSettings
from indexer.storage.segment import LevelPart

if TYPE_CHECKING:
    from indexer.engines.faiss_lists import JoinedLists
    from indexer.engines.gpu_level import GpuLevel
    from indexer.engines.scan.extents import Extents, Lists
    from indexer.engines.sums import WeightedLevel

AT_ONCE: Final = 1 << 27
"""Words of 64 bits that FAISS compares before the scan is looked for again: a tenth of a second."""
LEAST_AT_ONCE: Final = 64
"""Queries that FAISS gets at once, whatever they take: it gives a thread to each."""

Compare = Callable[[Codes, Bounds], list[Matches]]
"""Queries and bounds to entries."""


@dataclass(slots=True)
class _Eligible:
    """What is known of the rows that a query may return."""

    rows: RowSet
    count: int
    entries: RowSet
    """Those with an eligible row, over all segments."""
    masks: list[RowSet | None] | None = None
    """The entries of each segment; found when FAISS is asked."""


class LevelIndex(PlannedLevel[RowSet]):
    """One level of an index.

    Args:
        parts: the level in each segment, in row order.
        first_rows: of each segment, and the number of rows.
        notify: called with a line for a person when a GPU hands over to the scan.
        live: rows of each segment that have not been removed; None: all.
    """

    def __init__(
        self,
        parts: Sequence[LevelPart],
        first_rows: Sequence[int],
        notify: Callable[[str], None] = lambda _: None,
        *,
        live: Sequence[int] | None = None,
    ) -> None:
        rows: list[int] = np.diff(first_rows).tolist()
        super().__init__([part.record for part in parts], rows, rows if live is None else live)
        self.parts, self._first_rows, self._notify = parts, first_rows, notify
        self._earlier_gpu: GpuLevel | None = None
        self._known: _Eligible | None = None

    def take_over(self, earlier: "LevelIndex") -> None:
        """Use again what an earlier generation has copied to a GPU."""
        self._earlier_gpu = earlier.__dict__.get("_gpu")

    @cached_property
    def _first_entries(self) -> list[int]:
        """The first entry of each segment, and the number of entries."""
        firsts: list[int] = np.cumsum([0, *(part.flat.ntotal for part in self.parts)]).tolist()
        return firsts

    @cached_property
    def _shared(self) -> bool:
        return any(part.postings is not None for part in self.parts)

    @cached_property
    def _extents(self) -> "Extents":
        from indexer.engines.scan.extents import flat_extents

        return flat_extents([part.flat.codes for part in self.parts], self._first_entries[:-1])

    @cached_property
    def _lists(self) -> "Lists":
        from indexer.engines.faiss_lists import share_centroids
        from indexer.engines.scan.extents import joined

        pairs = zip(self.parts, self._first_entries, strict=False)
        listed = [(part.ivf, first) for part, first in pairs if part.ivf is not None]
        same = share_centroids([ivf for ivf, _ in listed])
        return joined([ivf.lists(first, (listed[0][0] if same else ivf).centroids) for ivf, first in listed])

    @cached_property
    def _unlisted(self) -> "Extents | None":
        """Where the codes of the segments without inverted lists lie; None: there are no such segments."""
        from indexer.engines.scan.extents import flat_extents

        pairs = zip(self.parts, self._first_entries, strict=False)
        rest = [(part.flat.codes, first) for part, first in pairs if part.record.ivf is None]
        return flat_extents(*zip(*rest, strict=True)) if rest else None

    @cached_property
    def _together(self) -> "JoinedLists | None":
        """The inverted lists of all segments as one, for FAISS; None: a segment has none, or centroids of its own."""
        from indexer.engines.faiss_lists import JoinedLists, share_centroids

        parts = [part.ivf for part in self.parts if part.ivf is not None]
        together = len(parts) == len(self.parts) > 1 and share_centroids(parts)
        return JoinedLists(parts, self._first_entries[:-1]) if together else None

    @property
    def rows(self) -> list[int]:
        """Rows of each segment."""
        return np.diff(self._first_rows).tolist()

    def codes_at(self, rows: Rows) -> Codes:
        """Return uint8[len(rows), nbits / 8], the codes of rows int64[m]."""
        codes = np.empty((len(rows), self.nbits // 8), dtype=np.uint8)
        owners = np.searchsorted(self._first_rows, rows, side="right") - 1
        for number in np.unique(owners).tolist():
            mine = owners == number
            codes[mine] = self.parts[number].codes_at(rows[mine] - self._first_rows[number])
        return codes

    def count(self, rows: RowSet) -> int:
        """Return how many rows are eligible."""
        return self._of(rows).count

    def contains(self, rows: RowSet, some: Rows) -> Bits:
        """Return bool[len(some)]: which of some rows are eligible."""
        return in_set(rows, some)

    def weighted(self, factor: int) -> "WeightedLevel":
        """Return the level as a part of a sum in which each bit that differs adds `factor`."""
        from indexer.engines.sums import WeightedLevel

        entries = [None if part.postings is None else part.postings.entries for part in self.parts]
        return WeightedLevel([part.flat.codes for part in self.parts], entries, factor)

    def probe(
        self, queries: Codes, settings: SearchSettings, rows: RowSet | None, nprobes: Sequence[int] | None
    ) -> list[Matches]:
        """See `PlannedLevel.probe`."""
        entries = None if rows is None else self._of(rows).entries
        compare = self._compare(settings.engine, nprobes)
        matches = compare(queries, Bounds(settings.k, settings.radius, entries))
        if not self._shared:
            return matches
        answers = [self._rows_of(one, settings.k, rows) for one in matches]
        if rows is not None and settings.k is not None:
            # entries are ordered by first rows, which need not be first among the eligible: the last place may be a tie
            cut = [
                at
                for at, (one, answer) in enumerate(zip(matches, answers, strict=True))
                if len(one.rows) == settings.k and answer.distances[-1] == one.distances[-1]
            ]

            def search_within(some: list[int], distance: int) -> list[Matches]:
                found = compare(queries[some], Bounds(None, distance, entries))
                return [self._rows_of(one, settings.k, rows) for one in found]

            complete_ties(answers, cut, search_within)
        return answers

    def _compare(self, engine: Engine, nprobes: Sequence[int] | None) -> Compare:
        """Choose how entries are found."""
        search = {
            Engine.AUTO: self._search_quickly,
            Engine.SCAN: self._search_scan,
            Engine.FAISS: self._search_faiss,
            Engine.GPU: self._search_gpu,
        }[engine]
        return lambda codes, bounds: search(codes, bounds, nprobes)

    def kit(self, *, lists: bool) -> Kit:
        """Return the kernels that the scan needs for this level."""
        return Kit.of(Kind.LISTS if lists else Kind.FLAT, self.nbits // 8)

    def _search_quickly(self, queries: Codes, bounds: Bounds, nprobes: Sequence[int] | None) -> list[Matches]:
        """Let the scan answer as soon as it is there, and FAISS until then: nobody waits for kernels."""
        kit, matches = self.kit(lists=nprobes is not None), list[Matches]()
        entries = self._first_entries[-1] if nprobes is None else self._probed(nprobes)
        step = max(LEAST_AT_ONCE, int(AT_ONCE / max(1, entries * padded_words(self.nbits // 8))))
        while len(matches) < len(queries) and kit not in READINESS:
            with READINESS.counted(kit):
                matches += self._search_faiss(queries[len(matches) : len(matches) + step], bounds, nprobes)
        return (
            matches + self._search_scan(queries[len(matches) :], bounds, nprobes)
            if len(matches) < len(queries)
            else matches
        )

    def _search_scan(self, queries: Codes, bounds: Bounds, nprobes: Sequence[int] | None) -> list[Matches]:
        """Look into the lists of the segments that have any, and at every entry of the others."""
        from indexer.engines.scan.search import search_flat, search_lists

        if nprobes is None:
            return search_flat(self._extents, queries, bounds)
        matches = search_lists(self._lists, queries, nprobes, bounds)
        if bounds.rows is None and out_of_range(np.concatenate([one.rows for one in matches]), self._first_entries[-1]):
            raise HashgrainError(
                Reason.INDEX_DAMAGED,
                f"{self.parts[0].path} or its like holds ids beyond its codes; build the index again",
            )
        if self._unlisted is None:
            return matches
        others = search_flat(self._unlisted, queries, bounds)
        return [merge(pair, bounds.k) for pair in zip(matches, others, strict=True)]

    def _search_faiss(self, queries: Codes, bounds: Bounds, nprobes: Sequence[int] | None) -> list[Matches]:
        if nprobes is not None and len(set(nprobes)) == 1 and self._together is not None:
            return self._together.search(queries, bounds, nprobes[0])
        of_lists, parts = iter(nprobes or ()), []
        masks = [None] * len(self.parts) if bounds.rows is None else self._of_entries(bounds.rows)
        for part, first, mask in zip(self.parts, self._first_entries, masks, strict=False):
            of_part = replace(bounds, rows=mask)
            matches = (
                part.flat.search(queries, of_part)
                if nprobes is None or part.ivf is None
                else part.ivf.search(queries, of_part, next(of_lists))
            )
            parts.append([Matches(one.rows + first, one.distances) for one in matches])
        return [merge(of_query, bounds.k) for of_query in zip(*parts, strict=True)]

    def _search_gpu(self, queries: Codes, bounds: Bounds, nprobes: Sequence[int] | None) -> list[Matches]:
        """Take flat answers from the GPU; radii, filters, lists and what the GPU leaves open are the scan's."""
        rows, there = bounds.rows, self._first_entries[-1]
        if nprobes is not None or bounds.radius is not None or bounds.k is None:
            return self._search_scan(queries, bounds, nprobes)
        if rows is None:
            answers = self._gpu.search(queries, bounds.k)
        elif mostly(rows, there):
            answers = nearest_eligible(self._gpu.search, queries, bounds.k, rows, there)
        else:
            return self._search_scan(queries, bounds, nprobes)
        if left := [at for at, one in enumerate(answers) if one is None]:
            for at, one in zip(left, self._search_scan(queries[left], bounds, None), strict=True):
                answers[at] = one
        return [one for one in answers if one is not None]

    @cached_property
    def _gpu(self) -> "GpuLevel":
        from indexer.engines.gpu_level import GpuLevel

        flats = [part.flat for part in self.parts]
        return GpuLevel(flats, self._first_entries, self._notify, self._earlier_gpu)

    def _of(self, rows: RowSet) -> "_Eligible":
        """Return what is known of the eligible rows; that of the last filter is remembered, as the filter itself is."""
        known = self._known
        if known is None or known.rows is not rows:
            self._known = known = _Eligible(rows, size_of(rows), self._entries_of(rows) if self._shared else rows)
        return known

    def _entries_of(self, rows: RowSet) -> RowSet:
        """Return the entries with an eligible row."""
        masks: list[Bits] = []
        for part, (start, stop) in zip(self.parts, pairwise(self._first_rows), strict=True):
            mask = mask_of(rows, start, stop)
            masks.append(mask if part.postings is None else part.postings.entries_of(mask))
        return row_set(np.concatenate(masks))

    def _of_entries(self, entries: RowSet) -> list[RowSet | None]:
        """Return the eligible entries of each segment; None where that is all: nothing is removed from most segments."""
        known = self._known
        if known is None or known.entries is not entries:  # another query has had another filter since
            return self._masks(entries)
        if known.masks is None:
            known.masks = self._masks(entries)
        return known.masks

    def _masks(self, entries: RowSet) -> list[RowSet | None]:
        masks = [mask_of(entries, start, stop) for start, stop in pairwise(self._first_entries)]
        return [None if mask.all() else row_set(mask) for mask in masks]

    def _rows_of(self, matches: Matches, k: int | None, rows: RowSet | None) -> Matches:
        """Return the rows of entries."""
        owners = np.searchsorted(self._first_entries, matches.rows, side="right") - 1
        parts = []
        for number in np.unique(owners).tolist():
            part, mine = self.parts[number], owners == number
            local = Matches(matches.rows[mine] - self._first_entries[number], matches.distances[mine])
            expanded = local if part.postings is None else part.postings.expand(local, None if rows is not None else k)
            parts.append(Matches(expanded.rows + self._first_rows[number], expanded.distances))
        answer = merge(parts, None)
        if rows is not None:
            mask = in_set(rows, answer.rows)
            answer = Matches(answer.rows[mask], answer.distances[mask])
        return Matches(answer.rows[:k].copy(), answer.distances[:k].copy())  # not views that keep all of them
