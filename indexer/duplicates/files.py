"""Groups of near-duplicates as files: JSON lines, one group per line, or Parquet, one row per line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from encoder.errors import HashgrainError, Reason
from encoder.runtime.publish import publish, write_bytes, write_failed
from indexer.duplicates.groups import Duplicates
from indexer.snapshot import Snapshot

SUFFIXES: Final = (".jsonl", ".parquet")


def save_groups(path: Path, snapshot: Snapshot, found: Duplicates) -> None:
    """Write groups in the form that the suffix of the file says.

    Raises:
        HashgrainError: `bad-value` for another suffix, `write-failed`.
    """
    check_suffix(path)
    if path.suffix == ".parquet":
        _write_parquet(path, snapshot, found)
    else:
        write_bytes(path, "".join(f"{line}\n" for line in json_lines(snapshot, found)).encode())


def check_suffix(path: Path) -> None:
    """Raise `bad-value` for a file whose suffix says no form."""
    if path.suffix not in SUFFIXES:
        raise HashgrainError(
            Reason.BAD_VALUE, f"{path} is neither JSON lines nor Parquet; end it with {' or '.join(SUFFIXES)}"
        )


def json_lines(snapshot: Snapshot, found: Duplicates) -> Iterator[str]:
    """Yield a JSON object per group, numbered from 1."""
    for number, group in enumerate(found.groups, 1):
        yield json.dumps(group.as_dict(snapshot, number))


def _write_parquet(path: Path, snapshot: Snapshot, found: Duplicates) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema(
        [
            ("group", pa.int64()),
            ("key", pa.string()),
            ("row", pa.int64()),
            ("distance", pa.int32()),
            ("shard", pa.string()),
        ]
    )
    groups = [(number, group) for number, group in enumerate(found.groups, 1)]
    rows = [row for _, group in groups for row in group.rows.tolist()]
    columns = [
        [number for number, group in groups for _ in group.rows],
        [snapshot.key(row) for row in rows],
        rows,
        [distance for _, group in groups for distance in group.distances.tolist()],
        [snapshot.shard(row) for row in rows],
    ]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    try:
        with publish(path) as partial:
            parquet.write_table(pa.Table.from_arrays(arrays, schema=schema), partial)
    except OSError as err:
        raise write_failed(path, err) from err
