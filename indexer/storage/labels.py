"""The labels of a segment: all fields packed in few files, since each file that is mapped costs a handle.

Fields of one kind stand one below the other, each contiguous; docs/FORMAT.md has the layout.
A segment of format version 2 has files of its own for each field.
"""

import tempfile
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from encoder.codes.label_columns import DTYPES, LabelColumn
from encoder.codes.strings import TextColumn, TextsColumn
from encoder.images.labels.values import LabelKind, Labels
from indexer.storage.columns import ColumnWriter, MatrixWriter, map_column, map_text
from indexer.storage.digests import Prove

PRESENT, TEXT_OFFSETS, TEXT = "labels.present.npy", "labels.text.offsets.npy", "labels.text.npy"
STARTS, ITEM_OFFSETS, ITEMS = "labels.texts.starts.npy", "labels.texts.offsets.npy", "labels.texts.npy"
SPOOLED = {TEXT: np.uint8, ITEM_OFFSETS: np.uint64, ITEMS: np.uint8}
"""Files whose fields end where nobody knows before: they are written twice."""


@dataclass(frozen=True, slots=True)
class LabelField:
    """One label over all rows of an index."""

    name: str
    kind: LabelKind


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a field stands."""

    kind: LabelKind
    number: int
    """Among all fields."""
    of_kind: int
    """Among those of its kind."""


def _places(fields: Sequence[LabelField]) -> dict[str, _Place]:
    before = Counter[LabelKind]()
    places = {}
    for number, field in enumerate(fields):
        places[field.name] = _Place(field.kind, number, before[field.kind])
        before[field.kind] += 1
    return places


def packed_files(fields: Sequence[LabelField]) -> list[str]:
    """Return the names of the files that hold the labels of a segment."""
    kinds = {field.kind for field in fields}
    return [
        *([PRESENT] if fields else []),
        *(f"labels.{kind}.npy" for kind in DTYPES if kind in kinds),
        *((TEXT_OFFSETS, TEXT) if LabelKind.TEXT in kinds else ()),
        *((STARTS, ITEM_OFFSETS, ITEMS) if LabelKind.TEXTS in kinds else ()),
    ]


def own_files(fields: Sequence[LabelField]) -> list[str]:
    """Return the names of the files that hold the labels of a segment of format version 2."""
    names = []
    for number, field in enumerate(fields):
        values = (".text.npy", ".offsets.npy") if field.kind is LabelKind.TEXT else (".npy",)
        names += [f"label.{number:03d}{part}" for part in (".present.npy", *values)]
    return names


class LabelStore:
    """The labels of a segment's rows, mapped when they are asked for.

    Args:
        folder: of the segment.
        rows: how many there must be.
        fields: in the order in which they were written.
        prove: see `Prove`.
    """

    def __init__(self, folder: Path, rows: int, fields: Sequence[LabelField], prove: Prove = lambda _: None) -> None:
        self._folder, self._rows, self._places, self._prove = folder, rows, _places(fields), prove
        self._counts = Counter(field.kind for field in fields)
        self._packed = (folder / PRESENT).exists()
        self._columns: dict[str, LabelColumn] = {}
        self._maps: dict[str, npt.NDArray[Any]] = {}

    def column(self, name: str) -> LabelColumn | None:
        """Return a label over the rows; None where no row of the segment has it.

        Raises:
            HashgrainError: `index-damaged`.
        """
        place = self._places.get(name)
        if place is None:
            return None
        if name not in self._columns:
            self._columns[name] = self._in_packed_files(place) if self._packed else self._in_own_files(place)
        return self._columns[name]

    def of_row(self, row: int) -> Labels:
        """Return the labels that a row has."""
        columns = ((name, self.column(name)) for name in self._places)
        return {name: value for name, column in columns if column and (value := column.value(row)) is not None}

    def of_rows(self, rows: npt.NDArray[np.int64]) -> list[Labels]:
        """Return the labels that each of int64[n] rows has; of many rows, in less time than one by one."""
        labels: list[Labels] = [{} for _ in range(len(rows))]
        for name in self._places:
            if (column := self.column(name)) is not None:
                for of_row, value in zip(labels, column.take(rows).to_list(), strict=True):
                    if value is not None:
                        of_row[name] = value
        return labels

    def open_all(self) -> None:
        """Map every file.

        Raises:
            HashgrainError: `index-damaged`.
        """
        for name in self._places:
            self.column(name)

    def _in_packed_files(self, place: _Place) -> LabelColumn:
        kind, at, rows = place.kind, place.of_kind, self._rows
        present = self._map(PRESENT, np.bool_, (len(self._places), rows))[place.number]
        if (dtype := DTYPES.get(kind)) is not None:
            return LabelColumn(kind, self._map(f"labels.{kind}.npy", dtype, (self._counts[kind], rows))[at], present)
        if kind is LabelKind.TEXT:
            offsets = self._map(TEXT_OFFSETS, np.uint64, (self._counts[kind], rows + 1))
            text = self._part(TEXT, np.uint8, self._text_ends, at)
            return LabelColumn(kind, TextColumn(text, offsets[at], str(self._folder / TEXT)), present)
        starts = self._map(STARTS, np.uint64, (self._counts[kind], rows + 1))[at]
        own = self._part(ITEM_OFFSETS, np.uint64, self._offset_ends, at)
        items = TextColumn(self._part(ITEMS, np.uint8, self._item_ends, at), own, str(self._folder / ITEMS))
        return LabelColumn(kind, TextsColumn(starts, items), present)

    @cached_property
    def _text_ends(self) -> list[int]:
        """Where the text of each text field ends in the text of all."""
        offsets = self._map(TEXT_OFFSETS, np.uint64, (self._counts[LabelKind.TEXT], self._rows + 1))
        return list(accumulate(offsets[:, -1].tolist()))

    @cached_property
    def _offset_ends(self) -> list[int]:
        """Where the offsets of each list field's items end in the offsets of all."""
        starts = self._map(STARTS, np.uint64, (self._counts[LabelKind.TEXTS], self._rows + 1))
        return list(accumulate(count + 1 for count in starts[:, -1].tolist()))

    @cached_property
    def _item_ends(self) -> list[int]:
        """Where the text of each list field's items ends in the text of all."""
        offsets = self._map(ITEM_OFFSETS, np.uint64, (self._offset_ends[-1],))
        return list(accumulate(int(offsets[end - 1]) for end in self._offset_ends))

    def _part(self, name: str, dtype: npt.DTypeLike, ends: Sequence[int], at: int) -> npt.NDArray[Any]:
        """Return what belongs to a field of a file in which fields follow one another, which end at `ends`."""
        return self._map(name, dtype, (ends[-1],))[ends[at - 1] if at else 0 : ends[at]]

    def _map(self, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        if name not in self._maps:
            self._prove(name)
            self._maps[name] = map_column(self._folder / name, dtype, shape)
        return self._maps[name]

    def _in_own_files(self, place: _Place) -> LabelColumn:
        """Return a field of a segment of format version 2."""
        name, rows = f"label.{place.number:03d}", self._rows
        for part in ("present", *(("text", "offsets") if place.kind is LabelKind.TEXT else ())):
            self._prove(f"{name}.{part}.npy")
        present = map_column(self._folder / f"{name}.present.npy", np.bool_, (rows,))
        if place.kind is LabelKind.TEXT:
            return LabelColumn(place.kind, map_text(self._folder, name, rows), present)
        self._prove(f"{name}.npy")
        return LabelColumn(place.kind, map_column(self._folder / f"{name}.npy", np.int64, (rows,)), present)


class LabelWriter:
    """Writes the labels of a segment, code file by code file.

    Args:
        folder: of the segment.
        rows: how many there will be.
        fields: all there will be.
    """

    def __init__(self, folder: Path, rows: int, fields: Sequence[LabelField]) -> None:
        self._folder, self._places, self._row = folder, _places(fields), 0
        self._counts = counts = Counter(field.kind for field in fields)
        shapes: dict[str, tuple[int, int]] = {PRESENT: (len(fields), rows)}
        shapes |= {f"labels.{kind}.npy": (counts[kind], rows) for kind in DTYPES}
        shapes |= {TEXT_OFFSETS: (counts[LabelKind.TEXT], rows + 1), STARTS: (counts[LabelKind.TEXTS], rows + 1)}
        dtypes: dict[str, npt.DTypeLike] = {PRESENT: np.bool_, TEXT_OFFSETS: np.uint64, STARTS: np.uint64}
        dtypes |= {f"labels.{kind}.npy": dtype for kind, dtype in DTYPES.items()}
        self._open = ExitStack()
        self._matrices = {
            name: self._open.enter_context(MatrixWriter(folder / name, dtypes[name], shape))
            for name, shape in shapes.items()
            if shape[0]
        }
        self._pieces = {name: self._open.enter_context(_Pieces(folder, dtype)) for name, dtype in SPOOLED.items()}
        for field in range(counts[LabelKind.TEXTS]):
            self._pieces[ITEM_OFFSETS].add(field, np.zeros(1, np.uint64))

    def add(self, column_of: Callable[[str], LabelColumn | None], rows: int) -> None:
        """Append rows.

        Args:
            column_of: returns a field of them, of its kind in the index; None where they have none.
            rows: how many.
        """
        for name, place in self._places.items():
            column = column_of(name)
            if column is None:
                column = LabelColumn.missing(place.kind, rows)
            self._matrices[PRESENT].put(place.number, self._row, column.present)
            match column.values:
                case TextColumn(text, offsets):
                    self._follow(TEXT_OFFSETS, place, offsets, self._pieces[TEXT].length(place.of_kind))
                    self._pieces[TEXT].add(place.of_kind, text)
                case TextsColumn(starts, items):
                    self._follow(STARTS, place, starts, self._pieces[ITEM_OFFSETS].length(place.of_kind) - 1)
                    before = np.uint64(self._pieces[ITEMS].length(place.of_kind))
                    self._pieces[ITEM_OFFSETS].add(place.of_kind, items.offsets[1:] + before)
                    self._pieces[ITEMS].add(place.of_kind, items.text)
                case values:
                    self._matrices[f"labels.{place.kind}.npy"].put(place.of_kind, self._row, values)
        self._row += rows

    def _follow(self, name: str, place: _Place, offsets: npt.NDArray[np.uint64], before: int) -> None:
        """Write the offsets of these rows into what follows what came before."""
        self._matrices[name].put(place.of_kind, self._row + 1, offsets[1:] + np.uint64(before))

    def finish(self) -> None:
        """Write what had to wait."""
        for name, kind in ((TEXT, LabelKind.TEXT), (ITEM_OFFSETS, LabelKind.TEXTS), (ITEMS, LabelKind.TEXTS)):
            if self._counts[kind]:
                self._pieces[name].write(self._folder / name, self._counts[kind])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, err, trace)


class _Pieces:
    """Arrays of several fields that come piece by piece: they wait in an unnamed file until it is known where each field begins."""

    def __init__(self, folder: Path, dtype: npt.DTypeLike) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed by `__exit__`
        self._dtype, self._size = np.dtype(dtype), 0
        self._pieces = defaultdict[int, "array[int]"](lambda: array("q"))
        self._lengths = Counter[int]()

    def add(self, field: int, piece: npt.NDArray[Any]) -> None:
        """Append to a field's array."""
        data = np.ascontiguousarray(piece, self._dtype)
        if len(data):
            self._file.write(data.data)
            self._pieces[field].extend((self._size, data.nbytes))
            self._size += data.nbytes
            self._lengths[field] += len(data)

    def length(self, field: int) -> int:
        """Return how many elements a field has so far."""
        return self._lengths[field]

    def write(self, path: Path, fields: int) -> None:
        """Write the arrays of all fields, one after another."""
        with ColumnWriter(path, self._dtype) as column:
            for field in range(fields):
                pieces = self._pieces[field]
                for start, size in zip(pieces[::2], pieces[1::2], strict=True):
                    self._file.seek(start)
                    column.append(np.frombuffer(self._file.read(size), self._dtype))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
