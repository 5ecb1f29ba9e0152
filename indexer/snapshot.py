"""One generation of an index, opened: files mapped, nothing copied, any number of segments. Codes in, rows and distances out."""

import weakref
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np

from encoder.bits import Bits, Codes
from encoder.errors import HashgrainError, Reason
from encoder.images.labels.values import Labels
from encoder.images.limits import Limits
from encoder.levels import Level
from encoder.runtime.publish import in_use
from indexer.filters.expression import label_fields
from indexer.filters.parser import parse
from indexer.matches import Bounds, Matches, Rows
from indexer.opened import NOWHERE, Described, Detail, Opened, pointer_of
from indexer.row_mask import RowSet, in_set, mask_of, row_set, set_of, size_of, without_rows
from indexer.search.bit_weights import WeightedCode, nearest_by_bits
from indexer.search.combine import MultiLevelQuery, Ranked, combine
from indexer.search.histogram import Counts, histogram
from indexer.search.level_index import LevelIndex
from indexer.settings import CombineSettings, SearchSettings, Trust
from indexer.storage.current import check_sizes, read_current, read_pointer
from indexer.storage.digests import Digests
from indexer.storage.manifest import Manifest, SegmentRecord
from indexer.storage.pictures import Place
from indexer.storage.segment import Segment

ATTEMPTS = 10
"""Generations in a row that may each be gone before they are opened."""
FILTERS = 16
"""Filters whose rows are remembered: the next page of an answer, or the next query of a session, asks with the same one."""


