"""Writing the row columns of an index from code files, one file at a time."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from encoder.codes.file import CodeFile, open_codes
from encoder.codes.label_columns import LabelColumn
from encoder.codes.strings import TextColumn
from encoder.images.labels import LabelKind, text_of
from indexer.storage.columns import ColumnWriter, write_column, write_text
from indexer.storage.row_table import KeyHashes, LabelField

KeptRows = Mapping[Path, npt.NDArray[np.bool_]]
"""Code files in row order, and bool[rows] for each: which of its rows are in the index."""


def write_rows(folder: Path, kept: KeptRows, hashes: KeyHashes) -> list[LabelField]:
    """Write the key, place and label columns of the kept rows, one code file at a time.

    Args:
        folder: where to.
        kept: code files and their rows; the files have been proven whole.
        hashes: `hash_keys` of the kept rows.

    Returns:
        The label fields, in the order of their column numbers.
    """
    order = np.argsort(hashes, kind="stable")
    write_column(folder / "keys.order.npy", order)
    write_column(folder / "keys.hashes.npy", hashes[order])
    del order
    write_text(folder, "keys", (_only(file.keys(), keep) for file, keep in _each(kept)))
    with ColumnWriter(folder / "places.npy", np.uint64, (2,)) as places:
        for file, keep in _each(kept):
            places.append(file.places()[keep])
    is_text: dict[str, bool] = {}
    for file, _ in _each(kept):
        for name, kind in file.label_fields().items():
            is_text[name] = is_text.get(name, False) or kind is not LabelKind.INT
    fields = [LabelField(name, is_text[name]) for name in sorted(is_text)]
    for number, field in enumerate(fields):
        _write_field(folder, f"label.{number:03d}", field, kept)
    return fields


def _write_field(folder: Path, name: str, field: LabelField, kept: KeptRows) -> None:
    """Write a label's values and who has it; an integer field that holds strings in some file becomes strings."""
    columns = ((file.label(field.name), keep) for file, keep in _each(kept))
    with ColumnWriter(folder / f"{name}.present.npy", np.bool_) as present:
        if field.is_text:

            def texts() -> Iterator[TextColumn]:
                for column, keep in columns:
                    present.append(column.present[keep])
                    yield _only(_as_text(column), keep)

            write_text(folder, name, texts())
        else:
            with ColumnWriter(folder / f"{name}.npy", np.int64) as values:
                for column, keep in columns:
                    present.append(column.present[keep])
                    values.append(np.asarray(column.values)[keep])


def _each(kept: KeptRows) -> Iterator[tuple[CodeFile, npt.NDArray[np.bool_]]]:
    for path, keep in kept.items():
        with open_codes(path, proven=True) as file:
            yield file, keep


def _as_text(column: LabelColumn) -> TextColumn:
    values = (text_of(value) if value is not None else "" for value in column.to_list())
    return column.values if isinstance(column.values, TextColumn) else TextColumn.of(values)


def _only(column: TextColumn, keep: npt.NDArray[np.bool_]) -> TextColumn:
    if keep.all():
        return column
    return TextColumn.of(string for string, kept in zip(column, keep.tolist(), strict=True) if kept)
