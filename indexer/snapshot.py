"""One generation of an index, opened: files mapped, nothing copied, any number of segments. Codes in, rows and distances out."""

import weakref
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from encoder.bits import Codes
from encoder.errors import HashgrainError, Reason, shown
from encoder.images.labels.values import Labels
from encoder.images.limits import Limits
from encoder.levels import Level
from encoder.runtime.files import read_regular
from encoder.runtime.publish import in_use
from indexer.cutoffs import CutOff, cut_off
from indexer.filters.expression import label_fields
from indexer.filters.parser import parse
from indexer.matches import Bounds, Matches, Rows
from indexer.row_mask import RowSet, mask_of, row_set, set_of, size_of, without_rows
from indexer.search.bit_weights import WeightedCode, nearest_by_bits
from indexer.search.combine import MultiLevelQuery, Ranked, combine
from indexer.search.histogram import Counts, histogram
from indexer.search.level_index import LevelIndex
from indexer.settings import CombineSettings, SearchSettings, Trust
from indexer.storage.current import POINTER, POINTER_BYTES, check_sizes, read_current, read_pointer
from indexer.storage.digests import Digests
from indexer.storage.manifest import Manifest
from indexer.storage.pictures import Pictures, Place, manifest_digest
from indexer.storage.segment import Segment

ATTEMPTS = 10
"""Generations in a row that may each be gone before they are opened."""
FILTERS = 16
"""Filters whose rows are remembered: the next page of an answer, or the next query of a session, asks with the same one."""


class Described(NamedTuple):
    """Rows as a person knows them, in columns."""

    keys: list[str]
    labels: list[Labels]
    shards: list[str]
    """Paths of the shards that their images are in."""


