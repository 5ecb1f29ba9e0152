"""Columns of strings, and of lists of strings, as flat arrays, so that numpy can map millions of them without a copy."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class TextColumn:
    """n strings: row i is text[offsets[i]:offsets[i + 1]] in UTF-8."""

    text: npt.NDArray[np.uint8]
    """uint8[total bytes]."""
    offsets: npt.NDArray[np.uint64]
    """uint64[n + 1], not falling, from 0 to total bytes."""

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
        return self.text[int(self.offsets[row]) : int(self.offsets[row + 1])].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        raw = self.text.tobytes()
        ends = self.offsets.tolist()
        return (raw[start:stop].decode() for start, stop in pairwise(ends))

    def fault(self) -> str | None:
        """Say what is wrong with the arrays, or None: for readers of files that others made."""
        if fault := fault_of(self.offsets, len(self.text)):
            return fault
        try:
            self.text.tobytes().decode()
        except UnicodeDecodeError:
            return "its text is no UTF-8"
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
        return tuple(self.items[item] for item in range(int(self.starts[row]), int(self.starts[row + 1])))

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        items = list(self.items)
        return (tuple(items[start:stop]) for start, stop in pairwise(self.starts.tolist()))

    def fault(self) -> str | None:
        """Say what is wrong with the arrays, or None: for readers of files that others made."""
        return fault_of(self.starts, len(self.items)) or self.items.fault()


def fault_of(offsets: npt.NDArray[np.uint64], end: int) -> str | None:
    """Say what is wrong with offsets that should not fall from 0 to `end`, or None."""
    if len(offsets) == 0 or offsets[0] != 0 or int(offsets[-1]) != end:
        return f"its offsets do not run from 0 to {end}"
    return "its offsets fall" if np.any(offsets[1:] < offsets[:-1]) else None
