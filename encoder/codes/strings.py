"""Columns of strings as two flat arrays, so that numpy can map millions of them without a copy."""

from collections.abc import Iterable, Iterator
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
        if len(self.offsets) == 0 or self.offsets[0] != 0 or int(self.offsets[-1]) != len(self.text):
            return f"its offsets do not run from 0 to {len(self.text)}"
        if np.any(self.offsets[1:] < self.offsets[:-1]):
            return "its offsets fall"
        try:
            self.text.tobytes().decode()
        except UnicodeDecodeError:
            return "its text is no UTF-8"
        return None
