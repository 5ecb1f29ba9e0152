"""An index as files that anybody reads: codes, keys and labels of its rows, without those removed, in their order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from encoder.bits import Codes
from encoder.codes.label_columns import LabelColumn
from encoder.codes.strings import TextColumn
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from encoder.runtime import durable
from indexer.changes.export_folder import made
from indexer.changes.export_rows import ExportRows
from indexer.changes.parquet_codes import KEY, Append, writing_rows
from indexer.engines.faiss_file import FlatWriter
from indexer.settings import ExportForm
from indexer.storage.columns import ColumnWriter
from indexer.storage.labels import LabelField

KEYS, LABELS, ROWS = "keys.txt", "labels.parquet", "rows.parquet"
_NEWLINE: Final = 10


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written."""

    generation: str
    rows: int
    bytes: int
    files: tuple[str, ...]
    key_column: str
    """Of the Parquet file: `key`, unless a label has that name."""


def export(
    index: Path,
    out: Path,
    form: ExportForm = ExportForm.NPY,
    levels: Sequence[Level] | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[float, str], None] = lambda *_: None,
) -> ExportReport:
    """Write codes, keys and labels of an index to a folder, a block of rows at a time. Imported again, they answer as the index.

    Args:
        index: folder of the index.
        out: folder to make; whole when it is there.
        form: which files.
        levels: whose codes; None: all.
        overwrite: replace the folder that is there, if it is an export.
        progress: called with a share done and a few words.

    Raises:
        HashgrainError: `exists`, `level-unknown`, `index-missing`, `index-damaged`, `write-failed`; `bad-value` for a key that has
            no line of its own.
    """
    opened = ExportRows(index, levels)
    names = {field.name for field in opened.fields}
    key = next(name for name in (KEY, *(f"{KEY}_{n}" for n in range(len(names) + 1))) if name not in names)
    with made(out, _is_export, overwrite=overwrite) as folder, ExitStack() as stack:
        columns = _Columns(opened.bits, opened.fields, key, opened.count)
        writers = list(_writers(folder, form, columns, stack))
        for block in opened.blocks(progress):
            for write in writers:
                write(block.keys, block.codes, block.labels)
        stack.close()
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    return ExportReport(opened.generation, opened.count, sum(sizes.values()), tuple(sizes), key)


class _Columns(NamedTuple):
    """What is written of each row."""

    bits: Mapping[Level, int]
    fields: Sequence[LabelField]
    key: str
    """Name of the column of keys."""
    rows: int


def _writers(folder: Path, form: ExportForm, columns: _Columns, stack: ExitStack) -> Iterator[Append]:
    """Yield what takes each block of rows."""
    bits, fields, key, rows = columns
    if form is ExportForm.PARQUET:
        yield stack.enter_context(writing_rows(folder / ROWS, bits, fields, key))
        return
    for level, nbits in bits.items():
        writer: ColumnWriter | FlatWriter = (
            ColumnWriter(folder / f"{level}.npy", np.uint8, (nbits // 8,))
            if form is ExportForm.NPY
            else FlatWriter(folder / f"{level}.faiss", nbits, rows)
        )
        stack.enter_context(writer)
        yield partial(_append_codes, writer, level)
    yield partial(_append_keys, stack.enter_context(durable.create(folder / KEYS)).write)
    if fields:
        yield stack.enter_context(writing_rows(folder / LABELS, {}, fields, key))


def _append_codes(
    writer: ColumnWriter | FlatWriter,
    level: Level,
    _: TextColumn,
    codes: Mapping[Level, Codes],
    __: Mapping[str, LabelColumn],
) -> None:
    writer.append(codes[level])


def _append_keys(
    write: Callable[[bytes], object], keys: TextColumn, _: Mapping[Level, Codes], __: Mapping[str, LabelColumn]
) -> None:
    if (keys.text == _NEWLINE).any():
        raise HashgrainError(Reason.BAD_VALUE, f"a key has two lines, which {KEYS} cannot hold; export as parquet")
    write(b"".join(f"{key}\n".encode() for key in keys))


def _is_export(folder: Path) -> bool:
    """Whether a folder holds nothing but what an export writes."""
    ours = {KEYS, LABELS, ROWS, *(f"{level}.{ending}" for level in Level for ending in ("npy", "faiss"))}
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= ours
