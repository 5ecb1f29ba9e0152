"""One label over many rows, as code files and indexes hold it. No HDF5: an index is read without it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from encoder.codes.strings import TextColumn, TextsColumn
from encoder.images.labels.values import LabelKind, LabelValue, as_kind, text_of

Values: TypeAlias = "npt.NDArray[np.bool_] | npt.NDArray[np.int64] | npt.NDArray[np.float64] | TextColumn | TextsColumn"
"""By kind of the label; meaningless where a row lacks it."""

DTYPES = {LabelKind.BOOL: np.dtype(np.bool_), LabelKind.INT: np.dtype(np.int64), LabelKind.FLOAT: np.dtype(np.float64)}
"""Of the kinds whose values are all of one size."""


@dataclass(frozen=True, slots=True)
class LabelColumn:
    """One label field over rows."""

    kind: LabelKind
    values: Values
    present: npt.NDArray[np.bool_]
    """bool[rows]: whether the row has the field; where not, its value is False, 0, "" or ()."""

    @classmethod
    def of(cls, kind: LabelKind, values: Sequence[LabelValue | None]) -> "LabelColumn":
        """Pack values, one per row and None for none, of kinds that join to `kind`."""
        present = np.array([value is not None for value in values], np.bool_)
        if (dtype := DTYPES.get(kind)) is not None:
            return cls(kind, np.array([0 if value is None else value for value in values], dtype), present)
        if kind is LabelKind.TEXT:
            return cls(kind, TextColumn.of("" if value is None else text_of(value) for value in values), present)
        lists: Iterable[Any] = (() if value is None else as_kind(value, kind) for value in values)
        return cls(kind, TextsColumn.of(lists), present)

    @classmethod
    def missing(cls, kind: LabelKind, rows: int) -> "LabelColumn":
        """Return a field that no row has."""
        absent = np.zeros(rows, np.bool_)
        if (dtype := DTYPES.get(kind)) is not None:
            return cls(kind, np.zeros(rows, dtype), absent)
        starts = np.zeros(rows + 1, np.uint64)
        nothing = np.empty(0, np.uint8)
        texts = (
            TextColumn(nothing, starts)
            if kind is LabelKind.TEXT
            else TextsColumn(starts, TextColumn(nothing, starts[:1]))
        )
        return cls(kind, texts, absent)

    def __len__(self) -> int:
        return len(self.present)

    def value(self, row: int) -> LabelValue | None:
        """Return the value of a row, None where it has none."""
        if not self.present[row]:
            return None
        value: LabelValue = (
            self.values[row] if isinstance(self.values, TextColumn | TextsColumn) else self.values[row].item()
        )
        return value

    def to_list(self) -> list[LabelValue | None]:
        """Return the value of each row, None where it has none."""
        values = self.values.tolist() if isinstance(self.values, np.ndarray) else self.values
        return [value if there else None for value, there in zip(values, self.present.tolist(), strict=True)]

    def as_kind(self, kind: LabelKind) -> "LabelColumn":
        """Return the column as one of a kind that its own was joined to."""
        if kind is self.kind:
            return self
        if isinstance(self.values, np.ndarray) and kind is LabelKind.FLOAT:
            return LabelColumn(kind, self.values.astype(np.float64), self.present)
        return LabelColumn.of(kind, self.to_list())

    def rows(self, start: int, stop: int) -> "LabelColumn":
        """Return the rows from `start` on and before `stop`; nothing is copied where nothing has to be."""
        present = self.present[start:stop]
        if isinstance(self.values, np.ndarray):
            return LabelColumn(self.kind, self.values[start:stop], present)
        return self.take(np.arange(start, stop))

    def take(self, rows: npt.NDArray[np.int64]) -> "LabelColumn":
        """Return some rows, in the order in which they are named."""
        values = self.values[rows] if isinstance(self.values, np.ndarray) else self.values.take(rows)
        return LabelColumn(self.kind, values, self.present[rows])

    def only(self, keep: npt.NDArray[np.bool_]) -> "LabelColumn":
        """Return the rows of which bool[rows] is true."""
        if keep.all():
            return self
        return self.take(np.flatnonzero(keep))