class Snapshot:
    """The current generation of an index folder. Safe for concurrent searches from several threads.

    As long as it lives, its generation stays on disk, also when a newer one takes its place.

    Args:
        path: folder of the index.
        locked: the caller holds the folder, so that nobody else removes a generation; the caller may.
        pointer: of the generation that is to be opened, as another process had it open; None: the current one.
        notify: called with a line for a person when a GPU hands over to the scan.
        trust: what of it is believed.
        limits: what an image may be that is read back, where the user said so.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`.
    """

    def __init__(
        self,
        path: Path,
        *,
        locked: bool = False,
        pointer: bytes | None = None,
        notify: Callable[[str], None] = lambda _: None,
        trust: Trust = Trust(),
        limits: Limits | None = None,
    ) -> None:
        self.path, self.trust, self._limits, self._notify = path, trust, limits, notify
        with ExitStack() as stack:
            self.folder, self.manifest, self._pointer = (
                _current(path, stack) if pointer is None else _earlier(path, stack, pointer)
            )
            if not locked:
                weakref.finalize(self, stack.pop_all().close)
        self._digests = Digests(self.folder, self.manifest.files, trust.verify)
        self.segments = [Segment(self.folder, record, self._digests.check) for record in self.manifest.segments]
        # not by a method of this object: in a cycle, a dropped index would hold its generation until the next collection
        self._filtered = lru_cache(FILTERS)(partial(_filter, self.segments))
        self._bases: list[int] = np.cumsum([0, *(record.rows for record in self.manifest.segments)]).tolist()
        self._levels: dict[Level, LevelIndex] = {
            level: LevelIndex(
                [segment.levels[level] for segment in self.segments],
                self._bases,
                notify,
                live=[record.rows - record.removed for record in self.manifest.segments],
            )
            for level in self.manifest.bits
        }

    def newest(self) -> "Snapshot":
        """Return the generation that took this one's place, opened; what both have of this one is not opened again.

        Raises:
            HashgrainError: `index-missing`, `index-damaged`.
        """
        newer = Snapshot(self.path, notify=self._notify, trust=self.trust, limits=self._limits)
        before = {segment.record.name: segment for segment in self.segments}
        here, there = newer.manifest.files, self.manifest.files
        for segment in newer.segments:
            if (old := before.get(segment.record.name)) is not None:
                segment.take_over(old, lambda path: here.get(path) == there.get(path))
        for level in newer._levels.keys() & self._levels.keys():
            newer._levels[level].take_over(self._levels[level])
        return newer

    @property
    def generation(self) -> str:
        """Name of the generation."""
        return self.folder.name

    @property
    def pointer(self) -> bytes:
        """What the pointer held when the generation was the current one."""
        return self._pointer

    @property
    def is_current(self) -> bool:
        """Whether no newer generation has taken its place, nor another index; reads the pointer, a file of one line."""
        return _bytes_of(self.path / POINTER) == self._pointer

    @property
    def unverified(self) -> dict[str, int]:
        """Files in use that were checked by their size alone, with their bytes."""
        return self._digests.unverified

    @property
    def ntotal(self) -> int:
        """Number of rows, removed ones too: rows keep their numbers."""
        return self.manifest.rows

    @cached_property
    def live_mask(self) -> RowSet | None:
        """The rows that have not been removed; None: all."""
        return _live(self.segments)

    def level(self, level: Level) -> LevelIndex:
        """Return a level over all segments."""
        self.check_level(level)
        return self._levels[level]

    def live_rows(self) -> Rows:
        """Return int64[n], the rows that have not been removed."""
        return (
            np.arange(self.ntotal)
            if self.live_mask is None
            else np.flatnonzero(mask_of(self.live_mask, 0, self.ntotal))
        )

    def is_live(self, row: int) -> bool:
        """Whether there is a row of this number that has not been removed."""
        if not 0 <= row < self.ntotal:
            return False
        segment, row = self._local(row)
        return segment.live is None or bool(segment.live[row])

    def check_level(self, level: Level) -> None:
        """Raise `level-unknown` when the index has no such level."""
        if level not in self.manifest.bits:
            has = ", ".join(self.manifest.bits)
            raise HashgrainError(
                Reason.LEVEL_UNKNOWN, f"level {level} is not in {self.path} (has: {has}); search one of those"
            )

    def search(
        self, level: Level, queries: Codes, settings: SearchSettings, exclude: Rows | None = None
    ) -> list[Matches]:
        """Return the rows nearest to each query, ordered by (distance, row).

        Args:
            level: which code.
            queries: uint8[nq, nbits / 8], lowest bit first.
            settings: k, radius and effort.
            exclude: int64[nq], a row that each query leaves out, -1 for none: itself, where it is a row.

        Returns:
            One `Matches` per query. Without an IVF, or with `exact`, exactly the k smallest (distance, row) within the radius.

        Raises:
            HashgrainError: `level-unknown`, `bad-value` for queries of another size or a filter that cannot be read.
        """
        queries = self._checked(level, queries)
        return self._levels[level].search(queries, settings, self.passing(settings.where), exclude)

    def combine(
        self, queries: Mapping[Level, Codes], settings: CombineSettings, exclude: Rows | None = None
    ) -> list[Ranked]:
        """Return the best rows for each query over several levels.

        Args:
            queries: uint8[nq, nbits / 8] for each level of the settings, the same images in the same order.
            settings: which levels, and how they become one order.
            exclude: as in `search`.

        Raises:
            HashgrainError: `level-unknown`, `bad-value`.
        """
        for level in settings.levels:
            if level not in queries or len(queries[level]) != len(queries[settings.levels[0]]):
                raise HashgrainError(
                    Reason.BAD_VALUE,
                    f"queries have {', '.join(f'{len(codes)} codes at {name}' for name, codes in queries.items()) or 'no codes'}; "
                    f"give as many at each of {', '.join(settings.levels)}",
                )
        codes = {level: self._checked(level, queries[level]) for level in settings.levels}
        return combine(MultiLevelQuery(self._levels, codes, settings, self.passing(settings.search.where), exclude))

    def search_by_bits(self, query: Mapping[Level, WeightedCode], settings: SearchSettings, without: Rows) -> Ranked:
        """Return the rows of the smallest weighted distance to a query, over all rows.

        Args:
            query: a code and a weight per bit, at one or several levels.
            settings: k, filter and engine; with a radius, of the plain distance to the code, one level.
            without: int64[n], rows that are left out.

        Raises:
            HashgrainError: `bad-value`.
        """
        rows, k = without_rows(self.passing(settings.where), self.ntotal, without), settings.k
        if settings.radius is not None:
            ((level, weighted),) = query.items()
            every = replace(settings, k=None, nprobe=None, recall=None, exact=True)
            (within,) = self._levels[level].search(weighted.code[None], every, rows)
            rows, k = set_of(self.ntotal, within.rows), k or max(1, len(within.rows))
        return nearest_by_bits(self._levels, query, settings.engine, Bounds(k, rows=rows))

    def eligible(self, where: str | None) -> int:
        """Return how many rows have not been removed and pass a filter; None: all pass.

        Raises:
            HashgrainError: `bad-value` for a filter that cannot be read.
        """
        rows = None if where is None else self.passing(where)
        return self.manifest.live if rows is None else size_of(rows)

    def cutoff(self, level: Level, max_false: float) -> CutOff:
        """Return the distance within which so many unrelated images are expected per query, at this index's size.

        Raises:
            HashgrainError: `level-unknown`; `bad-value` where the level was not calibrated.
        """
        self.check_level(level)
        calibrated = self.manifest.segments[0].levels[level].calibrated
        if calibrated is None:
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"max_false is {max_false}, but level {level} of {self.path} was not calibrated; calibrate the index first",
            )
        return cut_off(calibrated, max_false, self.manifest.live)

    def histogram(self, level: Level, code: Codes, where: str | None = None) -> Counts:
        """Count the eligible rows at each distance.

        Args:
            level: which code is compared.
            code: uint8[nbits / 8], lowest bit first.
            where: filter that rows must pass; None: none.

        Returns:
            int64[nbits + 1], rows at 0, 1, ... nbits bits.

        Raises:
            HashgrainError: `level-unknown`, `bad-value` for a code of another size or a filter that cannot be read.
        """
        (checked,) = self._checked(level, np.asarray(code)[None])
        return histogram(self._levels[level], checked, self.passing(where))

    def passing(self, where: str | None) -> RowSet | None:
        """Return the rows that have not been removed and pass a filter; None: all.

        Raises:
            HashgrainError: `bad-value` for a filter that cannot be read, with the place.
        """
        return self.live_mask if where is None else self._filtered(where)

    def _checked(self, level: Level, queries: Codes) -> Codes:
        """Return queries as they are searched, contiguous in rows."""
        self.check_level(level)
        nbits = self.manifest.bits[level]
        given: object = queries
        if not isinstance(given, np.ndarray) or given.shape[1:] != (nbits // 8,) or given.dtype != np.uint8:
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"queries are {shown(given)}; level {level} takes codes, uint8[n, {nbits // 8}], lowest bit first",
            )
        return np.ascontiguousarray(queries)

    def find(self, key: str) -> int:
        """Return the row of a key that has not been removed; the newest segment is asked first.

        Raises:
            HashgrainError: `key-unknown`.
        """
        for segment, base in reversed(list(zip(self.segments, self._bases, strict=False))):
            row = segment.table.find(key)
            if row is not None and (segment.live is None or segment.live[row]):
                return base + row
        raise HashgrainError(
            Reason.KEY_UNKNOWN,
            f"key {key!r} is not among the {self.manifest.live:,} of {self.path}; keys are spelled as in the shards",
        )

    def codes(self, level: Level, rows: Rows) -> Codes:
        """Return uint8[len(rows), nbits / 8], the codes of rows int64[m]."""
        self.check_level(level)
        return self._levels[level].codes_at(rows)

    def key(self, row: int) -> str:
        """Return the key of a row."""
        segment, row = self._local(row)
        return segment.table.keys[row]

    def labels(self, row: int) -> Labels:
        """Return the labels of a row."""
        segment, row = self._local(row)
        return segment.table.labels(row)

    def describe(self, rows: Rows) -> Described:
        """Return what a person wants to know of int64[n] rows, column by column: of many, in less time than one by one."""
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

    def image(self, row: int) -> bytes:
        """Read a row's image file back from its shard.

        Raises:
            HashgrainError: `shard-missing`, `shard-damaged` when it is no longer there; `not-allowed` where it may not be read.
        """
        return self.image_reader(row)()

    def image_reader(self, row: int) -> Callable[[], bytes]:
        """Return what reads a row's image file back, without this index: the row's place is in it."""
        return partial(self._pictures.read, self.place(row))

    def place(self, row: int) -> Place:
        """Return where a row's image file is."""
        segment, row = self._local(row)
        span = segment.span(row)
        offset, size = segment.table.places[row].tolist()
        return Place(span, segment.table.keys[row].removeprefix(span.key_prefix), offset, size)

    @cached_property
    def _pictures(self) -> Pictures:
        digest = manifest_digest(self._pointer)
        return Pictures(self.path, digest, self.manifest.limits, self.trust.roots, self._limits)

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


