"""One generation of an index whose slices others hold: all are asked at once, and their answers merged to that of the whole."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from encoder.bits import Bits, Codes
from encoder.errors import HashgrainError, Reason
from encoder.images.limits import Limits
from encoder.levels import Level
from indexer.matches import Matches, Rows
from indexer.opened import NOWHERE, Described, Detail, Opened, pointer_of
from indexer.search.bit_weights import WeightedCode
from indexer.search.combine import MultiLevelQuery, Ranked, combine_found
from indexer.search.histogram import Counts
from indexer.search.planned import PlannedLevel
from indexer.settings import Combine, CombineSettings, SearchSettings, Trust
from indexer.slices.cut import cut
from indexer.slices.fan import Fan
from indexer.slices.worker import Probed, SlicedRow
from indexer.storage.current import read_current
from indexer.storage.manifest import Manifest
from indexer.storage.pictures import Place

KEPT: Final = 20_000
"""Rows that are remembered, of answers and questions: about 10 MB with four levels."""


class SlicedLevel(PlannedLevel[str]):
    """One level over all slices; a filter is known by its text, and evaluated by who holds the rows.

    Args:
        level: which.
        owner: the generation.
    """

    def __init__(self, level: Level, owner: "SlicedSnapshot") -> None:
        segments = owner.manifest.segments
        super().__init__(
            [segment.levels[level] for segment in segments],
            [segment.rows for segment in segments],
            [segment.rows - segment.removed for segment in segments],
        )
        self._level, self._owner = level, owner

    def probe(
        self, queries: Codes, settings: SearchSettings, rows: str | None, nprobes: Sequence[int] | None
    ) -> list[Matches]:
        """See `PlannedLevel.probe`."""
        found: list[Probed] = self._owner.ask("probe", self._level, queries, replace(settings, where=rows), nprobes)
        for one in found:
            self._owner.remember(one.rows)
        return [_merged([one.matches[at] for one in found], settings.k) for at in range(len(queries))]

    def codes_at(self, rows: Rows) -> Codes:
        """See `PlannedLevel.codes_at`."""
        return self._owner.codes(self._level, rows)

    def count(self, rows: str) -> int:
        """See `PlannedLevel.count`."""
        return self._owner.eligible(rows)

    def contains(self, rows: str, some: Rows) -> Bits:
        """See `PlannedLevel.contains`."""
        return self._owner.contains(rows, some)


class SlicedSnapshot(Opened):
    """A generation in slices.

    Args:
        path: folder of the index, with manifest and model; no segment is opened.
        folder: of the generation.
        manifest: what it says of itself.
        pointer: what the pointer held when it was the current one.
        fan: who asks the slices.
        slices: in how many a later generation is cut.
        trust: what of it is believed.
        limits: what an image may be that is read back, where the user said so.
    """

    def __init__(  # noqa: PLR0913 - what is known of a generation, and who holds it
        self,
        path: Path,
        folder: Path,
        manifest: Manifest,
        pointer: bytes,
        fan: Fan,
        slices: int,
        *,
        trust: Trust = Trust(),
        limits: Limits | None = None,
    ) -> None:
        super().__init__(path, folder, manifest, pointer, trust, limits)
        self._fan, self._slices = fan, slices
        bases = np.cumsum([0, *(segment.rows for segment in manifest.segments)])
        self._first_rows = np.array([bases[part.start] for part in cut(manifest, slices)], np.int64)
        self._levels = {level: SlicedLevel(level, self) for level in manifest.bits}
        self._known: OrderedDict[int, SlicedRow] = OrderedDict()
        self._lock, self._answering = threading.Lock(), threading.local()

    @property
    def unverified(self) -> dict[str, int]:
        """See `Opened.unverified`; nothing is in use here."""
        return {}

    def newest(self) -> "SlicedSnapshot":
        """See `Opened.newest`; `slice-down` where a slice does not have it yet."""
        pointer = pointer_of(self.path)
        folder, manifest = read_current(self.path, pointer)
        fan = self._fan.at(pointer, cut(manifest, self._slices))
        return SlicedSnapshot(
            self.path, folder, manifest, pointer, fan, self._slices, trust=self.trust, limits=self._limits
        )

    @contextmanager
    def missed(self) -> Iterator[set[int]]:
        """See `Opened.missed`; of this thread."""
        before, self._answering.missed = getattr(self._answering, "missed", None), set[int]()
        try:
            yield self._answering.missed
        finally:
            self._answering.missed = before

    def ask(self, method: str, *args: Any) -> list[Any]:
        """Return what the slices answer, without those that are down where partial answers are allowed."""
        every = range(len(self._first_rows))
        found = self._fan.call(every, method, *args)
        down = [number for number in every if found[number] is None]
        if len(down) == len(every):
            raise self._down(down)
        if (missed := getattr(self._answering, "missed", None)) is not None:
            missed.update(down)
        return [one for one in found if one is not None]

    def remember(self, rows: Iterable[SlicedRow]) -> None:
        """Keep what is known of rows, for who asks for it next."""
        with self._lock:
            for one in rows:
                self._known[one.row] = one
                self._known.move_to_end(one.row)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)

    def search(
        self, level: Level, queries: Codes, settings: SearchSettings, exclude: Rows | None = None
    ) -> list[Matches]:
        """See `Opened.search`."""
        queries = self._checked(level, queries)
        return self._levels[level].search(queries, settings, settings.where, exclude)

    def combine(
        self, queries: Mapping[Level, Codes], settings: CombineSettings, exclude: Rows | None = None
    ) -> list[Ranked]:
        """See `Opened.combine`."""
        codes = self._checked_levels(queries, settings)
        if settings.how is not Combine.SUM:
            return combine_found(MultiLevelQuery(self._levels, codes, settings, settings.search.where, exclude))
        found = self.ask("combine", codes, settings, exclude)
        return [_best([one[at] for one in found], settings.search.k) for at in range(len(codes[settings.levels[0]]))]

    def search_by_bits(self, query: Mapping[Level, WeightedCode], settings: SearchSettings, without: Rows) -> Ranked:
        """See `Opened.search_by_bits`."""
        return _best(self.ask("search_by_bits", dict(query), settings, without), settings.k)

    def eligible(self, where: str | None) -> int:
        """See `Opened.eligible`."""
        return self.manifest.live if where is None else sum(self.ask("eligible", where))

    def contains(self, where: str | None, rows: Rows) -> Bits:
        """See `Opened.contains`."""
        found: Bits = np.any(self.ask("contains", where, rows), axis=0)
        return found

    def live_rows(self, most: int | None = None) -> Rows:
        """See `Opened.live_rows`."""
        return np.concatenate(self.ask("live_rows", most))[:most]

    def is_live(self, row: int) -> bool:
        """See `Opened.is_live`."""
        return 0 <= row < self.ntotal and self._rows([row])[0].live

    def histogram(self, level: Level, code: Codes, where: str | None = None) -> Counts:
        """See `Opened.histogram`."""
        (checked,) = self._checked(level, np.asarray(code)[None])
        counts: Counts = np.sum(self.ask("histogram", level, checked, where), axis=0)
        return counts

    def find_each(self, keys: Sequence[str]) -> Rows:
        """See `Opened.find_each`; `slice-down` for a key that nobody has while a slice cannot say."""
        with self.missed() as missed:
            found: list[list[SlicedRow | None]] = self.ask("find", list(keys))
        rows = np.full(len(keys), NOWHERE, dtype=np.int64)
        for of_slice in found:
            here = [(at, one) for at, one in enumerate(of_slice) if one is not None]
            self.remember(one for _, one in here)
            for at, one in here:
                rows[at] = max(rows[at], one.row)
        if missed and (rows == NOWHERE).any():
            raise self._down(sorted(missed))
        return rows

    def codes(self, level: Level, rows: Rows) -> Codes:
        """See `Opened.codes`; `slice-down` where the slice of a row is."""
        self.check_level(level)
        codes = np.empty((len(rows), self.manifest.bits[level] // 8), dtype=np.uint8)
        for at, one in enumerate(self._rows(rows.tolist())):
            codes[at] = one.codes[level]
        return codes

    def details(self, rows: Sequence[int]) -> list[Detail]:
        """See `Opened.details`; `slice-down` where the slice of a row is."""
        return [one.detail for one in self._rows(rows)]

    def describe(self, rows: Rows) -> Described:
        """See `Opened.describe`; `slice-down` where the slice of a row is."""
        known = [one.detail for one in self._rows(rows.tolist())]
        return Described([one.key for one in known], [one.labels for one in known], [one.shard for one in known])

    def place(self, row: int) -> Place:
        """See `Opened.place`; `slice-down` where the slice of the row is."""
        return self._rows([row])[0].place

    def _rows(self, rows: Sequence[int]) -> list[SlicedRow]:
        """Return what is known of rows; the slices that have them are asked for what is not known here."""
        if rows and not 0 <= min(rows) <= max(rows) < self.ntotal:
            raise IndexError(f"rows {min(rows)} to {max(rows)} of an index of {self.ntotal:,}")
        found = {row: self._known.get(row) for row in rows}
        if len(new := np.array([row for row, one in found.items() if one is None], np.int64)):
            slices = np.unique(np.searchsorted(self._first_rows, new, "right") - 1).tolist()
            for number, told in zip(slices, self._fan.call(slices, "rows", new), strict=True):
                if told is None:
                    raise self._down([number])
                self.remember(told)
                found |= {one.row: one for one in told}
        return [one for row in rows if (one := found[row]) is not None]

    def _down(self, slices: Sequence[int]) -> HashgrainError:
        numbers = ", ".join(map(str, slices))
        return HashgrainError(Reason.SLICE_DOWN, f"slice {numbers} of {self.path} does not answer; ask again")


def _merged(parts: Sequence[Matches], k: int | None) -> Matches:
    """Return the nearest of all, in the order of (distance, row)."""
    rows, distances = np.concatenate([one.rows for one in parts]), np.concatenate([one.distances for one in parts])
    order = np.lexsort((rows, distances))[:k]
    return Matches(rows[order], distances[order])


def _best(parts: Sequence[Ranked], k: int | None) -> Ranked:
    """Return the rows of the smallest scores, in the order of (score, row)."""
    rows = np.concatenate([one.rows for one in parts])
    scores = np.concatenate([one.scores for one in parts if one.scores is not None])
    order = np.lexsort((rows, scores))[:k]
    distances = {level: np.concatenate([one.distances[level] for one in parts])[order] for level in parts[0].distances}
    return Ranked(rows[order], scores[order], distances)
