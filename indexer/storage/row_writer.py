"""Writing the row columns of a segment, one source of rows at a time."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from encoder.codes.label_columns import LabelColumn
from encoder.images.labels.values import MAX_FIELDS, LabelKind
from indexer.storage.columns import ColumnWriter, write_column, write_text
from indexer.storage.labels import LabelField, LabelWriter
from indexer.storage.row_source import RowSource


def write_rows(folder: Path, sources: Sequence[RowSource], fields: Sequence[LabelField]) -> None:
    """Write the key, place and label columns of rows, one source at a time.

    Args:
        folder: where to.
        sources: in the order of the rows.
        fields: `settle_labels` of the sources.
    """
    rows = sum(source.rows for source in sources)
    hashes, row = np.empty(rows, dtype=np.uint64), 0
    for source in sources:
        hashes[row : row + source.rows] = source.hashes()
        row += source.rows
    write_column(folder / "keys.order.npy", np.argsort(hashes, kind="stable"))
    hashes.sort()  # in place: of many rows, each array more would be felt
    write_column(folder / "keys.hashes.npy", hashes)
    del hashes
    write_text(folder, "keys", (source.keys() for source in _each(sources)))
    with ColumnWriter(folder / "places.npy", np.uint64, (2,)) as places:
        for source in _each(sources):
            places.append(source.places())
    with LabelWriter(folder, rows, fields) as writer:
        for source in _each(sources):
            writer.add(_labels_of(source, fields), source.rows)
        writer.finish()


def settle_labels(sources: Sequence[RowSource]) -> tuple[list[LabelField], list[str]]:
    """Settle one kind per field over all sources; of more fields than there may be, those of the most sources stay.

    Returns:
        The fields, sorted by name, and a line for each thing about them that a person should know.
    """
    first: dict[str, dict[LabelKind, RowSource]] = {}
    having = Counter[str]()
    for source in sources:
        for name, kind in source.label_fields().items():
            having[name] += 1
            first.setdefault(name, {}).setdefault(kind, source)
    names = sorted(first, key=lambda name: (-having[name], name))
    notices = []
    if left_out := names[MAX_FIELDS:]:
        notices.append(
            f"{len(left_out):,} labels left out, first {left_out[0]!r}: an index has the {MAX_FIELDS:,} that the most files have"
        )
    fields = []
    for name in sorted(names[:MAX_FIELDS]):
        kinds = list(first[name])
        joined = kinds[0]
        for kind in kinds:
            joined = joined.joined(kind)
        fields.append(LabelField(name, joined))
        if clash := next((pair for pair in combinations(kinds, 2) if pair[0].clashes(pair[1])), None):
            examples = " and ".join(f"{kind} in {_example(first[name][kind], name)!r}" for kind in clash)
            notices.append(f"label {name!r} is {examples}; it is kept as {joined}")
    return fields, notices


def _example(source: RowSource, name: str) -> str:
    """Return the key of the first row of a source that has a label."""
    with source.held():
        return source.keys()[int(np.argmax(source.label(name).present))] if source.rows else source.name


def _labels_of(source: RowSource, fields: Sequence[LabelField]) -> Callable[[str], LabelColumn | None]:
    """Return what gives the labels of a source's rows, each of the kind that it has in the segment."""
    kinds, own = {field.name: field.kind for field in fields}, source.label_fields()
    return lambda name: source.label(name).as_kind(kinds[name]) if name in own else None


def _each(sources: Sequence[RowSource]) -> Iterator[RowSource]:
    for source in sources:
        with source.held():
            yield source
