"""The rows of an index as a Lance dataset: keys, row numbers, a column of codes per level, labels (docs/FORMAT.md)."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from encoder.bits import Codes
from encoder.errors import HashgrainError, Reason, not_installed
from encoder.levels import Level
from encoder.runtime import durable
from indexer.changes.export_folder import made
from indexer.changes.export_rows import BLOCK_ROWS, Block, ExportRows
from indexer.changes.parquet_codes import LABEL_TYPES, label_column
from indexer.storage.labels import LabelField

KEY, ROW = "key", "row"
MADE_BY: Final = b"hashgrain"
"""Entry of the schema's metadata: what was exported."""
LABEL: Final = b"hashgrain.label"
"""Entry of a column's metadata: name of the label in the index."""
_LANCE_OWN: Final = frozenset({"_rowid", "_rowaddr", "_rowoffset", "_distance", "_score"})


@dataclass(frozen=True, slots=True)
class LanceReport:
    """What was written."""

    generation: str
    rows: int
    bytes: int
    columns: tuple[str, ...]
    renamed: dict[str, str]
    """Columns of labels that could not have the label's name, by that."""


def column_of(level: Level) -> str:
    """Return the column of a level's codes; Lance takes no dot in a name."""
    return f"codes_{level}"


def export_to_lance(
    index: Path,
    out: Path,
    levels: Sequence[Level] | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[float, str], None] = lambda *_: None,
) -> LanceReport:
    """Write an index as one Lance dataset, a block of rows at a time, and read its keys and codes back.

    Args:
        index: folder of the index.
        out: the dataset, a folder to make; whole when it is there.
        levels: whose codes; None: all.
        overwrite: replace the dataset that is there, if it is an export.
        progress: called with a share done and a few words.

    Raises:
        HashgrainError: `bad-value` where Lance is not installed; `exists`, `level-unknown`, `index-missing`, `index-damaged`;
            `write-failed`, also where something else is read back than was written.
    """
    lance = _lance()
    opened = ExportRows(index, levels)
    named = dict(zip(_label_columns(opened), opened.fields, strict=True))
    schema = _schema(opened, named)
    with made(out, lambda there: _is_export(lance, there), overwrite=overwrite) as folder:
        written = _Digest(opened.bits)
        _write(lance, folder, schema, _batches(opened.blocks(progress), schema, named, written))
        if _read_back(lance, folder, opened.bits) != written.hex():
            raise HashgrainError(
                Reason.WRITE_FAILED,
                f"{out} holds other keys or codes than were written; look at the disk and try again",
            )
        files = [path for path in folder.rglob("*") if path.is_file()]
        for path in files:
            durable.sync_file(path)
        for inner in {path.parent for path in files} - {folder}:
            durable.sync_folder(inner)
        size = sum(path.stat().st_size for path in files)
    renamed = {field.name: name for name, field in named.items() if name != field.name}
    return LanceReport(opened.generation, opened.count, size, tuple(schema.names), renamed)


def _lance() -> Any:
    try:
        import lance
    except ImportError as err:
        raise not_installed("an export to Lance", "pylance", "lance", err) from err
    return lance


def _label_columns(opened: ExportRows) -> Iterator[str]:
    """Yield the column of each label: its name, unless Lance or another column has that."""
    taken = {KEY, ROW, *_LANCE_OWN, *map(column_of, opened.bits)}
    for field in opened.fields:
        plain = field.name.replace(".", "_") or "label"
        name = next(name for name in (plain, *(f"{plain}_{n}" for n in range(len(taken) + 1))) if name not in taken)
        taken.add(name)
        yield name


def _schema(opened: ExportRows, named: dict[str, LabelField]) -> Any:
    codes = [pa.field(column_of(level), pa.list_(pa.uint8(), nbits // 8)) for level, nbits in opened.bits.items()]
    labels = [
        pa.field(name, LABEL_TYPES[field.kind], metadata={LABEL: field.name.encode()}) for name, field in named.items()
    ]
    said = json.dumps({"generation": opened.generation, "bit_order": "lowest bit first"}).encode()
    return pa.schema([pa.field(KEY, pa.string()), pa.field(ROW, pa.int64()), *codes, *labels], metadata={MADE_BY: said})


def _batches(blocks: Iterable[Block], schema: Any, named: dict[str, LabelField], digest: "_Digest") -> Iterator[Any]:
    for rows, keys, codes, labels in blocks:
        texts = list(keys)
        digest.add(texts, list(codes.values()))
        arrays = [pa.array(texts, pa.string()), pa.array(rows, pa.int64())]
        arrays += [
            pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(each).ravel()), each.shape[1])
            for each in codes.values()
        ]
        arrays += [label_column(labels.get(field.name), field.kind, len(rows)) for field in named.values()]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _write(lance: Any, folder: Path, schema: Any, batches: Iterator[Any]) -> None:
    """Hand batches to Lance. What fails while they are made comes through its own errors, so it is kept and raised as it was."""
    failed: list[Exception] = []

    def kept() -> Iterator[Any]:
        try:
            yield from batches
        except Exception as err:
            failed.append(err)
            raise

    try:
        lance.write_dataset(pa.RecordBatchReader.from_batches(schema, kept()), str(folder), mode="create")
    except (OSError, ValueError) as err:
        if failed:
            raise failed[0] from err
        raise _refused(folder, err) from err


def _read_back(lance: Any, folder: Path, bits: dict[Level, int]) -> str:
    digest = _Digest(bits)
    try:
        columns = [KEY, *map(column_of, bits)]
        for batch in lance.dataset(str(folder)).to_batches(columns=columns, batch_size=BLOCK_ROWS):
            codes = [
                batch.column(column_of(level)).flatten().to_numpy().reshape(-1, nbits // 8)
                for level, nbits in bits.items()
            ]
            digest.add(batch.column(KEY).to_pylist(), codes)
    except (OSError, ValueError) as err:
        raise _refused(folder, err) from err
    return digest.hex()


class _Digest:
    """What keys and codes are, in their order, however they come in parts."""

    def __init__(self, bits: dict[Level, int]) -> None:
        self._keys, self._codes = hashlib.sha256(), [hashlib.sha256() for _ in bits]

    def add(self, keys: Sequence[str], codes: Sequence[Codes]) -> None:
        """Take rows in: their keys, and per level uint8[n, nbits / 8]."""
        encoded = (key.encode() for key in keys)
        self._keys.update(b"".join(b"%d:%s" % (len(key), key) for key in encoded))
        for digest, of_level in zip(self._codes, codes, strict=True):
            digest.update(np.ascontiguousarray(of_level).data)

    def hex(self) -> str:
        """Return the digest of all of them."""
        return "".join(digest.hexdigest() for digest in (self._keys, *self._codes))


def _is_export(lance: Any, folder: Path) -> bool:
    """Whether a folder is a dataset that an export made."""
    try:
        return MADE_BY in (lance.dataset(str(folder)).schema.metadata or {})
    except (OSError, ValueError):
        return False


def _refused(folder: Path, err: Exception) -> HashgrainError:
    reason = str(err).partition("\n")[0]
    return HashgrainError(
        Reason.WRITE_FAILED, f"Lance could not write {folder}: {reason}; look at the disk and try again"
    )
