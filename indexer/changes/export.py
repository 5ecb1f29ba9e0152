"""An index as files that anybody reads: codes, keys and labels of its rows, without those removed, in their order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
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
from encoder.plural import plural
from encoder.runtime import durable
from encoder.runtime.files import exists
from encoder.runtime.publish import PARTIAL, write_failed
from indexer.changes.parquet_codes import GROUP, KEY, Append, writing_rows
from indexer.engines.faiss_file import FlatWriter
from indexer.settings import ExportForm, Trust, Verify
from indexer.snapshot import Snapshot
from indexer.storage.columns import ColumnWriter
from indexer.storage.labels import LabelField
from indexer.storage.row_source import segment_parts
from indexer.storage.row_writer import settle_labels

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
    opened = Snapshot(index, trust=Trust(Verify.FULL))
    chosen = tuple(opened.manifest.bits) if levels is None else tuple(dict.fromkeys(levels))
    for level in chosen:
        opened.check_level(level)
    bits = {level: opened.manifest.bits[level] for level in chosen}
    parts = [part for segment in opened.segments for part in segment_parts(segment, segment.live, GROUP)]
    fields, _ = settle_labels(parts)
    names = {field.name for field in fields}
    key = next(name for name in (KEY, *(f"{KEY}_{n}" for n in range(len(names) + 1))) if name not in names)
    rows = done = 0
    with _made(out, overwrite=overwrite) as folder, ExitStack() as stack:
        columns = _Columns(bits, fields, key, opened.manifest.live)
        writers = list(_writers(folder, form, columns, stack))
        for part in parts:
            keys, labels = part.keys(), {name: part.label(name) for name in part.label_fields() if name in names}
            codes = {level: part.codes(level, 0, part.rows) for level in chosen}
            for write in writers:
                write(keys, codes, labels)
            rows, done = rows + part.rows, done + 1
            progress(done / len(parts), f"{plural(rows, 'row')}")
        stack.close()
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    return ExportReport(opened.generation, rows, sum(sizes.values()), tuple(sizes), key)


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


@contextmanager
def _made(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a folder that has its name when the block succeeds."""
    if exists(out) and not (_is_export(out) and overwrite):
        what = (
            "; choose another folder, or replace it"
            if _is_export(out)
            else " and is not an export; choose another folder"
        )
        raise HashgrainError(Reason.EXISTS, f"{out} exists{what}")
    unready, old = (out.with_name(f"{out.name}{ending}{PARTIAL}") for ending in ("", ".old"))
    try:
        for left in (unready, old):  # of one that was killed
            if left.exists():
                durable.remove_tree(left)
        durable.make_folder(unready)
        yield unready
        durable.sync_folder(unready)
        _replace(out, unready, old)
        durable.sync_folder(out.absolute().parent)
    except OSError as err:
        raise write_failed(out, err) from err
    finally:
        for left in (unready, *([old] if out.exists() else [])):
            with suppress(OSError):  # the next export of that name sweeps it
                durable.remove_tree(left)


def _replace(out: Path, new: Path, old: Path) -> None:
    """Give a folder the name of one that is there. That one loses its name first, so that never a part of it stands there."""
    there = out.exists()
    if there:
        durable.rename(out, old)
    try:
        durable.rename(new, out)
    except OSError:
        if there:
            old.replace(out)
        raise


def _is_export(folder: Path) -> bool:
    """Whether a folder holds nothing but what an export writes."""
    ours = {KEYS, LABELS, ROWS, *(f"{level}.{ending}" for level in Level for ending in ("npy", "faiss"))}
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= ours
