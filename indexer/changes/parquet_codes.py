"""Columns of codes in Parquet files, read and written a row group at a time. With labels beside them, as `table_files.py` reads."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from encoder.bits import Codes
from encoder.codes.label_columns import LabelColumn
from encoder.codes.strings import TextColumn
from encoder.images.labels.values import LabelKind
from encoder.levels import Level
from encoder.runtime import durable
from encoder.runtime.files import open_regular
from encoder.runtime.parquet_file import open_parquet
from indexer.storage.labels import LabelField

GROUP: Final = 1 << 16
"""Rows of a row group."""
KEY: Final = "key"
SHOWN: Final = 10
"""Columns that an error lists."""
LABEL_TYPES: Final = {
    LabelKind.BOOL: pa.bool_(),
    LabelKind.INT: pa.int64(),
    LabelKind.FLOAT: pa.float64(),
    LabelKind.TEXT: pa.string(),
    LabelKind.TEXTS: pa.list_(pa.string()),
}
"""Of a column of labels, by their kind."""

Column: TypeAlias = Any
"""pyarrow.Array; pyarrow has no types of its own."""


def column_of(level: Level) -> str:
    """Return what the column of a level is called where it is written: a label may have the level's own name."""
    return f"codes.{level}"


def parquet_codes(path: Path, level: Level, name: str | None, write: Callable[[bytes], None]) -> int:
    """Hand on the codes of a column, row after row, without anything between them.

    Args:
        path: of the Parquet file.
        level: whose codes they are.
        name: of the column; None: `codes.LEVEL`, else LEVEL, else the only one of bytes.
        write: takes them.

    Returns:
        Bytes of a code.

    Raises:
        ValueError: it cannot be read, or they are not codes.
    """
    width = 0
    try:
        with open_regular(path) as raw, open_parquet(raw, path.stat().st_size) as file:
            chosen = _chosen(file.schema, level, name)
            for batch in file.batches(GROUP, [chosen]):
                column = batch.column(0)
                if column.null_count:
                    row = pc.index(pc.is_null(column), True).as_py()
                    raise ValueError(f"column {chosen!r} has no code in row {row} of a row group; leave such rows out")
                found, data = _bytes(column, chosen)
                if width and found != width:
                    raise ValueError(f"codes of column {chosen!r} have {width} and {found} bytes; expected one length")
                width = found or width
                write(data)
    except (pa.ArrowException, MemoryError) as err:
        raise ValueError(str(err)) from err
    return width or 1


def _chosen(schema: Any, level: Level, name: str | None) -> str:
    """Return the name of the column of codes."""
    able = [each.name for each in schema if _is_bytes(each.type)]
    for candidate in [name] if name else [column_of(level), level]:
        if candidate in able:
            return str(candidate)
    if name is None and len(able) == 1:
        return str(able[0])
    has = ", ".join(able[:SHOWN]) or "none"
    raise ValueError(
        f"which column has the codes of {level}? it has no {name or column_of(level)!r} of bytes (columns of bytes: {has}); name "
        "one behind the path: PATH#COLUMN"
    )


def _is_bytes(kind: Any) -> bool:
    of = pa.types
    if of.is_dictionary(kind):
        return _is_bytes(kind.value_type)
    if of.is_list(kind) or of.is_large_list(kind) or of.is_fixed_size_list(kind):
        return bool(of.is_uint8(kind.value_type))
    return bool(of.is_binary(kind) or of.is_large_binary(kind) or of.is_fixed_size_binary(kind))


def _bytes(column: Column, name: str) -> tuple[int, bytes]:
    """Return the bytes of a code, and all codes of a column without nulls."""
    if not len(column):
        return 0, b""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_fixed_size_binary(column.type):
        width = column.type.byte_width
        return width, column.buffers()[1].slice(column.offset * width, len(column) * width).to_pybytes()
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        lengths, values = pc.binary_length(column), None
    else:
        lengths, values = pc.list_value_length(column), column.flatten()
    ends = pc.min_max(lengths).as_py()
    if ends["min"] != ends["max"] or not ends["min"]:
        raise ValueError(
            f"codes of column {name!r} have {ends['min']} to {ends['max']} bytes; expected one length, the same in all"
        )
    if values is None:
        return _bytes(column.cast(pa.binary(ends["min"])), name)
    if values.null_count:
        raise ValueError(f"column {name!r} has a code with a byte that is null; expected numbers from 0 to 255")
    return ends["min"], values.to_numpy(zero_copy_only=False).astype(np.uint8).tobytes()


Append: TypeAlias = Callable[[TextColumn, Mapping[Level, Codes], Mapping[str, LabelColumn]], None]
"""Writes keys, codes and labels of rows; a field that is not among the labels has no value."""


@contextmanager
def writing_rows(path: Path, bits: Mapping[Level, int], fields: Sequence[LabelField], key: str) -> Iterator[Append]:
    """Write rows as a Parquet file: keys, codes, labels; what is appended becomes row groups.

    Args:
        path: where to.
        bits: of each level whose codes are written.
        fields: labels.
        key: name of the column of keys.
    """
    columns = [(key, pa.string()), *((column_of(level), pa.binary(nbits // 8)) for level, nbits in bits.items())]
    schema = pa.schema([*columns, *((field.name, LABEL_TYPES[field.kind]) for field in fields)])
    with durable.create(path) as file, parquet.ParquetWriter(file, schema) as writer:

        def append(keys: TextColumn, codes: Mapping[Level, Codes], labels: Mapping[str, LabelColumn]) -> None:
            arrays = [pa.array(list(keys), pa.string()), *(_codes_column(codes[level]) for level in bits)]
            arrays += [label_column(labels.get(field.name), field.kind, len(keys)) for field in fields]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), GROUP)

        yield append


def _codes_column(codes: Codes) -> Column:
    kind = pa.binary(codes.shape[1])
    return pa.Array.from_buffers(kind, len(codes), [None, pa.py_buffer(np.ascontiguousarray(codes))])


def label_column(column: LabelColumn | None, kind: LabelKind, rows: int) -> Column:
    """Return labels as an array.

    Args:
        column: the labels; None: no row has one.
        kind: that of the field, to which the column's own joins.
        rows: how many.
    """
    if column is None:
        return pa.nulls(rows, LABEL_TYPES[kind])
    values = column.as_kind(kind)
    if isinstance(values.values, np.ndarray):
        return pa.array(values.values, LABEL_TYPES[kind], mask=~values.present)
    return pa.array(values.to_list(), LABEL_TYPES[kind])
