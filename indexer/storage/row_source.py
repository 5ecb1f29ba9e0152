"""Where rows come from: what a segment is written of, whether code files, other segments or arrays hold it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from encoder.bits import Bits, Codes
from encoder.codes.label_columns import LabelColumn
from encoder.codes.strings import TextColumn
from encoder.images.labels.values import LabelKind
from encoder.images.shards import ShardKind
from encoder.levels import Level
from indexer.matches import Rows
from indexer.storage.manifest import ShardSpan
from indexer.storage.row_table import KeyHashes, hash_keys
from indexer.storage.segment import Segment

Places = npt.NDArray[np.uint64]
"""uint64[n, 2]: offset and size in bytes of each image in its shard."""
PART_ROWS = 1 << 18
"""Rows of a segment that are read at once."""


class RowSource(Protocol):
    """Rows in order, of which each part is read when it is wanted; it may be asked again."""

    @property
    def name(self) -> str:
        """What it is called where a person has to find it."""
        ...

    @property
    def rows(self) -> int:
        """How many."""
        ...

    @property
    def bits(self) -> Mapping[Level, int]:
        """Bits of a code by level."""
        ...

    def held(self) -> AbstractContextManager[object]:
        """Keep what is read open while the context lasts: for several questions one after another."""
        ...

    def codes(self, level: Level, start: int, stop: int) -> Codes:
        """Return uint8[stop - start, nbits / 8], the codes of rows start:stop."""
        ...

    def keys(self) -> TextColumn:
        """Return the key of each row."""
        ...

    def hashes(self) -> KeyHashes:
        """Return `hash_keys` of the keys."""
        ...

    def places(self) -> Places:
        """Return the place of each row's image."""
        ...

    def label_fields(self) -> Mapping[str, LabelKind]:
        """Return the kind of each label that there is."""
        ...

    def label(self, name: str) -> LabelColumn:
        """Return one of these labels over the rows."""
        ...

    def spans(self) -> list[ShardSpan]:
        """Return which shards the rows came from, none without rows; rows are counted from 0."""
        ...

    def only(self, keep: Bits) -> "RowSource":
        """Return a source of the rows of which bool[rows] is true."""
        ...


class SegmentRows:
    """Rows of a segment that have not been removed.

    Args:
        segment: of an index.
        rows: int64[n], ascending.
        hashes: of the keys of all rows of the segment.
    """

    def __init__(self, segment: Segment, rows: Rows, hashes: "SegmentHashes") -> None:
        self._segment, self._rows, self._hashes = segment, rows, hashes
        self.name, self.rows = str(segment.folder), len(rows)
        self.bits = {level: part.record.nbits for level, part in segment.levels.items()}

    @property
    def numbers(self) -> Rows:
        """int64[rows]: which rows of the segment they are."""
        return self._rows

    def held(self) -> AbstractContextManager[object]:
        """Do nothing: a segment is mapped."""
        return nullcontext()

    def codes(self, level: Level, start: int, stop: int) -> Codes:
        """Return uint8[stop - start, nbits / 8]."""
        return self._segment.levels[level].codes_at(self._rows[start:stop])

    def keys(self) -> TextColumn:
        """Return the key of each row."""
        return self._segment.table.keys.take(self._rows)

    def hashes(self) -> KeyHashes:
        """Return `hash_keys` of the keys, as the segment has them."""
        return self._hashes.by_row[self._rows]

    def places(self) -> Places:
        """Return the place of each row's image."""
        return self._segment.table.places[self._rows]

    def label_fields(self) -> dict[str, LabelKind]:
        """Return the kind of each label that the segment has."""
        return {field.name: field.kind for field in self._segment.record.labels}

    def label(self, name: str) -> LabelColumn:
        """Return one of these labels over the rows."""
        column = self._segment.table.label_column(name)
        if column is None:
            raise KeyError(name)
        return column.take(self._rows)

    def spans(self) -> list[ShardSpan]:
        """Return which shards the rows came from."""
        record = self._segment.record
        ends = [*(span.first_row for span in record.shards), record.rows]
        bounds = np.searchsorted(self._rows, ends).tolist()
        return [
            replace(span, first_row=start)
            for span, (start, stop) in zip(record.shards, pairwise(bounds), strict=True)
            if start < stop
        ]

    def only(self, keep: Bits) -> "SegmentRows":
        """Return a source of some of the rows."""
        return SegmentRows(self._segment, self._rows[keep], self._hashes)


class SegmentHashes:
    """The hashes of a segment's keys by row, found when they are first wanted: 8 bytes per row.

    Args:
        segment: of an index.
    """

    def __init__(self, segment: Segment) -> None:
        self._segment = segment

    @cached_property
    def by_row(self) -> KeyHashes:
        """uint64[rows]."""
        table = self._segment.table
        hashes = np.empty(table.rows, dtype=np.uint64)
        hashes[table.order] = table.sorted_hashes
        return hashes


def segment_parts(segment: Segment, live: Bits | None, step: int = PART_ROWS) -> list[SegmentRows]:
    """Return the rows of a segment that have not been removed, in parts that are read one after another.

    Args:
        segment: of an index.
        live: bool[rows]; None: all of them.
        step: rows of a part, removed ones included.
    """
    hashes, starts = SegmentHashes(segment), range(0, segment.record.rows, step)
    parts = [np.arange(start, min(start + step, segment.record.rows)) for start in starts]
    alive = parts if live is None else [rows[live[rows]] for rows in parts]
    return [SegmentRows(segment, rows, hashes) for rows in alive if len(rows)]


@dataclass(frozen=True)
class ArrayRows:
    """Rows whose codes were made elsewhere: without images."""

    name: str
    """Where they come from."""
    text: TextColumn
    """The key of each row."""
    arrays: Mapping[Level, Codes]
    """uint8[rows, nbits / 8] by level, lowest bit first; may be mapped."""
    labels: Mapping[str, LabelColumn]

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.text)

    @property
    def bits(self) -> dict[Level, int]:
        """Bits of a code by level."""
        return {level: 8 * codes.shape[1] for level, codes in self.arrays.items()}

    def held(self) -> AbstractContextManager[object]:
        """Do nothing: arrays are there."""
        return nullcontext()

    def codes(self, level: Level, start: int, stop: int) -> Codes:
        """Return uint8[stop - start, nbits / 8]."""
        return self.arrays[level][start:stop]

    def keys(self) -> TextColumn:
        """Return the key of each row."""
        return self.text

    def hashes(self) -> KeyHashes:
        """Return `hash_keys` of the keys."""
        return hash_keys(self.text)

    def places(self) -> Places:
        """Return zeros: there are no images."""
        return np.zeros((self.rows, 2), dtype=np.uint64)

    def label_fields(self) -> dict[str, LabelKind]:
        """Return the kind of each label that there is."""
        return {name: column.kind for name, column in self.labels.items()}

    def label(self, name: str) -> LabelColumn:
        """Return one of these labels over the rows."""
        return self.labels[name]

    def spans(self) -> list[ShardSpan]:
        """Return one span without images."""
        return [ShardSpan(0, ShardKind.NONE, self.name, "")] if self.rows else []

    def only(self, keep: Bits) -> "ArrayRows":
        """Return a source of some of the rows."""
        if keep.all():
            return self
        rows = np.flatnonzero(keep)
        arrays = {level: codes[rows] for level, codes in self.arrays.items()}
        return ArrayRows(
            self.name, self.text.take(rows), arrays, {name: column.take(rows) for name, column in self.labels.items()}
        )
