"""Labels of a table by row of what is imported: the columns of a table of labels as an index holds them."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from encoder.codes.label_columns import LabelColumn
from encoder.images.labels.table import Column, LabelTable, plain
from encoder.images.labels.values import MAX_CHARS, LabelValue, flatten, kind_of
from indexer.matches import Rows


def label_rows(table: LabelTable, rows: Rows) -> tuple[dict[str, LabelColumn], list[str]]:
    """Return labels by name.

    Args:
        table: of labels.
        rows: int64[n], the row of the table that each row has its labels of; -1: none.

    Returns:
        The columns, of n rows each, and a line for each thing that a person should know.
    """
    columns, faults, first = dict[str, LabelColumn](), Counter[str](), dict[str, str]()

    def fault(why: str, name: str) -> None:
        faults[why] += 1
        first.setdefault(why, name)

    def value_of(name: str, value: object) -> LabelValue | None:
        match value:
            case None | bool():
                return value
            case int() if -(2**63) <= value < 2**63:
                return value
            case float():
                return None if math.isnan(value) else value
            case str() if len(value) <= MAX_CHARS:
                return value
        try:
            labels, faults_here = flatten({name: plain(value)})
        except (ValueError, OverflowError) as err:  # a year 10000
            labels, faults_here = {}, [f"left out, what cannot be read ({err})"]
        for each in faults_here:
            fault(each.rpartition(": ")[0] or each, name)
        return labels.get(name)

    for name, column in table.columns.items():
        if not flatten({name: True})[0]:
            fault("left out, a control character in the name, or too long a one", name)
            continue
        values = [value_of(name, value) for value in _values(column)]
        kinds = {kind_of(value) for value in values if value is not None}
        if not kinds:
            continue
        kind = kinds.pop()
        for other in kinds:
            kind = kind.joined(other)
        columns[name] = LabelColumn.of(kind, [values[row] if row >= 0 else None for row in rows.tolist()])
    notices = [f"{table.path.name}: {why}: {count:,}, first {first[why]!r}" for why, count in faults.items()]
    return columns, notices


def rows_of_keys(table: LabelTable, keys: Iterable[str]) -> Rows:
    """Return int64[n], the first row of a table that has each key; -1 where none has."""
    first: dict[str, int] = {}
    for row, key in enumerate(table.keys.to_pylist()):
        first.setdefault(key or "", row)
    return np.array([first.get(key, -1) for key in keys], np.int64)


def _values(column: Column) -> list[object]:
    try:
        values: list[object] = column.to_pylist()
    except (ValueError, OverflowError):
        values = [_value(each) for each in column]
    return values


def _value(scalar: Any) -> object:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):  # text that is not UTF-8
        return None