def _filter(segments: Sequence[Segment], where: str) -> RowSet:
    from indexer.filters.evaluate import passing

    condition = parse(where, label_fields(segment.record for segment in segments))
    rows = row_set(np.concatenate([passing(condition, each.table, each.record.shards) for each in segments]))
    live = _live(segments)
    return rows if live is None else rows & live


def _current(path: Path, stack: ExitStack) -> tuple[Path, Manifest, bytes]:
    """Read the current generation and its pointer, in use until the stack ends; again while new ones take its place."""
    for left in reversed(range(ATTEMPTS)):
        pointer = b""
        with ExitStack() as held:
            try:
                pointer = read_pointer(path)
                folder, manifest = read_current(path, pointer)
                held.enter_context(in_use(folder))
                check_sizes(folder, manifest.files)
            except HashgrainError:
                if not left or _bytes_of(path / POINTER) == pointer:
                    raise
            else:
                stack.push(held.pop_all())
                return folder, manifest, pointer
    raise AssertionError  # the loop returns or raises


def _earlier(path: Path, stack: ExitStack, pointer: bytes) -> tuple[Path, Manifest, bytes]:
    """Read the generation that was current when the pointer was read: it is there as long as somebody has it open."""
    try:
        folder, manifest = read_current(path, pointer)
        stack.enter_context(in_use(folder))
        check_sizes(folder, manifest.files)
    except HashgrainError as err:
        if _bytes_of(path / POINTER) == pointer:
            raise
        raise HashgrainError(
            Reason.INDEX_MISSING,
            f"{path} has a newer generation, and the one that this copy of an open index was made of is gone; open it anew",
        ) from err
    return folder, manifest, pointer


def _bytes_of(path: Path) -> bytes:
    try:
        return read_regular(path, POINTER_BYTES, links=False)
    except (OSError, ValueError):
        return b""
