import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from encoder.codes.label_columns import LabelColumn
from encoder.images.labels.values import LabelKind, as_kind

VALUES = {
    LabelKind.BOOL: st.booleans(),
    LabelKind.INT: st.integers(-(2**53), 2**53),
    LabelKind.FLOAT: st.floats(allow_nan=False),
    LabelKind.TEXT: st.text(max_size=3),
    LabelKind.TEXTS: st.lists(st.text(max_size=2), max_size=3).map(tuple),
}


@given(data=st.data(), kind=st.sampled_from(LabelKind), other=st.sampled_from(LabelKind))
def test_a_column_is_its_values_whatever_is_taken_of_it(data, kind, other):
    values = data.draw(st.lists(st.none() | VALUES[kind], max_size=6))
    column, joined = LabelColumn.of(kind, values), kind.joined(other)
    assert len(column) == len(values)
    assert column.to_list() == [column.value(row) for row in range(len(values))] == values
    assert column.as_kind(joined).kind is joined
    assert column.as_kind(joined).to_list() == [None if value is None else as_kind(value, joined) for value in values]
    start, stop = sorted(data.draw(st.tuples(st.integers(0, len(values)), st.integers(0, len(values)))))
    assert column.rows(start, stop).to_list() == values[start:stop]
    keep = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    assert column.only(np.array(keep, np.bool_)).to_list() == [
        value for value, kept in zip(values, keep, strict=True) if kept
    ]


@given(kind=st.sampled_from(LabelKind), rows=st.integers(0, 3))
def test_a_field_that_no_row_has_is_a_column_too(kind, rows):
    column = LabelColumn.missing(kind, rows)
    assert (column.kind, column.to_list()) == (kind, [None] * rows)
    assert column.rows(0, rows).as_kind(kind.joined(LabelKind.TEXTS)).to_list() == [None] * rows
