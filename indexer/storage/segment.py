"""One segment of an index: rows that were built together. Files are mapped when first used, nothing is copied."""

from bisect import bisect_right
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from encoder.bits import Bits, Codes, unpack
from encoder.errors import HashgrainError, Reason
from indexer.engines.faiss_cpu import FlatIndex
from indexer.engines.faiss_lists import IvfIndex
from indexer.matches import Rows
from indexer.storage.columns import map_column
from indexer.storage.digests import Prove
from indexer.storage.manifest import POSTINGS, LevelRecord, SegmentRecord, ShardSpan
from indexer.storage.row_table import RowTable
from indexer.storage.shared_codes import Postings

OPENED = ("flat", "ivf", "postings")
"""What a level holds once it is used."""


class LevelPart:
    """One level of a segment.

    Args:
        folder: of the segment.
        record: what the manifest says of the level.
        rows: of the segment.
        prove: see `Prove`; takes names in the segment.
    """

    def __init__(self, folder: Path, record: LevelRecord, rows: int, prove: Prove = lambda _: None) -> None:
        self.record, self._folder, self._rows, self._prove = record, folder, rows, prove

    def take_over(self, earlier: "LevelPart", same: Callable[[str], bool]) -> None:
        """Use again what an earlier generation has open of the same files.

        Args:
            earlier: the level of the segment there.
            same: whether a name stands for the same bytes there.
        """
        if self.record.files() == earlier.record.files() and all(map(same, self.record.files())):
            self.__dict__ |= {part: earlier.__dict__[part] for part in OPENED if part in earlier.__dict__}
        elif self.record.flat == earlier.record.flat and same(self.record.flat) and "flat" in earlier.__dict__:
            self.__dict__["flat"] = earlier.flat  # the lists are others

    @property
    def path(self) -> Path:
        """The file of the lists, or of the codes where there are none."""
        return self._folder / (self.record.ivf or self.record.flat)

    @cached_property
    def flat(self) -> FlatIndex:
        """The code of each entry; an entry is a row, or a code that rows share."""
        self._prove(self.record.flat)
        flat = FlatIndex(self._folder / self.record.flat)
        entries = self._rows if self.record.postings is None else min(flat.ntotal, self._rows)
        self._check(self.record.flat, (flat.nbits, flat.ntotal), (self.record.nbits, entries))
        return flat

    @cached_property
    def ivf(self) -> IvfIndex | None:
        """The inverted lists over the entries, if there are any."""
        if self.record.ivf is None:
            return None
        self._prove(self.record.ivf)
        ivf = IvfIndex(self._folder / self.record.ivf)
        expected = (self.record.nbits, self.flat.ntotal, self.record.nlist)
        self._check(self.record.ivf, (ivf.nbits, ivf.ntotal, ivf.nlist), expected)
        return ivf

    @cached_property
    def postings(self) -> Postings | None:
        """The rows of each entry, where rows share entries."""
        if self.record.postings is None:
            return None
        name, rows = self.record.postings, self._rows
        for part in POSTINGS:
            self._prove(f"{name}.{part}.npy")
        postings = Postings(
            map_column(self._folder / f"{name}.entries.npy", np.uint32, (rows,)),
            map_column(self._folder / f"{name}.rows.npy", np.uint32, (rows,)),
            map_column(self._folder / f"{name}.starts.npy", np.uint64, (self.flat.ntotal + 1,)),
        )
        if postings.out_of_range():
            raise HashgrainError(
                Reason.INDEX_DAMAGED,
                f"{self._folder / name}.*.npy lead out of the {rows} rows; build the index again",
            )
        return postings

    def _check(self, name: str, found: tuple[int | None, ...], expected: tuple[int | None, ...]) -> None:
        """Compare bits, codes and lists with what the manifest says, before any memory is read by it."""
        if found != expected:
            of = ("bits", "codes", "lists")
            said, there = (
                ", ".join(f"{count} {what}" for count, what in zip(counts, of, strict=False))
                for counts in (expected, found)
            )
            raise HashgrainError(
                Reason.INDEX_DAMAGED,
                f"{self._folder / name} has {there}, expected {said}; build the index again",
            )

    def codes_at(self, rows: Rows) -> Codes:
        """Return uint8[len(rows), nbits / 8], the codes of rows int64[m]."""
        codes: Codes = self.flat.codes[rows if self.postings is None else self.postings.entries[rows]]
        return codes


class Segment:
    """One segment of an index.

    Args:
        generation: folder of the generation.
        record: what the manifest says of the segment.
        prove: see `Prove`.
    """

    def __init__(self, generation: Path, record: SegmentRecord, prove: Prove = lambda _: None) -> None:
        self.record, self._generation, self._prove = record, generation, prove
        self.folder = folder = generation / record.name
        # not by a method of this object: in a cycle, a dropped segment would keep its maps until the next collection
        self._prove_own = partial(_prove_in, record.name, prove)
        self.levels = {
            level: LevelPart(folder, of_level, record.rows, self._prove_own)
            for level, of_level in record.levels.items()
        }
        self._first_rows = [span.first_row for span in record.shards]

    def take_over(self, earlier: "Segment", same: Callable[[str], bool]) -> None:
        """Use again what an earlier generation has open of the same files.

        Args:
            earlier: the segment of that name there.
            same: whether a path stands for the same bytes there.
        """
        if earlier.record.rows != self.record.rows:
            return
        for level in self.levels.keys() & earlier.levels.keys():
            self.levels[level].take_over(earlier.levels[level], lambda name: same(f"{self.record.name}/{name}"))
        live = self.record.live
        if live is not None and live == earlier.record.live and same(live) and "live" in earlier.__dict__:
            self.__dict__["live"] = earlier.live

    @cached_property
    def table(self) -> RowTable:
        """Keys, places and labels."""
        return RowTable(self._generation / self.record.name, self.record.rows, self.record.labels, self._prove_own)

    @cached_property
    def live(self) -> Bits | None:
        """bool[rows], the rows that have not been removed; None: all."""
        if self.record.live is None:
            return None
        rows = self.record.rows
        self._prove(self.record.live)
        return unpack(map_column(self._generation / self.record.live, np.uint8, ((rows + 7) // 8,)))[:rows]

    def open_all(self) -> None:
        """Open every file: each begins as the manifest says.

        Raises:
            HashgrainError: `index-damaged`.
        """
        _ = self.live
        self.table.open_all()
        for part in self.levels.values():
            _ = part.flat, part.ivf, part.postings

    def span(self, row: int) -> ShardSpan:
        """Return the shard a row came from."""
        return self.record.shards[bisect_right(self._first_rows, row) - 1]


def _prove_in(folder: str, prove: Prove, name: str) -> None:
    """Prove a file of a segment."""
    prove(f"{folder}/{name}")
