"""Which rows pass a filter: Arrow's functions over the mapped columns, a block of rows at a time. The only owner of pyarrow.

Importing this loads pyarrow, which no other query needs: import it where a filter is asked for.
"""

from collections.abc import Iterable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from encoder.bits import Bits, pack
from encoder.codes.strings import TextColumn
from encoder.errors import HashgrainError, Reason
from indexer.filters.expression import AllOf, AnyOf, Compare, Condition, Field, Like, Missing, Not, OneOf, Source, Test
from indexer.filters.globs import to_re2
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
        self._values: dict[Field, Column] = {}

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

    def _read(self, field: Field) -> Column:
        """Return a column's values of these rows, as text where the field is text anywhere in the index."""
        rows, kind = self.stop - self.start, pa.large_string() if field.is_text else pa.int64()
        if field.source is Source.KEY:
            return _text(self._table.keys, self.start, self.stop, None, "keys")
        if (column := self._table.label_column(field.name)) is None:
            return pa.nulls(rows, kind)
        values, present = column
        valid = pa.py_buffer(pack(present[self.start : self.stop]))
        if isinstance(values, TextColumn):
            return _text(values, self.start, self.stop, valid, f"label {field.name!r}")
        numbers = pa.Array.from_buffers(pa.int64(), rows, [valid, pa.py_buffer(values[self.start : self.stop])])
        return pc.cast(numbers, kind)


def _test(test: Test, values: Column) -> Column:
    match test:
        case Compare(_, order, value):
            return _ORDERS[order](values, pa.scalar(value, values.type))
        case OneOf(_, options):
            found = pc.is_in(values, value_set=pa.array(options, values.type))
            return pc.if_else(pc.is_valid(values), found, None)  # is_in says false of null
        case Like(_, pattern):
            return pc.match_substring_regex(values, to_re2(pattern))
        case Missing():
            return pc.is_null(values)


def _text(column: TextColumn, start: int, stop: int, valid: Column | None, what: str) -> Column:
    """Return rows start:stop as Arrow strings that share the mapped bytes."""
    offsets = pa.py_buffer(column.offsets[start : stop + 1])
    try:
        strings = pa.Array.from_buffers(pa.large_string(), stop - start, [valid, offsets, pa.py_buffer(column.text)])
        strings.validate(full=True)  # Arrow believes offsets: ones that lie would have it read anywhere
    except pa.ArrowInvalid as err:
        raise HashgrainError(
            Reason.INDEX_DAMAGED,
            f"column of {what}, rows {start} to {stop}, is not text ({err}); build the index again",
        ) from err
    return strings


def _strings_of(strings: Iterable[str]) -> Column:
    """Return strings as a column; what is not Unicode in them becomes `?`, as in the filter."""
    return pa.array([string.encode(errors="replace") for string in strings], pa.large_binary()).cast(pa.large_string())


def _bits(truth: Column) -> Bits:
    bits: Bits = truth.to_numpy(zero_copy_only=False)
    return bits
