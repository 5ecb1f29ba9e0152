"""The rows of an index as every export hands them out: without those removed, in their order, a block at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from encoder.bits import Codes
from encoder.codes.label_columns import LabelColumn
from encoder.codes.strings import TextColumn
from encoder.levels import Level
from encoder.plural import plural
from indexer.matches import Rows
from indexer.settings import Trust, Verify
from indexer.snapshot import Snapshot
from indexer.storage.row_source import segment_parts
from indexer.storage.row_writer import settle_labels

BLOCK_ROWS: Final = 1 << 16
"""Rows of a block at most, removed ones included."""


class Block(NamedTuple):
    """Rows one after another."""

    rows: Rows
    """int64[n]: their numbers in the generation."""
    keys: TextColumn
    codes: Mapping[Level, Codes]
    labels: Mapping[str, LabelColumn]
    """Of the fields that these rows have; each of its own kind, which joins to that of the field."""


class ExportRows:
    """An index, opened to be handed out.

    Args:
        index: folder of the index.
        levels: whose codes; None: all.

    Raises:
        HashgrainError: `level-unknown`, `index-missing`, `index-damaged`.
    """

    def __init__(self, index: Path, levels: Sequence[Level] | None) -> None:
        opened = Snapshot(index, trust=Trust(Verify.FULL))
        chosen = tuple(opened.manifest.bits) if levels is None else tuple(dict.fromkeys(levels))
        for level in chosen:
            opened.check_level(level)
        self.generation, self.pointer = opened.generation, opened.pointer
        self.bits = {level: opened.manifest.bits[level] for level in chosen}
        self.count = opened.manifest.live
        starts = [0]
        for segment in opened.segments:
            starts.append(starts[-1] + segment.record.rows)
        self._parts = [
            (start, part)
            for start, segment in zip(starts, opened.segments, strict=False)
            for part in segment_parts(segment, segment.live, BLOCK_ROWS)
        ]
        self.fields, _ = settle_labels([part for _, part in self._parts])
        self._opened = opened  # holds the generation while its files are read

    def blocks(self, progress: Callable[[float, str], None] = lambda *_: None) -> Iterator[Block]:
        """Yield all rows.

        Args:
            progress: called with a share done and a few words, after each block.
        """
        names, rows = {field.name for field in self.fields}, 0
        for done, (start, part) in enumerate(self._parts, 1):
            codes = {level: part.codes(level, 0, part.rows) for level in self.bits}
            labels = {name: part.label(name) for name in part.label_fields() if name in names}
            yield Block(start + part.numbers, part.keys(), codes, labels)
            rows += part.rows
            progress(done / len(self._parts), plural(rows, "row"))
