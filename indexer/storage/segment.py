"""One segment of an index: rows that were built together. Files are mapped when first used, nothing is copied."""

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from encoder.bits import Bits, Codes, unpack
from encoder.errors import HashgrainError, Reason, why
from indexer.engines.faiss_cpu import FlatIndex, IvfIndex
from indexer.matches import Rows
from indexer.storage.columns import map_column
from indexer.storage.digests import Digests
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
        prove: called with the name of a file before it is mapped first.
    """

    def __init__(
        self, folder: Path, record: LevelRecord, rows: int, prove: Callable[[str], None] = lambda _: None
    ) -> None:
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
            self.__dict__["flat"] = earlier.flat

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
        self._compare(self.record.flat, (flat.nbits, flat.ntotal), (self.record.nbits, entries))
        return flat

    @cached_property
    def ivf(self) -> IvfIndex | None:
        """The inverted lists over the entries, if there are any."""
        if self.record.ivf is None:
            return None
        self._prove(self.record.ivf)
        ivf = IvfIndex(self._folder / self.record.ivf)
        expected = (self.record.nbits, self.flat.ntotal, self.record.nlist)
        self._compare(self.record.ivf, (ivf.nbits, ivf.ntotal, ivf.nlist), expected)
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

    def _compare(self, name: str, found: tuple[int | None, ...], expected: tuple[int | None, ...]) -> None:
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
        digests: of the generation's files, asked before one is mapped first; None: their sizes have to do.
        earlier: the segment of that name in an earlier generation; what it has open of the same files is used again.
    """

    def __init__(
        self, generation: Path, record: SegmentRecord, digests: Digests | None = None, earlier: "Segment | None" = None
    ) -> None:
        self.record, self._generation, self._digests = record, generation, digests
        # nothing below refers to this object: in a cycle, a dropped index would hold its files until the next collection
        self._prove = partial(_prove, digests, generation)
        self._prove_mine = partial(_prove, digests, generation, folder=f"{record.name}/")
        self.levels = {
            level: LevelPart(generation / record.name, of_level, record.rows, self._prove_mine)
            for level, of_level in record.levels.items()
        }
        self._first_rows = [span.first_row for span in record.shards]
        if earlier is not None and earlier.record.rows == record.rows:
            self._take_over(earlier)

    def _take_over(self, earlier: "Segment") -> None:
        def same(path: str) -> bool:
            digests = (self._digests, earlier._digests)
            first, second = (None if each is None else each.digest_of(path) for each in digests)
            return first is not None and first == second

        for level in self.levels.keys() & earlier.levels.keys():
            self.levels[level].take_over(earlier.levels[level], lambda name: same(f"{self.record.name}/{name}"))
        if (live := self.record.live) is not None and live == earlier.record.live and same(live):
            self.__dict__ |= {part: earlier.__dict__[part] for part in ("live",) if part in earlier.__dict__}

    @cached_property
    def table(self) -> RowTable:
        """Keys, places and labels."""
        folder = self._generation / self.record.name
        return RowTable(folder, self.record.rows, self.record.labels, self._prove_mine)

    @cached_property
    def live(self) -> Bits | None:
        """bool[rows], the rows that have not been removed; None: all."""
        if self.record.live is None:
            return None
        rows, path = self.record.rows, self.record.live
        self._prove(path)
        return unpack(map_column(self._generation / path, np.uint8, ((rows + 7) // 8,)))[:rows]

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
        return self.record.shards[int(np.searchsorted(self._first_rows, row, side="right")) - 1]


def _prove(digests: Digests | None, generation: Path, name: str, folder: str = "") -> None:
    """Prove a file to be what was written."""
    if digests is None:
        return
    try:
        digests.check(folder + name)
    except OSError as err:
        raise HashgrainError(
            Reason.INDEX_DAMAGED, f"{generation / folder / name} cannot be read ({why(err)}); build the index again"
        ) from err
