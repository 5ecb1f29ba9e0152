"""Which rows pass a filter: Arrow's functions over the mapped columns, a block of rows at a time.

Importing this loads pyarrow, which no other query needs: import it where a filter is asked for.
"""

from collections.abc import Iterable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from encoder.bits import Bits, pack
from encoder.codes.label_columns import LabelColumn
from encoder.codes.strings import TextColumn, TextsColumn
from encoder.errors import HashgrainError, Reason
from encoder.images.labels.values import LabelKind, LabelValue
from indexer.filters.expression import (
    AllOf,
    AnyOf,
    Compare,
    Condition,
    Field,
    Has,
    Like,
    Not,
    OneOf,
    Source,
    Test,
)
from indexer.filters.globs import to_re2
from indexer.filters.numbers import comparable
from indexer.storage.manifest import ShardSpan
from indexer.storage.row_table import RowTable

BLOCK = 1 << 20
"""Rows at once: whatever a test makes of a block is small beside the columns, which stay mapped."""

Column: TypeAlias = Any
"""pyarrow.Array; pyarrow has no types of its own."""

_ORDERS = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_KINDS = {pa.bool_(): LabelKind.BOOL, pa.int64(): LabelKind.INT, pa.float64(): LabelKind.FLOAT}


def passing(condition: Condition, table: RowTable, shards: Sequence[ShardSpan]) -> Bits:
    """Find the rows of a segment that a condition is true of.

    Args:
        condition: parsed with the label fields of the whole index.
        table: keys and labels of the segment.
        shards: where its rows came from, in row order.

    Returns:
        bool[table.rows]; rows of which it is false or unknown (a label is missing) are False.

    Raises:
        HashgrainError: `index-damaged` when a column of text is not text.
    """
    passes = np.empty(table.rows, dtype=np.bool_)
    for start in range(0, table.rows, BLOCK):
        block = _Block(table, shards, start, min(start + BLOCK, table.rows))
        passes[start : block.stop] = _bits(pc.fill_null(block.truth(condition), False))
    return passes


class _Block:
    """Rows start:stop of a segment."""

    def __init__(self, table: RowTable, shards: Sequence[ShardSpan], start: int, stop: int) -> None:
        self._table, self._shards, self.start, self.stop = table, shards, start, stop
        self._values: dict[Field, Column | _Lists] = {}

    def truth(self, condition: Condition) -> Column:
        """Return Arrow bool[stop - start], null where the condition is unknown (Kleene's logic)."""
        match condition:
            case AllOf(parts):
                return reduce(pc.and_kleene, map(self.truth, parts))
            case AnyOf(parts):
                return reduce(pc.or_kleene, map(self.truth, parts))
            case Not(part):
                return pc.invert(self.truth(part))
            case _ if condition.field.source is Source.SHARD:
                return self._of_shards(condition)
            case _:
                if condition.field not in self._values:
                    self._values[condition.field] = self._read(condition.field)
                return _test(condition, self._values[condition.field])

    def _of_shards(self, test: Test) -> Column:
        """Test each shard once, and give every row its shard's answer; a pattern may match the path or the file name alone."""
        paths = [shard.path for shard in self._shards]
        truth = _test(test, _strings_of(paths))
        if isinstance(test, Like):
            truth = pc.or_(truth, _test(test, _strings_of(Path(path).name for path in paths)))
        firsts = [*(shard.first_row for shard in self._shards), self._table.rows]
        return pa.array(np.repeat(_bits(truth), np.diff(np.clip(firsts, self.start, self.stop))))

    def _read(self, field: Field) -> "Column | _Lists":
        """Return a column's values of these rows: of the kind that the field is of in the whole index, but numbers as they are."""
        if field.source is Source.KEY:
            return _text(self._table.keys, self.start, self.stop, None, "keys")
        column = self._table.label_column(field.name)
        if column is None:
            column = LabelColumn.missing(field.kind, self._table.rows)
        start, stop = self.start, self.stop
        if column.kind.clashes(field.kind):
            column, start, stop = column.rows(start, stop).as_kind(field.kind), 0, stop - start
        present, what = column.present[start:stop], f"label {field.name!r}"
        valid = pa.py_buffer(pack(present))
        match column.values:
            case TextColumn() as texts:
                return _text(texts, start, stop, valid, what)
            case TextsColumn() as lists:
                return _lists(lists, start, stop, present, what)
            case values if column.kind is LabelKind.BOOL:
                return pa.Array.from_buffers(
                    pa.bool_(), stop - start, [valid, pa.py_buffer(pack(np.asarray(values[start:stop], np.bool_)))]
                )
            case values:
                kind = pa.from_numpy_dtype(values.dtype)
                numbers = pa.Array.from_buffers(kind, stop - start, [valid, pa.py_buffer(values[start:stop])])
                return _one_zero(numbers)


