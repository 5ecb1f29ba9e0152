"""Labels on a page: which fields are compared, what a query's own labels are, and which of them a hit shares."""

import os
from collections import defaultdict
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np

from encoder.errors import HashgrainError, Reason
from encoder.images.expand import expand
from encoder.images.labels.values import Labels, LabelValue, text_of
from encoder.images.readers.formats import reader_for
from indexer.filters.expression import label_fields
from indexer.index import Index
from indexer.query import Asked, ByExamples, ByImage, ByKey

SAMPLE = 1000
"""Rows of the index that are read to see how a field varies, at most."""
NEARLY_EVERY = 0.9
"""Different values per row from which on a field is an identifier, which two images never share."""
PREFIX = "label."
"""Before a field's name in a filter, and so allowed here."""


def compared_fields(index: Index, queries: Sequence[Labels], match: Sequence[str] = ()) -> list[str]:
    """Return the fields that decide which hits are marked; a number and its name (`fine`, `fine_name`) are one field.

    Args:
        index: its rows show how each field varies.
        queries: labels of each query.
        match: the fields that are wanted, as `fine` or `label.fine`; none: those that some query has, without fields
            that are constant in the index and fields whose values differ in nearly every row.

    Raises:
        HashgrainError: `bad-value` for a field that neither the index nor a query has.
    """
    names = label_fields(index.manifest.segments)
    known = dict.fromkeys([*names, *(name for labels in queries for name in labels)])
    if match:
        wanted = [name if name in known else name.removeprefix(PREFIX) for name in match]
        if unknown := [name for name in wanted if name not in known]:
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"label field {unknown[0]!r} is not in {index.path}; it has {', '.join(known) or 'no labels'}",
            )
        return list(dict.fromkeys(_base(name, known) for name in wanted))
    varied = _varied(index)
    return list(dict.fromkeys(_base(name, known) for name in known if name in varied and _any_has(queries, name)))


def _varied(index: Index) -> set[str]:
    """Return the fields that are neither constant nor an identifier."""
    chosen = np.random.default_rng(0).choice(index.ntotal, min(index.ntotal, SAMPLE), replace=False)
    values = defaultdict[str, list[LabelValue]](list)
    for row in chosen.tolist():
        for name, value in index.labels(row).items():
            values[name] += value if isinstance(value, tuple) else [value]
    return {name for name, column in values.items() if 1 < len(set(column)) <= NEARLY_EVERY * len(column)}


def _any_has(queries: Sequence[Labels], name: str) -> bool:
    return any(name in labels for labels in queries)


def shared_fields(fields: Sequence[str], query: Labels, hit: Labels) -> set[str]:
    """Return those of the compared fields that a hit has in common with its query, by the number or by its name.

    Lists have something in common that is an item of both. Of an image file a field may be of another kind than in the index, so
    values are compared as text.
    """
    return {
        field
        for field in fields
        for name in (field, f"{field}_name")
        if name in query and name in hit and not _items(query[name]).isdisjoint(_items(hit[name]))
    }


def _items(value: LabelValue) -> set[str]:
    return set(value) if isinstance(value, tuple) else {text_of(value)}


def texts(labels: Labels) -> dict[str, str]:
    """Return what is shown for each field, words first: its name where it has one; anything else needs the field beside it."""
    shown = {
        field: labels.get(f"{field}_name", value) for field, value in labels.items() if _base(field, labels) == field
    }
    words = {field: text_of(value) for field, value in shown.items() if isinstance(value, str | tuple)}
    others = {field: f"{value:.6g}" if isinstance(value, float) else text_of(value) for field, value in shown.items()}
    return {field: text for field, text in words.items() if shown[field] != ()} | {
        field: f"{field} {text}" for field, text in others.items() if field not in words
    }


def _base(name: str, names: Container[str]) -> str:
    """Return `fine` for `fine_name` where both are there."""
    number = name.removesuffix("_name")
    return number if number in names else name


def query_labels(index: Index, query: Asked) -> Labels:
    """Return what can be known of a query: the labels of its row, or of its image file.

    Of an image file's labels, those are left out that the index has no field for: they cannot be compared.
    """
    match query.face if isinstance(query, ByExamples) else query:
        case ByKey(key):
            return index.labels(index.find(key))
        case ByImage(image=Path() as path):
            fields = label_fields(index.manifest.segments)
            return {name: value for name, value in file_labels(path).items() if name in fields}
        case _:
            return {}


def file_labels(path: Path) -> Labels:
    """Return the labels that encoding an image file would give it: its folder's name, and those of its sidecars."""
    try:
        [shard] = expand([os.path.abspath(path)])  # noqa: PTH100  `..` has to go, and links have to stay
    except HashgrainError:
        return {}
    return next(reader_for(shard).images()).labels
