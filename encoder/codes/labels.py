"""The labels of a code file: collected image by image, written field by field, read back by field.

docs/FORMAT.md has the layout.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from encoder.codes.label_columns import DTYPES, LabelColumn
from encoder.codes.spool import Spool
from encoder.codes.strings import TextColumn, TextsColumn
from encoder.images.labels.values import MAX_FIELDS, BadLabels, LabelKind, Labels, LabelValue, kind_of
from encoder.runtime.interpreter import let_go

MEMORY = 128 << 20
"""Bytes of labels that are brought into columns at a time, about; those of more fields take another pass."""
OF_A_LINE = 64
"""Rows that are written and read by one call."""
OF_A_VALUE = 64
"""Bytes that a value takes in memory beside its text, about."""

Group: TypeAlias = Any
"""h5py.Group; only `encoder/codes/file.py` loads h5py."""
ReadDataset: TypeAlias = Callable[[str, type, tuple[int, ...]], Any]
"""Returns a dataset by name, type and shape after checking that it is what the format says."""
ListGroups: TypeAlias = "Callable[[], list[LabelGroup]]"
"""Returns the group of each label field."""


class LabelGroup(NamedTuple):
    """Where a field stands in the file, and what it is."""

    path: str
    name: str
    kind: str


@dataclass(slots=True)
class _Field:
    """What is known of a field while its values come."""

    kind: LabelKind
    first: str
    """Key of the first image that has it."""
    size: int = 0
    """Bytes of its values in memory, about."""


class LabelSpool:
    """The labels of a shard's rows, in the order in which they come.

    Args:
        folder: where they wait when they are more than memory should hold.
    """

    def __init__(self, folder: Path) -> None:
        self._lines = Spool(folder)
        self._waiting: list[tuple[int, Labels]] = []
        self._fields: dict[str, _Field] = {}

    def add(self, row: int, key: str, labels: Labels) -> list[str]:
        """Give a row labels; later ones win.

        Returns:
            A line for each reason why a label is not kept as it is: a field of several kinds, once for each, and fields beyond
            the first `MAX_FIELDS` of the shard.
        """
        faults, beyond = [], []
        for name, value in labels.items():
            kind, field = kind_of(value), self._fields.get(name)
            if field is None:
                if len(self._fields) == MAX_FIELDS:
                    beyond.append(name)
                    continue
                field = self._fields[name] = _Field(kind, key)
            elif kind is not field.kind and (joined := field.kind.joined(kind)) is not field.kind:
                if field.kind.clashes(kind):
                    faults.append(
                        f"label {name!r} is {kind} here and {field.kind} before, as of {field.first!r}; all are kept as {joined}"
                    )
                field.kind = joined
            field.size += _size(value)
        if beyond:
            labels = {name: value for name, value in labels.items() if name in self._fields}
            faults.append(
                f"left out, fields beyond the first {MAX_FIELDS:,} of the shard: {len(beyond)}, first {beyond[0]!r}"
            )
        if labels:
            self._waiting.append((row, labels))
            if len(self._waiting) == OF_A_LINE:
                self._write()
        return faults

    def columns(self, rows: int) -> Iterator[tuple[str, LabelColumn]]:
        """Yield each field in the order of their names, reading the labels once for as many as memory should hold."""
        self._write()
        for names in self._groups(rows):
            values: dict[str, list[LabelValue | None]] = {name: [None] * rows for name in names}
            for line in self._lines.lines():
                for row, labels in json.loads(line):
                    for name, value in labels.items():
                        if name in values:
                            values[name][row] = tuple(value) if isinstance(value, list) else value
            for name in names:
                yield name, LabelColumn.of(self._fields[name].kind, values[name])
                let_go(values.pop(name))

    def _write(self) -> None:
        self._lines.append(json.dumps(self._waiting).encode() + b"\n")
        self._waiting.clear()

    def _groups(self, rows: int) -> Iterator[list[str]]:
        group, size = list[str](), 0
        for name in sorted(self._fields):
            own = self._fields[name].size + 8 * rows
            if group and size + own > MEMORY:
                yield group
                group, size = [], 0
            group.append(name)
            size += own
        if group:
            yield group

    def close(self) -> None:
        """Let go of the memory or the unnamed file."""
        self._lines.close()


def _size(value: LabelValue) -> int:
    match value:
        case str():
            return OF_A_VALUE + len(value)
        case tuple():
            return OF_A_VALUE + sum(OF_A_VALUE + len(item) for item in value)
        case _:
            return OF_A_VALUE


def write_labels(file: Group, spool: LabelSpool, rows: int) -> None:
    """Write each field as a group of datasets."""
    for number, (name, column) in enumerate(spool.columns(rows)):
        group = file.create_group(f"labels/{number:03d}")
        group.attrs["name"], group.attrs["kind"] = name, str(column.kind)
        match column.values:
            case TextColumn(text, offsets):
                datasets = {"text": text, "offsets": offsets}
            case TextsColumn(starts, items):
                datasets = {"starts": starts, "text": items.text, "offsets": items.offsets}
            case values:
                datasets = {"values": values.view(np.uint8) if values.dtype == np.bool_ else values}
        for part, data in {**datasets, "present": column.present.view(np.uint8)}.items():
            group.create_dataset(part, data=data)


def write_bad_labels(file: Group, bad: BadLabels) -> None:
    """Write the names of the first labels that could not be kept as they are, where there are any."""
    if not bad.first:
        return
    for part in ("name", "why"):
        column = TextColumn.of(getattr(each, part) for each in bad.first)
        file.create_dataset(f"bad_labels/{part}/text", data=column.text)
        file.create_dataset(f"bad_labels/{part}/offsets", data=column.offsets)


class LabelReader:
    """The labels of an open code file.

    Args:
        rows: how many there are.
        dataset: see `ReadDataset`.
        groups: see `ListGroups`.
    """

    def __init__(self, rows: int, dataset: ReadDataset, groups: ListGroups) -> None:
        self._rows, self._dataset, self._list_groups = rows, dataset, groups

    @cached_property
    def _groups(self) -> dict[str, LabelGroup]:
        return {group.name: group for group in self._list_groups()}

    @cached_property
    def kinds(self) -> dict[str, LabelKind]:
        """The kind of each field, in the order of their names.

        Raises:
            ValueError, KeyError: a field is of an unknown kind, or has no name.
        """
        return {name: LabelKind(self._groups[name].kind) for name in sorted(self._groups)}

    def column(self, name: str) -> LabelColumn:
        """Return one label field over the rows; absent everywhere if the shard does not have it.

        Raises:
            ValueError, KeyError: its arrays contradict one another, or see `kinds`.
        """
        rows, kind = self._rows, self.kinds.get(name)
        if kind is None:
            return LabelColumn.missing(LabelKind.INT, rows)
        home = self._groups[name].path
        present = self._dataset(f"{home}/present", np.uint8, (rows,))[:] != 0
        if kind in DTYPES:
            stored = np.uint8 if kind is LabelKind.BOOL else DTYPES[kind].type
            values = self._dataset(f"{home}/values", stored, (rows,))[:].astype(DTYPES[kind], copy=False)
            if kind is LabelKind.FLOAT:
                present &= ~np.isnan(values)
            return LabelColumn(kind, values, present)
        starts = self._dataset(f"{home}/starts", np.uint64, (rows + 1,))[:] if kind is LabelKind.TEXTS else None
        count = rows if starts is None else int(starts[-1])
        offsets = self._dataset(f"{home}/offsets", np.uint64, (count + 1,))[:]
        texts = TextColumn(self._dataset(f"{home}/text", np.uint8, (int(offsets[-1]),))[:], offsets)
        column = texts if starts is None else TextsColumn(starts, texts)
        if fault := column.fault():
            raise ValueError(f"label {name!r}: {fault}")
        return LabelColumn(kind, column, present)
