"""Files of labels, a row per image: CSV, TSV, Parquet and JSON lines. Loads pyarrow when one is opened."""

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from encoder.errors import HashgrainError, Reason, unless_short
from encoder.images.labels.table import Column, LabelTable
from encoder.images.labels.values import MAX_DEPTH, BadLabels
from encoder.runtime.files import open_regular

if TYPE_CHECKING:
    from encoder.runtime.parquet_file import ParquetFile

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl")
KEY_COLUMNS = ("key", "file_name")
"""Where keys stand if it is not said: as img2dataset and the folders of Hugging Face have it."""
SHOWN = 20
"""Columns that an error names."""
BATCH_ROWS, MAX_BYTES = 1 << 16, 8 << 30
"""Of a Parquet table: rows read at once, and bytes of memory that all of them take at most."""
BYTES, NOT_UTF8 = "bytes are not labels", "its text is not UTF-8; save the table in UTF-8"

Table: TypeAlias = Any
"""pyarrow.Table; pyarrow has no types of its own."""
LeftOut: TypeAlias = dict[str, str]
"""Columns that cannot be labels, and why."""


def read_table(path: Path, key: str | None = None) -> LabelTable:
    """Open a table of labels.

    Args:
        path: a file with one of `SUFFIXES`. CSV's columns are of the kinds that Arrow sees in them; an empty cell has no value.
        key: the column that says which image a row is of; None for the first of `KEY_COLUMNS` that is there.

    Raises:
        HashgrainError: `bad-value` for a file that is not such a table, or lacks the column.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise HashgrainError(
            Reason.BAD_VALUE, f"labels {path} are not a table; give one that ends in {', '.join(SUFFIXES)}"
        )
    with _told(path):
        table, left_out = {".parquet": _read_parquet, ".jsonl": _read_json_lines}.get(suffix, _read_csv)(path, key)
    names = [key] if key else [name for name in KEY_COLUMNS if name in table.column_names]
    if not names or names[0] not in table.column_names:
        has = ", ".join(table.column_names[:SHOWN]) + (", ..." if table.num_columns > SHOWN else "")
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"labels {path} have no column {key or ' or '.join(KEY_COLUMNS)} to say which image a row is of; they have {has}",
        )
    with _told(path):
        return _table(path, table, names[0], left_out)


def shard_table_path(shard: str) -> Path | None:
    """Return the table that img2dataset leaves beside a tar, `00000.parquet` beside `00000.tar`; None where there is none."""
    path = Path(shard)
    table = path.with_name(f"{path.name.partition('.tar')[0]}.parquet")
    return table if ".tar" in path.name and table.is_file() else None


def has_keys(table: Path) -> bool:
    """Whether a Parquet file says which image each row is of; one that does not, or is broken, gives no labels."""
    try:
        with _opened(table) as file:
            return "key" in file.schema.names
    except (OSError, ValueError):
        return False


def table_of_shard(shard: str, bad: BadLabels) -> LabelTable | None:
    """Open the table that img2dataset leaves beside a tar: all its columns but bytes are labels.

    Args:
        shard: path of the tar.
        bad: counts a table that cannot be read.

    Returns:
        The table; None where there is none, or one without a column `key`, which is of something else.
    """
    path = shard_table_path(shard)
    if path is None:
        return None
    try:
        with _told(path):
            with _opened(path) as file:
                keyed = "key" in file.schema.names
            if not keyed:  # before its columns are read
                return None
            table, left_out = _read_parquet(path, None)
            return _table(path, table, "key", left_out)
    except HashgrainError as err:
        bad.add(path.name, str(err))
        return None


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say in one line what Arrow makes of a file."""
    import pyarrow as pa

    try:
        yield
    except OSError as err:
        bad = HashgrainError(
            Reason.BAD_VALUE, f"labels {path} could not be read: {err.strerror or err}; give a file that can be"
        )
        raise unless_short(f"labels {path}", err, bad) from err
    except (pa.ArrowException, ValueError) as err:
        raise HashgrainError(Reason.BAD_VALUE, f"labels {path} could not be read: {err}; mend them") from err


def _read_csv(path: Path, key: str | None) -> tuple[Table, LeftOut]:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    with path.open("rb") as file:
        head = file.readline()
    utf16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if path.suffix.lower() == ".csv" and b";" in head and b"," not in head:
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"labels {path} have semicolons between their columns; save them with commas, and 3,99 as 3.99",
        )
    table = csv.read_csv(
        path,
        csv.ReadOptions(encoding="utf-16" if utf16 else "utf-8"),
        csv.ParseOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ",", newlines_in_values=True),
        csv.ConvertOptions(column_types=dict.fromkeys([key] if key else KEY_COLUMNS, pa.string())),  # 0001 is not 1
    )
    for number, column in enumerate(table.columns):
        if pa.types.is_string(column.type):
            text = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
            table = table.set_column(number, table.field(number).name, text)
    legible = [number for number, each in enumerate(table.schema) if not pa.types.is_binary(each.type)]
    left_out = {each.name: NOT_UTF8 for each in table.schema if pa.types.is_binary(each.type)}
    return table.select(legible), left_out


