"""Whole numbers beside other numbers, compared exactly: int64 and float64 hold different ones, and casting would round them."""

import math

from encoder.images.labels.values import LabelKind, LabelValue

LOWEST, HIGHEST = -(2**63), 2**63 - 1


def comparable(order: str, value: LabelValue, kind: LabelKind) -> tuple[str, LabelValue] | bool:
    """Return a comparison with a value of a column's own kind that is true of the same numbers.

    Args:
        order: = != < <= > >=
        value: of any number kind where the column is of numbers, else of its kind.
        kind: of the column.

    Returns:
        The order and the value; or the answer, where it is one for every number of the column.
    """
    if kind is LabelKind.INT and isinstance(value, float):
        return _with_whole(order, value)
    if kind is LabelKind.FLOAT and isinstance(value, int):
        return _with_nearest(order, value)
    return order, value


def _with_whole(order: str, value: float) -> tuple[str, LabelValue] | bool:
    """Compare whole numbers with any number: n < 3.5 is n < 4, n > 3.5 is n > 3."""
    if order in {"=", "!="} and not value.is_integer():
        return order == "!="
    whole = math.ceil(value) if order in {"<", ">="} else math.floor(value)
    if LOWEST <= whole <= HIGHEST:
        return order, whole
    return {"=": False, "!=": True}.get(order, (order[0] == "<") == (whole > 0))


def _with_nearest(order: str, value: int) -> tuple[str, LabelValue] | bool:
    """Compare numbers with a whole one that may lie between two of float64; the nearest of these stands in for it."""
    nearest = float(value)
    if int(nearest) == value:
        return order, nearest
    if order in {"=", "!="}:
        return order == "!="
    # All that is below the value is at most `nearest` where that is below it, and else below `nearest`; so for above.
    included = (int(nearest) < value) == (order[0] == "<")
    return f"{order[0]}=" if included else order[0], nearest