class _Lists(NamedTuple):
    """Rows of lists."""

    items: Column
    """Strings, those of one row after those of another."""
    starts: npt.NDArray[np.int64]
    """int64[rows + 1]: where each row's begin."""
    present: Bits
    """bool[rows]."""


def _test(test: Test, values: "Column | _Lists") -> Column:
    if isinstance(values, _Lists):
        return _test_lists(test, values)
    match test:
        case Compare(_, order, value):
            return _compare(order, values, value)
        case OneOf(_, options):
            exact = [comparable("=", option, _kind(values)) for option in options]
            same = pa.array([one[1] for one in exact if not isinstance(one, bool)], values.type)
            found = pc.is_in(values, value_set=_one_zero(same))
            return pc.if_else(pc.is_valid(values), found, None)  # is_in says false of null
        case Like(_, pattern):
            return pc.match_substring_regex(values, to_re2(pattern))
        case _:
            return pc.is_null(values)


def _test_lists(test: Test, lists: _Lists) -> Column:
    match test:
        case Has(_, item):
            hits = pc.equal(lists.items, pa.scalar(item, lists.items.type))
        case Like(_, pattern):
            hits = pc.match_substring_regex(lists.items, to_re2(pattern))
        case _:
            return pa.array(~lists.present)
    some = np.zeros(len(lists.present), np.bool_)
    some[np.searchsorted(lists.starts, np.flatnonzero(_bits(hits)), side="right") - 1] = True
    return pa.array(some, mask=~lists.present)


def _compare(order: str, values: Column, value: LabelValue) -> Column:
    """Compare a column with a value; where no number of the column's type can tell, the answer is one for all."""
    exact = comparable(order, value, _kind(values))
    if isinstance(exact, bool):
        return pc.if_else(pc.is_valid(values), exact, None)
    return _ORDERS[exact[0]](values, pa.scalar(exact[1], values.type))


def _one_zero(values: Column) -> Column:
    """Return values with 0.0 in the place of -0.0, which equals it, but not to `is_in`."""
    return pc.add(values, 0.0) if values.type == pa.float64() else values


def _kind(values: Column) -> LabelKind:
    return _KINDS.get(values.type, LabelKind.TEXT)


def _text(column: TextColumn, start: int, stop: int, valid: Column | None, what: str) -> Column:
    """Return rows start:stop as Arrow strings that share the mapped bytes."""
    offsets = pa.py_buffer(column.offsets[start : stop + 1])
    try:
        strings = pa.Array.from_buffers(pa.large_string(), stop - start, [valid, offsets, pa.py_buffer(column.text)])
        strings.validate(full=True)  # Arrow believes offsets: ones that lie would have it read anywhere
    except pa.ArrowInvalid as err:
        raise _damaged(what, start, stop, f"text ({err})") from err
    return strings


def _lists(column: TextsColumn, start: int, stop: int, present: Bits, what: str) -> _Lists:
    starts = column.starts[start : stop + 1].astype(np.int64)
    if starts[0] < 0 or starts[-1] > len(column.items) or np.any(starts[1:] < starts[:-1]):
        raise _damaged(what, start, stop, f"lists of the {len(column.items)} items")
    items = _text(column.items, int(starts[0]), int(starts[-1]), None, f"items of {what}")
    return _Lists(items, starts - starts[0], present)


def _damaged(what: str, start: int, stop: int, expected: str) -> HashgrainError:
    return HashgrainError(
        Reason.INDEX_DAMAGED, f"column of {what}, rows {start} to {stop}, is not {expected}; build the index again"
    )


def _strings_of(strings: Iterable[str]) -> Column:
    """Return strings as a column; what is not Unicode in them becomes `?`, as in the filter."""
    return pa.array([string.encode(errors="replace") for string in strings], pa.large_binary()).cast(pa.large_string())


def _bits(truth: Column) -> Bits:
    bits: Bits = truth.to_numpy(zero_copy_only=False)
    return bits
