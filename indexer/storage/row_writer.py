"""Writing the row columns of an index from code files, one file at a time."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from encoder.codes.file import CodeFile, open_codes
from encoder.codes.label_columns import LabelColumn
from encoder.codes.strings import TextColumn
from encoder.images.labels.values import MAX_FIELDS, LabelKind
from indexer.storage.columns import ColumnWriter, write_column, write_text
from indexer.storage.labels import LabelField, LabelWriter
from indexer.storage.row_table import KeyHashes

KeptRows = Mapping[Path, npt.NDArray[np.bool_]]
"""Code files in row order, and bool[rows] for each: which of its rows are in the index."""


def write_rows(folder: Path, kept: KeptRows, hashes: KeyHashes, fields: Sequence[LabelField]) -> None:
    """Write the key, place and label columns of the kept rows, one code file at a time.

    Args:
        folder: where to.
        kept: code files and their rows; the files have been proven whole.
        hashes: `hash_keys` of the kept rows.
        fields: `settle_labels` of the files.
    """
    order = np.argsort(hashes, kind="stable")
    write_column(folder / "keys.order.npy", order)
    write_column(folder / "keys.hashes.npy", hashes[order])
    del order
    write_text(folder, "keys", (_only(file.keys(), keep) for file, keep in _each(kept)))
    with ColumnWriter(folder / "places.npy", np.uint64, (2,)) as places:
        for file, keep in _each(kept):
            places.append(file.places()[keep])
    with LabelWriter(folder, len(hashes), fields) as writer:
        for file, keep in _each(kept):
            writer.add(_of_file(file, fields, keep), int(keep.sum()))
        writer.finish()


def settle_labels(kept: KeptRows) -> tuple[list[LabelField], list[str]]:
    """Settle one kind per field over all files; of more fields than there may be, those of the most files stay.

    Returns:
        The fields, sorted by name, and a line for each thing about them that a person should know.
    """
    first: dict[str, dict[LabelKind, Path]] = {}
    files = Counter[str]()
    for file, _ in _each(kept):
        for name, kind in file.label_fields().items():
            files[name] += 1
            first.setdefault(name, {}).setdefault(kind, file.path)
    names = sorted(first, key=lambda name: (-files[name], name))
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


def _example(path: Path, name: str) -> str:
    """Return the key of the first row of a code file that has a label."""
    with open_codes(path, proven=True) as file:
        return file.keys()[int(np.argmax(file.label(name).present))]


def _of_file(
    file: CodeFile, fields: Sequence[LabelField], keep: npt.NDArray[np.bool_]
) -> Callable[[str], LabelColumn | None]:
    """Return what gives the labels of the kept rows of a code file, each of the kind that it has in the index."""
    kinds, own = {field.name: field.kind for field in fields}, file.label_fields()
    return lambda name: file.label(name).only(keep).as_kind(kinds[name]) if name in own else None


def _each(kept: KeptRows) -> Iterator[tuple[CodeFile, npt.NDArray[np.bool_]]]:
    for path, keep in kept.items():
        with open_codes(path, proven=True) as file:
            yield file, keep


def _only(column: TextColumn, keep: npt.NDArray[np.bool_]) -> TextColumn:
    if keep.all():
        return column
    return TextColumn.of(string for string, kept in zip(column, keep.tolist(), strict=True) if kept)
