"""An index opened for search: files mapped, nothing copied, any number of segments."""

from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from encoder.bits import Codes
from encoder.errors import HashgrainError, Reason
from encoder.labels import Labels
from encoder.levels import Level
from encoder.places import read_image
from encoder.shards import ShardKind
from indexer.combine import Asked, Ranked, combine
from indexer.conditions import label_fields
from indexer.config import CombineSettings, SearchSettings
from indexer.found import Found, Rows
from indexer.manifest import Manifest, check_sizes, read_current
from indexer.rowset import RowSet, counts_of, row_set
from indexer.segment import Segment
from indexer.subindex import SubIndex
from indexer.where import parse

FILTERS = 16
"""Filters whose rows are remembered: the next page of an answer, or the next query of a session, asks with the same one."""


class Index:
    """The current generation of an index folder. Safe for concurrent searches from several threads.

    Args:
        path: folder of the index.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder, self.manifest = _current(path)
        self.segments = [Segment(self.folder, record) for record in self.manifest.segments]
        self._filtered = lru_cache(FILTERS)(self._filter)
        self._bases: list[int] = np.cumsum([0, *(record.rows for record in self.manifest.segments)]).tolist()
        self._levels = {
            level: SubIndex([segment.levels[level] for segment in self.segments], self._bases)
            for level in self.manifest.bits
        }

    @property
    def rows(self) -> int:
        """Number of rows, removed ones too: rows keep their numbers."""
        return self.manifest.rows

    @cached_property
    def live(self) -> RowSet | None:
        """The rows that have not been removed; None: all."""
        if all(segment.live is None for segment in self.segments):
            return None
        counts = [
            np.ones(segment.record.rows, dtype=np.bool_) if segment.live is None else segment.live
            for segment in self.segments
        ]
        return row_set(np.concatenate(counts))

    def level(self, level: Level) -> SubIndex:
        """Return a level over all segments."""
        self.check_level(level)
        return self._levels[level]

    def live_rows(self) -> Rows:
        """Return int64[n], the rows that have not been removed."""
        return np.arange(self.rows) if self.live is None else np.flatnonzero(counts_of(self.live, 0, self.rows))

    def check_level(self, level: Level) -> None:
        """Raise `level-unknown` when the index has no such level."""
        if level not in self.manifest.bits:
            has = ", ".join(self.manifest.bits)
            raise HashgrainError(
                Reason.LEVEL_UNKNOWN, f"level {level} is not in {self.path} (has: {has}); ask for one of those"
            )

    def search(self, level: Level, queries: Codes, settings: SearchSettings) -> list[Found]:
        """Return the rows nearest to each query, ordered by (distance, row).

        Args:
            level: which code.
            queries: uint8[nq, nbits / 8], lowest bit first.
            settings: k, radius and effort.

        Returns:
            One `Found` a query. Without an IVF, or with `exact`, exactly the k smallest (distance, row) within the radius.

        Raises:
            HashgrainError: `level-unknown`, `bad-value` for queries of another size or a filter that cannot be read.
        """
        self._check(level, queries)
        return self._levels[level].search(queries, settings, self.passing(settings.where))

    def combine(self, queries: Mapping[Level, Codes], settings: CombineSettings) -> list[Ranked]:
        """Return the best rows for each query over several levels.

        Args:
            queries: uint8[nq, nbits / 8] for each level of the settings, the same images in the same order.
            settings: which levels, and how they become one order.

        Raises:
            HashgrainError: `level-unknown`, `bad-value`.
        """
        for level in settings.levels:
            self._check(level, queries[level])
        return combine(Asked(self._levels, queries, settings, self.passing(settings.search.where)))

    def passing(self, where: str | None) -> RowSet | None:
        """Return the rows that have not been removed and pass a filter; None: all.

        Raises:
            HashgrainError: `bad-value` for a filter that cannot be read, with the place.
        """
        return self.live if where is None else self._filtered(where)

    def _filter(self, where: str) -> RowSet:
        from indexer.passing import passing

        condition = parse(where, label_fields(self.manifest.segments))
        counts = [passing(condition, segment.table, segment.record.shards) for segment in self.segments]
        rows = row_set(np.concatenate(counts))
        return rows if self.live is None else rows & self.live

    def _check(self, level: Level, queries: Codes) -> None:
        self.check_level(level)
        nbits = self.manifest.bits[level]
        if queries.ndim != 2 or queries.shape[1] * 8 != nbits or queries.dtype != np.uint8:
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"queries are {queries.dtype}{queries.shape}; level {level} takes uint8[n, {nbits // 8}]",
            )

    def find(self, key: str) -> int:
        """Return the row of a key.

        Raises:
            HashgrainError: `key-unknown`.
        """
        for segment, base in zip(self.segments, self._bases, strict=False):
            row = segment.table.find(key)
            if row is not None and (segment.live is None or segment.live[row]):
                return base + row
        raise HashgrainError(
            Reason.KEY_UNKNOWN,
            f"key {key!r} is not among the {self.rows:,} of {self.path}; keys are spelled as in the shards",
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

    def shard(self, row: int) -> str:
        """Return the path of the shard that a row's image is in."""
        segment, row = self._local(row)
        return segment.span(row).path

    def image(self, row: int) -> bytes:
        """Read a row's image file back from its shard.

        Raises:
            HashgrainError: `shard-missing`, `shard-damaged` when it is no longer there.
        """
        segment, row = self._local(row)
        span = segment.span(row)
        offset, size = segment.table.places[row].tolist()
        member = segment.table.keys[row].removeprefix(span.key_prefix) if span.kind is ShardKind.FILES else ""
        return read_image(span.kind, Path(span.path), member, offset, size)

    def _local(self, row: int) -> tuple[Segment, int]:
        at = int(np.searchsorted(self._bases, row, side="right")) - 1
        return self.segments[at], row - self._bases[at]


def _current(path: Path) -> tuple[Path, Manifest]:
    """Read the current generation; once more if a new one took its place meanwhile."""
    for attempt in (1, 2):
        folder, manifest = read_current(path)
        try:
            check_sizes(folder, manifest.files)
        except HashgrainError:
            if attempt == 2 or read_current(path)[0] == folder:
                raise
        else:
            return folder, manifest
    raise AssertionError  # the loop returns or raises
