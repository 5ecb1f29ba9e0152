"""An index opened for search: files mapped, nothing copied, any number of segments."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from encoder.bits import Codes
from encoder.errors import HashgrainError, Reason
from encoder.labels import Labels
from encoder.levels import Level
from encoder.places import read_image
from encoder.shards import ShardKind
from indexer.config import SearchSettings
from indexer.engine import FlatIndex, Found, IvfIndex, open_ivf
from indexer.manifest import Manifest, SegmentRecord, ShardSpan, check_sizes, read_current
from indexer.rows import RowTable


class Segment:
    """One segment of an index; its sub-indexes are mapped when first used."""

    def __init__(self, folder: Path, record: SegmentRecord) -> None:
        self.record = record
        self._folder = folder / record.name
        self._flat: dict[Level, FlatIndex] = {}
        self._ivf: dict[Level, IvfIndex] = {}
        self._first_rows = [span.first_row for span in record.shards]

    @cached_property
    def table(self) -> RowTable:
        """Keys, places and labels."""
        return RowTable(self._folder, self.record.rows, self.record.labels)

    def flat(self, level: Level) -> FlatIndex:
        """Return the codes of a level."""
        if level not in self._flat:
            self._flat[level] = FlatIndex(self._folder / self.record.levels[level].flat)
        return self._flat[level]

    def ivf(self, level: Level) -> IvfIndex | None:
        """Return the inverted lists of a level, if it has any."""
        name = self.record.levels[level].ivf
        if name is None:
            return None
        if level not in self._ivf:
            self._ivf[level] = open_ivf(self._folder / name)
        return self._ivf[level]

    def span(self, row: int) -> ShardSpan:
        """Return the shard a row came from."""
        return self.record.shards[int(np.searchsorted(self._first_rows, row, side="right")) - 1]

    def search(self, level: Level, queries: Codes, settings: SearchSettings) -> list[Found]:
        """Search one level; rows count from the segment's first."""
        ivf = None if settings.exact else self.ivf(level)
        nprobe = settings.nprobe or self.record.levels[level].nprobe or 1
        if settings.radius is not None:
            flat_or_lists = (
                self.flat(level).within(queries, settings.radius)
                if ivf is None
                else ivf.within(queries, settings.radius, nprobe)
            )
            return [Found(found.rows[: settings.k], found.distances[: settings.k]) for found in flat_or_lists]
        k = settings.k or 1
        return self.flat(level).search(queries, k) if ivf is None else ivf.search(queries, k, nprobe)


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
        self._bases: list[int] = np.cumsum([0, *(record.rows for record in self.manifest.segments)]).tolist()

    @property
    def rows(self) -> int:
        """Number of codes at each level."""
        return self.manifest.rows

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
            HashgrainError: `level-unknown`, `bad-value` for queries of another size.
        """
        self.check_level(level)
        nbits = self.manifest.bits[level]
        if queries.ndim != 2 or queries.shape[1] * 8 != nbits or queries.dtype != np.uint8:
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"queries are {queries.dtype}{queries.shape}; level {level} takes uint8[n, {nbits // 8}]",
            )
        parts = [segment.search(level, queries, settings) for segment in self.segments]
        if len(parts) == 1:
            return parts[0]
        return [self._merge(of_query, settings.k) for of_query in zip(*parts, strict=True)]

    def _merge(self, parts: Sequence[Found], k: int | None) -> Found:
        rows = np.concatenate([part.rows + base for part, base in zip(parts, self._bases, strict=False)])
        distances = np.concatenate([part.distances for part in parts])
        order = np.lexsort((rows, distances))[:k]
        return Found(rows[order], distances[order])

    def find(self, key: str) -> int:
        """Return the row of a key.

        Raises:
            HashgrainError: `key-unknown`.
        """
        for segment, base in zip(self.segments, self._bases, strict=False):
            if (row := segment.table.find(key)) is not None:
                return base + row
        raise HashgrainError(
            Reason.KEY_UNKNOWN,
            f"key {key!r} is not among the {self.rows:,} of {self.path}; keys are spelled as in the shards",
        )

    def code(self, level: Level, row: int) -> Codes:
        """Return uint8[nbits / 8], the code of a row."""
        self.check_level(level)
        segment, row = self._local(row)
        code: Codes = segment.flat(level).codes[row].copy()
        return code

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
