"""Settings take names in the place of members of enums: `SearchSettings(engine="scan")` is what it looks like, or an error."""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from encoder.errors import HashgrainError, Reason, shown

Name = TypeVar("Name", bound=StrEnum)
Taken = Callable[[Any, str], Any]
"""A value and what it is called to the value with members of enums in the place of their names."""


def named(kind: type[Name], value: Any, what: str) -> Name:
    """Return the member of a set of names that is called `value`.

    Raises:
        HashgrainError: `bad-value` for a name that is not one of them.
    """
    try:
        return kind(value)
    except ValueError:
        raise HashgrainError(Reason.BAD_VALUE, f"{what}: {_given(value)}; expected one of {', '.join(kind)}") from None


def take_names(settings: Any) -> None:
    """Replace names by members in every field of a frozen dataclass that is annotated with enums, in tuples and mappings, too.

    Raises:
        HashgrainError: `bad-value`.
    """
    for field, taken in _takers(settings.__class__).items():
        object.__setattr__(settings, field, taken(getattr(settings, field), field))


@cache
def _takers(kind: Any) -> dict[str, Taken]:
    takers = {field: _taker(hint) for field, hint in get_type_hints(kind).items()}
    return {field: taken for field, taken in takers.items() if taken is not None}


def _taker(hint: Any) -> Taken | None:
    """Return what takes values of a type; None where there are no enums in it."""
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return lambda value, what: named(hint, value, what)
    origin, parts = get_origin(hint), [_taker(each) for each in get_args(hint)]
    if origin in {Union, UnionType} and (inner := next(filter(None, parts), None)):
        return lambda value, what: None if value is None else inner(value, what)
    if origin is tuple and (each := parts[0]):
        return lambda value, what: tuple(each(one, what) for one in _several(value, what))
    if origin is Mapping and any(parts):
        key, item = (part or _as_it_is for part in parts)
        return lambda value, what: {key(name, what): item(of, what) for name, of in _pairs(value, what)}
    return None


def _several(values: Any, what: str) -> Any:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise HashgrainError(
            Reason.BAD_VALUE, f"{what}: {_given(values)}; expected several names, ({shown(values)},) for one"
        )
    return values


def _given(value: Any) -> str:
    return value if isinstance(value, str) else shown(value)


def _pairs(values: Any, what: str) -> Any:
    if not isinstance(values, Mapping):
        raise HashgrainError(Reason.BAD_VALUE, f"{what}: {shown(values)}; expected values by name, as a dict has them")
    return values.items()


def _as_it_is(value: Any, _: str) -> Any:
    return value
