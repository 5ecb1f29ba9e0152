"""Labels of an image: which values there are, of which kinds, and how kinds are joined.

Code files, indexes and filters hold one kind per field. A field whose values are of several kinds takes the one that can hold them
all: whole numbers and other numbers are numbers, and every other mixture is text (or lists of text, where one of them is a list).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

LabelValue: TypeAlias = bool | int | float | str | tuple[str, ...]
"""Whole numbers are those of int64, other numbers are not NaN, texts are Unicode of at most `MAX_CHARS` characters."""
Labels: TypeAlias = dict[str, LabelValue]
"""By field; a field without a value is not there."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

MAX_FIELDS = 1024
"""Of one image, and of one shard."""
MAX_CHARS = 1024
"""Of a text, an item of a list, and a field's name."""
MAX_ITEMS = 1024
"""Of a list."""
MAX_DEPTH = 16
"""Objects in one another."""
MAX_NAMED = 100
"""Bad labels of a shard that are named; the others are only counted."""


class LabelKind(StrEnum):
    """What a field holds."""

    BOOL = "bool"
    """True or false."""
    INT = "int"
    """Whole numbers of int64."""
    FLOAT = "float"
    """Numbers, float64; infinite ones too."""
    TEXT = "text"
    TEXTS = "texts"
    """Lists of texts."""

    @property
    def is_number(self) -> bool:
        """Whether values are ordered as numbers."""
        return self in {LabelKind.INT, LabelKind.FLOAT}

    def joined(self, other: "LabelKind") -> "LabelKind":
        """Return the kind that holds the values of both; the order in which kinds are joined does not matter."""
        if self is other:
            return self
        if self.is_number and other.is_number:
            return LabelKind.FLOAT
        return LabelKind.TEXTS if LabelKind.TEXTS in {self, other} else LabelKind.TEXT

    def clashes(self, other: "LabelKind") -> bool:
        """Whether values of the two kinds are not comparable as they are, so that a person should know of their join."""
        return self is not other and not (self.is_number and other.is_number)


def kind_of(value: LabelValue) -> LabelKind:
    """Return the narrowest kind that holds a value."""
    match value:
        case bool():
            return LabelKind.BOOL
        case int():
            return LabelKind.INT
        case float():
            return LabelKind.FLOAT
        case str():
            return LabelKind.TEXT
        case _:
            return LabelKind.TEXTS


def as_kind(value: LabelValue, kind: LabelKind) -> LabelValue:
    """Return a value as one of a kind that its own was joined to."""
    if kind is LabelKind.FLOAT and not isinstance(value, str | tuple):
        return float(value)
    if kind is LabelKind.TEXT:
        return text_of(value)
    if kind is LabelKind.TEXTS:
        return value if isinstance(value, tuple) else (text_of(value),)
    return value


def text_of(value: LabelValue) -> str:
    """Return a value as text: numbers as JSON has them, 3.0 as `3`, so that it makes no difference whether it was an integer."""
    match value:
        case bool():
            return "true" if value else "false"
        case float() if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        case float() if value.is_integer() and abs(value) < 2**53:
            return str(int(value))
        case tuple():
            return ", ".join(value)
        case _:
            return str(value)


def as_json(labels: Labels) -> dict[str, bool | int | float | str | list[str]]:
    """Return labels as JSON can say them: it has no infinite numbers, which become text."""
    return {
        name: list(value) if isinstance(value, tuple) else text_of(value) if value in {math.inf, -math.inf} else value
        for name, value in labels.items()
    }


@dataclass(frozen=True, slots=True)
class BadLabel:
    """Labels that could not be kept as they are."""

    name: str
    """Of the file that has them, or the key of the image."""
    why: str


