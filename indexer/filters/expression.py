"""What a row has to be to pass a filter, as a tree of plain data: `parser.py` reads it, `evaluate.py` finds its rows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from encoder.images.labels import LabelValue
from indexer.storage.manifest import SegmentRecord

LabelFields: TypeAlias = Mapping[str, bool]
"""Name of each label of an index, and whether it holds text (else int64)."""


class Source(StrEnum):
    """Where a row's value comes from."""

    KEY = "key"
    SHARD = "shard"
    LABEL = "label"


@dataclass(frozen=True, slots=True)
class Field:
    """What a test looks at."""

    source: Source
    is_text: bool = True
    name: str = ""
    """Of a label."""


@dataclass(frozen=True, slots=True)
class Compare:
    """The field stands in this order to a value of its type."""

    field: Field
    order: str
    """= != < <= > >="""
    value: LabelValue


@dataclass(frozen=True, slots=True)
class OneOf:
    """The field is one of these values."""

    field: Field
    values: tuple[LabelValue, ...]


@dataclass(frozen=True, slots=True)
class Like:
    """The field's text matches a pattern."""

    field: Field
    pattern: str


@dataclass(frozen=True, slots=True)
class Missing:
    """The row lacks the field: the one test that is never unknown."""

    field: Field


@dataclass(frozen=True, slots=True)
class Not:
    """The part is false; unknown where it is unknown."""

    part: "Condition"


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part is true."""

    parts: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Some part is true."""

    parts: "tuple[Condition, ...]"


Test: TypeAlias = Compare | OneOf | Like | Missing
Condition: TypeAlias = Test | Not | AllOf | AnyOf


def label_fields(segments: Iterable[SegmentRecord]) -> dict[str, bool]:
    """Bring the labels of an index's segments together: one that holds text in some segment is text, as in a build."""
    is_text: dict[str, bool] = {}
    for segment in segments:
        for field in segment.labels:
            is_text[field.name] = is_text.get(field.name, False) or field.is_text
    return is_text
