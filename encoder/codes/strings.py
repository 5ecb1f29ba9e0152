"""Columns of strings, and of lists of strings, as flat arrays, so that numpy can map millions of them without a copy."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from encoder.errors import HashgrainError, Reason


@dataclass(frozen=True, slots=True)
class TextColumn:
    """n strings: row i is text[offsets[i]:offsets[i + 1]] in UTF-8."""

    text: npt.NDArray[np.uint8]
    """uint8[total bytes]."""
    offsets: npt.NDArray[np.uint64]
    """uint64[n + 1], not falling, from 0 to total bytes."""
    file: str = "a column of text"
    """Where it is mapped from: offsets are too many to be checked before they are used, so each row is checked as it is read."""

    @classmethod
    def of(cls, strings: Iterable[str]) -> "TextColumn":
        """Pack strings."""
        encoded = [string.encode() for string in strings]
        offsets = np.zeros(len(encoded) + 1, dtype=np.uint64)
        np.cumsum([len(part) for part in encoded], out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> str:
        """Return a row.

        Raises:
            HashgrainError: `index-damaged` for a row that is not there, or whose bytes are not.
        """
        start, stop = _bounds(self.offsets, row, len(self.text), self.file)
        try:
            return self.text[start:stop].tobytes().decode()
        except UnicodeDecodeError:
            raise _damaged(self.file, f"row {row} is not UTF-8") from None

    def __iter__(self) -> Iterator[str]:
        """Yield every row.

        Raises:
            HashgrainError: `index-damaged`.
        """
        try:
            yield from (row.decode() for row in self.encoded())
        except UnicodeDecodeError:
            raise _damaged(self.file, "its text is not UTF-8") from None

    def encoded(self) -> Iterator[bytes]:
        """Return what yields every row as it is stored.

        Raises:
            HashgrainError: `index-damaged`.
        """
        if fault := fault_of(self.offsets, len(self.text)):
            raise _damaged(self.file, fault)
        raw = self.text.tobytes()
        return (raw[start:stop] for start, stop in pairwise(self.offsets.tolist()))

    def take(self, rows: npt.NDArray[np.int64]) -> "TextColumn":
        """Return some rows, in the order in which they are named, without making strings of them.

        Raises:
            HashgrainError: `index-damaged` for a row that leads out of the text.
        """
        starts, stops = (self.offsets[rows + step].astype(np.int64) for step in (0, 1))
        if (odd := (starts > stops) | (starts < 0) | (stops > len(self.text))).any():
            _bounds(self.offsets, int(rows[np.argmax(odd)]), len(self.text), self.file)
        offsets, places = _following(starts, stops)
        return TextColumn(self.text[places], offsets, self.file)

    def fault(self) -> str | None:
        """Say what is wrong with the arrays, or None: for readers of files that others made."""
        if fault := fault_of(self.offsets, len(self.text)):
            return fault
        begins = self.offsets[self.offsets < len(self.text)]
        if np.any((self.text[begins] & 0xC0) == 0x80):  # a byte that goes on with a character
            return "its offsets part a character"
        try:
            self.text.tobytes().decode()
        except UnicodeDecodeError:
            return "its text is not UTF-8"
        return None


@dataclass(frozen=True, slots=True)
class TextsColumn:
    """n lists of strings: row i is items[starts[i]:starts[i + 1]]."""

    starts: npt.NDArray[np.uint64]
    """uint64[n + 1], not falling, from 0 to the number of items."""
    items: TextColumn

    @classmethod
    def of(cls, lists: Iterable[Sequence[str]]) -> "TextsColumn":
        """Pack lists of strings."""
        lists = list(lists)
        starts = np.zeros(len(lists) + 1, dtype=np.uint64)
        np.cumsum([len(items) for items in lists], out=starts[1:])
        return cls(starts, TextColumn.of(item for items in lists for item in items))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> tuple[str, ...]:
        """Return a row.

        Raises:
            HashgrainError: `index-damaged` for a row that is not there, or whose items are not.
        """
        return tuple(self.items[item] for item in range(*_bounds(self.starts, row, len(self.items), self.items.file)))

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        """Yield every row.

        Raises:
            HashgrainError: `index-damaged`.
        """
        if fault := fault_of(self.starts, len(self.items)):
            raise _damaged(self.items.file, fault)
        items = list(self.items)
        return (tuple(items[start:stop]) for start, stop in pairwise(self.starts.tolist()))

    def take(self, rows: npt.NDArray[np.int64]) -> "TextsColumn":
        """Return some rows, in the order in which they are named, without making strings of them.

        Raises:
            HashgrainError: `index-damaged` for a row whose items are not there.
        """
        starts, stops = (self.starts[rows + step].astype(np.int64) for step in (0, 1))
        if (odd := (starts > stops) | (starts < 0) | (stops > len(self.items))).any():
            _bounds(self.starts, int(rows[np.argmax(odd)]), len(self.items), self.items.file)
        of_rows, places = _following(starts, stops)
        return TextsColumn(of_rows, self.items.take(places))

    def fault(self) -> str | None:
        """Say what is wrong with the arrays, or None: for readers of files that others made."""
        return fault_of(self.starts, len(self.items)) or self.items.fault()


def fault_of(offsets: npt.NDArray[np.uint64], end: int) -> str | None:
    """Say what is wrong with offsets that should not fall from 0 to `end`, or None."""
    if len(offsets) == 0 or offsets[0] != 0 or int(offsets[-1]) != end:
        return f"its offsets do not run from 0 to {end}"
    return "its offsets fall" if np.any(offsets[1:] < offsets[:-1]) else None


def _following(
    starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Return where each part begins when all follow one another, with the end, and the numbers of what is in them."""
    offsets, sizes = np.zeros(len(starts) + 1, np.uint64), stops - starts
    np.cumsum(sizes.astype(np.uint64), out=offsets[1:])
    return offsets, np.arange(int(offsets[-1])) + np.repeat(starts - offsets[:-1].astype(np.int64), sizes)


def _bounds(offsets: npt.NDArray[np.uint64], row: int, end: int, file: str) -> tuple[int, int]:
    """Return where a row begins and ends."""
    if not 0 <= row < len(offsets) - 1:
        raise _damaged(file, f"row {row} is not among its {len(offsets) - 1:,}")
    start, stop = int(offsets[row]), int(offsets[row + 1])
    if not start <= stop <= end:
        raise _damaged(file, f"row {row} leads from {start:,} to {stop:,} of {end:,}")
    return start, stop


def _damaged(file: str, fault: str) -> HashgrainError:
    return HashgrainError(Reason.INDEX_DAMAGED, f"{file} is damaged: {fault}; build the index again")