@dataclass(slots=True)
class BadLabels:
    """Labels of a shard that could not be kept as they are: all counted, the first ones named."""

    count: int = 0
    first: list[BadLabel] = field(default_factory=list)
    """At most `MAX_NAMED`."""

    def add(self, name: str, why: str) -> None:
        """Count one."""
        self.count += 1
        if len(self.first) < MAX_NAMED:
            self.first.append(BadLabel(storable(name), storable(why)))

    def extend(self, others: "BadLabels") -> None:
        """Count those of another part."""
        self.count += others.count
        self.first += others.first[: MAX_NAMED - len(self.first)]


def flatten(fields: Mapping[str, object]) -> tuple[Labels, list[str]]:
    """Make labels of an object as JSON has it.

    Args:
        fields: values by name. A field of an object in it is called `outer.inner`; a list of plain values becomes a list of texts;
            null and NaN are left out; integers outside int64 become text.

    Returns:
        The labels, and one line for each reason why something was left out or cut, with how many fields and the first one.
    """
    flat = _Flat()
    flat.add_all("", fields, 1)
    return flat.labels, [f"{what}: {count:,}, first {first!r}" for what, (count, first) in flat.faults.items()]


def storable(text: str) -> str:
    """Return a text with what is not Unicode in it (lone surrogates, which JSON and file names allow) as `?`."""
    return text if text.isascii() else text.encode(errors="replace").decode()


class _Flat:
    """Labels on their way out of an object, and what does not come along: how many fields, and the first one."""

    def __init__(self) -> None:
        self.labels: Labels = {}
        self.faults: dict[str, tuple[int, str]] = {}

    def add_all(self, prefix: str, fields: Mapping[str, object], depth: int) -> None:
        for name, value in fields.items():
            self._add(prefix + name, value, depth)

    def _add(self, name: str, value: object, depth: int) -> None:
        if isinstance(value, dict):
            if depth == MAX_DEPTH:
                self._fault(f"left out, objects nested deeper than {MAX_DEPTH}", name)
            else:
                self.add_all(f"{name}.", value, depth + 1)
            return
        if (label := self._value(name, value)) is None:
            return
        if fault := _fault_of_name(name):
            self._fault(f"left out, {fault}", name)
        elif (name := storable(name)) in self.labels:
            self._fault("left out, an earlier field has the name", name)
        elif len(self.labels) == MAX_FIELDS:
            self._fault(f"left out, fields beyond the first {MAX_FIELDS:,}", name)
        else:
            self.labels[name] = label

    def _value(self, name: str, value: object) -> LabelValue | None:
        match value:
            case list() | tuple():
                return self._texts(name, value)
            case str():
                return self._text(name, value)
            case bool():
                return value
            case int():
                return value if -(2**63) <= value < 2**63 else self._text(name, str(value))
            case float():
                return None if math.isnan(value) else value
            case None:
                return None
            case _:
                self._fault(f"left out, values of type {type(value).__name__}", name)
                return None

    def _texts(self, name: str, items: "list[object] | tuple[object, ...]") -> tuple[str, ...] | None:
        if any(isinstance(item, (list, tuple, dict)) for item in items):
            self._fault("left out, lists of lists or objects", name)
            return None
        if len(items) > MAX_ITEMS:
            self._fault(f"cut, lists of more than {MAX_ITEMS:,} items", name)
        values = (self._value(name, item) for item in items[:MAX_ITEMS])
        return tuple(text_of(value) for value in values if value is not None)

    def _text(self, name: str, text: str) -> str:
        if len(text) > MAX_CHARS:
            self._fault(f"cut, texts of more than {MAX_CHARS:,} characters", name)
        return storable(text[:MAX_CHARS])

    def _fault(self, what: str, name: str) -> None:
        count, first = self.faults.get(what, (0, name[:80]))
        self.faults[what] = count + 1, first


def _fault_of_name(name: str) -> str | None:
    """Say why a field cannot have a name: HDF5 ends it at a NUL, and a line of a terminal at others."""
    if _CONTROL.search(name):
        return "a control character in the name"
    return f"a name of more than {MAX_CHARS:,} characters" if len(name) > MAX_CHARS else None
