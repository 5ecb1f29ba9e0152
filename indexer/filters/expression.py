"""What a row has to be to pass a filter, as a tree of plain data: `parser.py` reads it, `evaluate.py` finds its rows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from encoder.images.labels.values import LabelKind, LabelValue
from indexer.storage.manifest import SegmentRecord

LabelFields: TypeAlias = Mapping[str, LabelKind]
"""Name of each label of an index, and its kind."""


class Source(StrEnum):
    """Where a row's value comes from."""

    KEY = "key"
    SHARD = "shard"
    LABEL = "label"


@dataclass(frozen=True, slots=True)
class Field:
    """What a test looks at."""

    source: Source
    kind: LabelKind = LabelKind.TEXT
    name: str = ""
    """Of a label."""


@dataclass(frozen=True, slots=True)
class Compare:
    """The field stands in this order to a value of its kind; numbers of both kinds compare as numbers."""

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
class Has:
    """Some item of the field's list is this text."""

    field: Field
    item: str


@dataclass(frozen=True, slots=True)
class Like:
    """The field's text, or some item of its list, matches a pattern."""

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


Test: TypeAlias = Compare | OneOf | Has | Like | Missing
Condition: TypeAlias = Test | Not | AllOf | AnyOf


def label_fields(segments: Iterable[SegmentRecord]) -> dict[str, LabelKind]:
    """Bring the labels of an index's segments together: kinds are joined as in a build."""
    kinds: dict[str, LabelKind] = {}
    for segment in segments:
        for field in segment.labels:
            kinds[field.name] = field.kind.joined(kinds.get(field.name, field.kind))
    return kinds