class Snapshot(Opened):
    """The current generation of an index folder, or a part of it. Safe for concurrent searches from several threads.

    As long as it lives, its generation stays on disk, also when a newer one takes its place.

    Args:
        path: folder of the index.
        locked: the caller holds the folder, so that nobody else removes a generation; the caller may.
        pointer: of the generation that is to be opened, as another process had it open; None: the current one.
        notify: called with a line for a person when a GPU hands over to the scan.
        trust: what of it is believed.
        limits: what an image may be that is read back, where the user said so.
        segments: numbers of those that are opened, contiguous: rows are those of these alone; None: all.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`.
    """

    def __init__(  # noqa: PLR0913 - one argument per thing that may be said of an index that is opened
        self,
        path: Path,
        *,
        locked: bool = False,
        pointer: bytes | None = None,
        notify: Callable[[str], None] = lambda _: None,
        trust: Trust = Trust(),
        limits: Limits | None = None,
        segments: range | None = None,
    ) -> None:
        with ExitStack() as stack:
            opened = (
                open_current(path, stack, segments) if pointer is None else _earlier(path, stack, pointer, segments)
            )
            if not locked:
                weakref.finalize(self, stack.pop_all().close)
        super().__init__(path, *opened, trust, limits)
        self._notify = notify
        self._digests = Digests(self.folder, self.manifest.files, trust.verify)
        every = self.manifest.segments
        records = every if segments is None else every[segments.start : segments.stop]
        self.segments = [Segment(self.folder, record, self._digests.check) for record in records]
        # not by a method of this object: in a cycle, a dropped index would hold its generation until the next collection
        self._filtered = lru_cache(FILTERS)(partial(_filter, self.segments, every))
        self._bases: list[int] = np.cumsum([0, *(record.rows for record in records)]).tolist()
        live = [record.rows - record.removed for record in records]
        self._live = sum(live)
        self._levels: dict[Level, LevelIndex] = {
            level: LevelIndex([segment.levels[level] for segment in self.segments], self._bases, notify, live=live)
            for level in self.manifest.bits
        }

    def newest(self) -> "Snapshot":
        """See `Opened.newest`."""
        newer = Snapshot(self.path, notify=self._notify, trust=self.trust, limits=self._limits)
        newer.take_over(self)
        return newer

    def take_over(self, earlier: "Snapshot") -> None:
        """Use again what an earlier generation of this index has open of the same files."""
        before = {segment.record.name: segment for segment in earlier.segments}
        here, there = self.manifest.files, earlier.manifest.files
        for segment in self.segments:
            if (old := before.get(segment.record.name)) is not None:
                segment.take_over(old, lambda path: here.get(path) == there.get(path))
        for level in self._levels.keys() & earlier._levels.keys():
            self._levels[level].take_over(earlier._levels[level])

    @property
    def unverified(self) -> dict[str, int]:
        """See `Opened.unverified`."""
        return self._digests.unverified

    @property
    def ntotal(self) -> int:
        """See `Opened.ntotal`; of the segments that are opened."""
        return self._bases[-1]

    @cached_property
    def live_mask(self) -> RowSet | None:
        """The rows that have not been removed; None: all."""
        return _live(self.segments)

    def level(self, level: Level) -> LevelIndex:
        """Return a level over all segments."""
        self.check_level(level)
        return self._levels[level]

    def live_rows(self, most: int | None = None) -> Rows:
        """See `Opened.live_rows`."""
        if self.live_mask is None:
            return np.arange(self.ntotal)[:most]
        return np.flatnonzero(mask_of(self.live_mask, 0, self.ntotal))[:most]

    def is_live(self, row: int) -> bool:
        """See `Opened.is_live`."""
        if not 0 <= row < self.ntotal:
            return False
        segment, row = self._local(row)
        return segment.live is None or bool(segment.live[row])

    def contains(self, where: str | None, rows: Rows) -> Bits:
        """See `Opened.contains`."""
        passing = self.passing(where)
        return np.ones(len(rows), dtype=np.bool_) if passing is None else in_set(passing, rows)

    def search(
        self, level: Level, queries: Codes, settings: SearchSettings, exclude: Rows | None = None
    ) -> list[Matches]:
        """See `Opened.search`."""
        queries = self._checked(level, queries)
        return self._levels[level].search(queries, settings, self.passing(settings.where), exclude)

    def combine(
        self, queries: Mapping[Level, Codes], settings: CombineSettings, exclude: Rows | None = None
    ) -> list[Ranked]:
        """See `Opened.combine`."""
        codes = self._checked_levels(queries, settings)
        return combine(MultiLevelQuery(self._levels, codes, settings, self.passing(settings.search.where), exclude))

    def search_by_bits(self, query: Mapping[Level, WeightedCode], settings: SearchSettings, without: Rows) -> Ranked:
        """See `Opened.search_by_bits`."""
        rows, k = without_rows(self.passing(settings.where), self.ntotal, without), settings.k
        if settings.radius is not None:
            ((level, weighted),) = query.items()
            every = replace(settings, k=None, nprobe=None, recall=None, exact=True)
            (within,) = self._levels[level].search(weighted.code[None], every, rows)
            rows, k = set_of(self.ntotal, within.rows), k or max(1, len(within.rows))
        return nearest_by_bits(self._levels, query, settings.engine, Bounds(k, rows=rows))

    def eligible(self, where: str | None) -> int:
        """See `Opened.eligible`."""
        rows = None if where is None else self.passing(where)
        return self._live if rows is None else size_of(rows)

    def histogram(self, level: Level, code: Codes, where: str | None = None) -> Counts:
        """See `Opened.histogram`."""
        (checked,) = self._checked(level, np.asarray(code)[None])
        return histogram(self._levels[level], checked, self.passing(where))

    def passing(self, where: str | None) -> RowSet | None:
        """Return the rows that have not been removed and pass a filter; None: all.

        Raises:
            HashgrainError: `bad-value` for a filter that cannot be read, with the place.
        """
        return self.live_mask if where is None else self._filtered(where)

    def find_each(self, keys: Sequence[str]) -> Rows:
        """See `Opened.find_each`; the newest segment is asked first."""
        return np.array([self._find(key) for key in keys], dtype=np.int64)

    def _find(self, key: str) -> int:
        for segment, base in reversed(list(zip(self.segments, self._bases, strict=False))):
            row = segment.table.find(key)
            if row is not None and (segment.live is None or segment.live[row]):
                return base + row
        return NOWHERE

    def codes(self, level: Level, rows: Rows) -> Codes:
        """Return uint8[len(rows), nbits / 8], the codes of rows int64[m]."""
        self.check_level(level)
        return self._levels[level].codes_at(rows)

    def details(self, rows: Sequence[int]) -> list[Detail]:
        """See `Opened.details`."""
        said = self.describe(np.asarray(rows, np.int64))
        return [Detail(*one) for one in zip(said.keys, said.shards, said.labels, strict=True)]

    def key(self, row: int) -> str:
        """Return the key of a row."""
        segment, row = self._local(row)
        return segment.table.keys[row]

    def labels(self, row: int) -> Labels:
        """Return the labels of a row."""
        segment, row = self._local(row)
        return segment.table.labels(row)

    def describe(self, rows: Rows) -> Described:
        """See `Opened.describe`."""
        columns = tuple(np.empty(len(rows), np.object_) for _ in Described._fields)
        owners = np.searchsorted(self._bases, rows, side="right") - 1
        for number in np.unique(owners).tolist():
            segment, mine = self.segments[number], owners == number
            local = rows[mine] - self._bases[number]
            table, spans = segment.table, map(segment.span, local.tolist())
            parts = (list(table.keys.take(local)), table.label_store.of_rows(local), [span.path for span in spans])
            for column, part in zip(columns, parts, strict=True):
                column[mine] = part
        return Described(*(column.tolist() for column in columns))

    def shard(self, row: int) -> str:
        """Return the path of the shard that a row's image is in."""
        segment, row = self._local(row)
        return segment.span(row).path

    def place(self, row: int) -> Place:
        """Return where a row's image file is."""
        segment, row = self._local(row)
        span = segment.span(row)
        offset, size = segment.table.places[row].tolist()
        return Place(span, segment.table.keys[row].removeprefix(span.key_prefix), offset, size)

    def _local(self, row: int) -> tuple[Segment, int]:
        if not 0 <= row < self._bases[-1]:
            raise IndexError(f"row {row} of an index of {self.ntotal:,}")
        at = bisect_right(self._bases, row) - 1
        return self.segments[at], row - self._bases[at]


