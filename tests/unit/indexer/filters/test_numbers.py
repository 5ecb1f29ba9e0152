import math
import operator

from hypothesis import example, given
from hypothesis import strategies as st

from encoder.images.labels.values import LabelKind, LabelValue, kind_of
from indexer.filters.numbers import comparable

ORDERS = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
INTS = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3) | st.integers(2**53 - 3, 2**53 + 3)
FLOATS = st.floats(allow_nan=False) | INTS.map(float) | st.integers(-6, 6).map(lambda half: half / 2)


def true_of(mine, order, value, kind):
    exact = comparable(order, value, kind)
    if isinstance(exact, bool):
        return exact
    [of, bound] = exact
    assert isinstance(bound, int | float)
    assert type(bound) is type(mine)
    assert type(mine) is float or -(2**63) <= bound < 2**63
    return ORDERS[of](mine, bound)


@given(INTS, st.sampled_from(sorted(ORDERS)), FLOATS.filter(math.isfinite))
@example(2**63 - 1, "<", float(2**63))
@example(-(2**63), ">=", -float(2**64))
def test_whole_numbers_compare_with_any_number_as_python_says(mine, order, value):
    assert true_of(mine, order, value, LabelKind.INT) == ORDERS[order](mine, value)


@given(FLOATS, st.sampled_from(sorted(ORDERS)), INTS)
@example(float(2**53), "<", 2**53 + 1)
@example(float(2**53 + 2), ">", 2**53 + 1)
@example(math.inf, ">", 2**63 - 1)
def test_numbers_compare_with_whole_numbers_as_python_says(mine, order, value):
    assert true_of(mine, order, value, LabelKind.FLOAT) == ORDERS[order](mine, value)


def test_what_is_of_the_columns_kind_is_compared_as_it_is():
    values: list[LabelValue] = [3, 3.5, "a", True]
    for value in values:
        assert comparable("=", value, kind_of(value)) == ("=", value)