def _read_json_lines(path: Path, _key: str | None) -> tuple[Table, LeftOut]:
    import pyarrow as pa
    from pyarrow import json

    table = json.read_json(path)
    plain = pa.schema([pa.field(each.name, _without_times(each.type)) for each in table.schema])
    if plain != table.schema:
        table = json.read_json(path, parse_options=json.ParseOptions(explicit_schema=plain))
    return table, {}


def _without_times(kind: Any) -> Any:
    """Return a type with text for the times that Arrow takes JSON's text for."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return pa.struct([pa.field(each.name, _without_times(each.type)) for each in kind])
    if pa.types.is_list(kind):
        return pa.list_(_without_times(kind.value_type))
    return pa.string() if pa.types.is_temporal(kind) else kind


def _read_parquet(path: Path, _key: str | None) -> tuple[Table, LeftOut]:
    import pyarrow as pa

    batches, nbytes = list[Any](), 0
    with _opened(path) as file:
        leaves = [leaf for each in file.schema for leaf in _leaves(each.name, each.type)]
        left_out = {name: BYTES for name, kind in leaves if why_not(kind) == BYTES}  # not read: pictures, perhaps
        for batch in file.batches(BATCH_ROWS, [name for name, _ in leaves if name not in left_out]):
            batches.append(batch)
            nbytes += batch.nbytes + batch.num_rows
            if nbytes > MAX_BYTES:
                raise ValueError(f"they take over {MAX_BYTES:,} bytes of memory")
        return pa.Table.from_batches(batches) if batches else file.schema.empty_table(), left_out


@contextmanager
def _opened(path: Path) -> "Iterator[ParquetFile]":
    from encoder.runtime.parquet_file import open_parquet

    with open_regular(path) as file, open_parquet(file, path.stat().st_size) as parquet:
        yield parquet


def _leaves(name: str, kind: Any) -> Iterator[tuple[str, Any]]:
    """Yield the columns that a column of structs is made of, as Parquet calls them, or the column itself."""
    import pyarrow as pa

    if not pa.types.is_struct(kind):
        yield name, kind
        return
    for each in kind:
        yield from _leaves(f"{name}.{each.name}", each.type)


def _table(path: Path, table: Table, key: str, left_out: LeftOut) -> LabelTable:
    """Sort the columns of a table into keys, labels, and what cannot be labels."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if table.column_names.count(key) > 1:
        raise HashgrainError(Reason.BAD_VALUE, f"labels {path} have several columns {key}; keep one of them")
    keys = pc.cast(table.column(key), pa.string())
    for _ in range(MAX_DEPTH):
        table = table.flatten()
    columns, left_out = dict[str, Column](), dict(left_out)
    for name, column in zip(table.column_names, table.columns, strict=True):
        if why := why_not(column.type):
            left_out[name] = why
        elif name in columns:
            left_out[name] = "an earlier column has the name"
        elif name != key:
            columns[name] = coarse(column)
    repeated = len(keys) - keys.null_count - pc.count_distinct(keys).as_py()
    return LabelTable(path, columns, keys, left_out, repeated)


def why_not(kind: Any) -> str | None:
    """Say why values of a type cannot be labels, or None."""
    import pyarrow as pa

    of = pa.types
    if of.is_dictionary(kind):
        return why_not(kind.value_type)
    if of.is_list(kind) or of.is_large_list(kind) or of.is_fixed_size_list(kind):
        inner = kind.value_type
        return "lists of lists or objects" if of.is_nested(inner) else why_not(inner)
    if of.is_binary(kind) or of.is_large_binary(kind) or of.is_fixed_size_binary(kind):
        return BYTES
    known = (
        of.is_null, of.is_boolean, of.is_integer, of.is_floating, of.is_decimal, of.is_string, of.is_large_string,
        of.is_string_view, of.is_date, of.is_time, of.is_timestamp, of.is_struct,
    )  # fmt: skip
    return None if any(known_as(kind) for known_as in known) else f"values of type {str(kind).partition('<')[0]}"


def coarse(column: Column) -> Column:
    """Return a column with times of microseconds, which is what Python has, in lists too."""
    import pyarrow.compute as pc

    kind = _coarse_type(column.type)
    return column if kind == column.type else pc.cast(column, kind, safe=False)


def _coarse_type(kind: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz) if kind.unit == "ns" else kind
    if pa.types.is_time64(kind):
        return pa.time64("us")
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        item = _coarse_type(kind.value_type)
        return kind if item == kind.value_type else pa.list_(item)
    return kind