def _live(segments: Sequence[Segment]) -> RowSet | None:
    if all(segment.live is None for segment in segments):
        return None
    counts = [
        np.ones(segment.record.rows, dtype=np.bool_) if segment.live is None else segment.live for segment in segments
    ]
    return row_set(np.concatenate(counts))


def _filter(segments: Sequence[Segment], every: Sequence[SegmentRecord], where: str) -> RowSet:
    from indexer.filters.evaluate import passing

    condition = parse(where, label_fields(every))  # a label is of one kind in the whole index
    rows = row_set(np.concatenate([passing(condition, each.table, each.record.shards) for each in segments]))
    live = _live(segments)
    return rows if live is None else rows & live


def open_current(path: Path, stack: ExitStack, segments: range | None = None) -> tuple[Path, Manifest, bytes]:
    """Return the folder, manifest and pointer of the current generation, which stays on disk until the stack ends.

    Args:
        path: folder of the index.
        stack: ends when the generation is not in use any more.
        segments: numbers of those whose files have to be there; None: all files.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`.
    """
    for left in reversed(range(ATTEMPTS)):  # new generations may take its place meanwhile
        pointer = b""
        with ExitStack() as held:
            try:
                pointer = read_pointer(path)
                folder, manifest = read_current(path, pointer)
                held.enter_context(in_use(folder))
                check_sizes(folder, _files(manifest, segments))
            except HashgrainError:
                if not left or pointer_of(path) == pointer:
                    raise
            else:
                stack.push(held.pop_all())
                return folder, manifest, pointer
    raise AssertionError  # the loop returns or raises


def _earlier(path: Path, stack: ExitStack, pointer: bytes, segments: range | None) -> tuple[Path, Manifest, bytes]:
    """Read the generation that was current when the pointer was read: it is there as long as somebody has it open."""
    try:
        folder, manifest = read_current(path, pointer)
        stack.enter_context(in_use(folder))
        check_sizes(folder, _files(manifest, segments))
    except HashgrainError as err:
        if pointer_of(path) == pointer:
            raise
        raise HashgrainError(
            Reason.INDEX_MISSING,
            f"{path} has a newer generation, and the one that this copy of an open index was made of is gone; open it anew",
        ) from err
    return folder, manifest, pointer


def _files(manifest: Manifest, segments: range | None) -> Mapping[str, tuple[int, str]]:
    """Return the files of segments, and all of a generation for None."""
    if segments is None:
        return manifest.files
    return {name: manifest.files[name] for at in segments for name in manifest.files_of(manifest.segments[at])}
