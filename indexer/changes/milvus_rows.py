"""The rows of an index in a collection of a Milvus server: keys, row numbers, a field of codes per level, labels as JSON."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from encoder.errors import HashgrainError, Reason, not_installed
from encoder.levels import Level
from encoder.plural import plural
from indexer.changes.export_rows import Block, ExportRows

KEY, ROW, LABELS = "key", "row", "labels"
MOST_TEXT: Final = 65_535
"""Bytes of a VARCHAR: https://milvus.io/docs/limitations.md; a JSON field has one more."""
BATCH_ROWS, BATCH_BYTES = 2_000, 4 << 20
"""Of one request; a server takes 64 MiB."""
_COUNT: Final = "count(*)"


@dataclass(frozen=True)
class MilvusCollection:
    """A collection, and the server that has it.

    Raises:
        HashgrainError: `bad-value` for what is not the address of a server.
    """

    name: str
    uri: str
    token: str | None = field(default=None, repr=False)
    """As Milvus takes it: `user:password`, or a key."""
    nlist: int | None = None
    """Inverted lists (BIN_IVF_FLAT); None: every code is compared (BIN_FLAT)."""
    timeout: float = 60.0
    """Seconds that one request may take."""

    def __post_init__(self) -> None:
        if urlsplit(self.uri).scheme not in {"http", "https"} or not self.server:
            raise HashgrainError(
                Reason.BAD_VALUE, "the URI is not the address of a Milvus server; give one like http://HOST:19530"
            )

    @property
    def server(self) -> str:
        """Host and port, without what a URI may hold of secrets."""
        return urlsplit(self.uri).netloc.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class MilvusReport:
    """What was sent."""

    generation: str
    rows: int
    sent: int
    """Of them; the others were there already."""
    fields: tuple[str, ...]


def field_of(level: Level) -> str:
    """Return the field of a level's codes."""
    return f"codes_{level}"


def export_to_milvus(
    index: Path,
    to: MilvusCollection,
    levels: Sequence[Level] | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[float, str], None] = lambda *_: None,
) -> MilvusReport:
    """Send an index to a collection, rows by key; where a run was cut off, send what is missing.

    Args:
        index: folder of the index.
        to: the collection; it is made, or it is one that was begun of the same generation and levels.
        levels: whose codes; None: all.
        overwrite: drop the collection that is there.
        progress: called with a share done and a few words.

    Raises:
        HashgrainError: `bad-value` where pymilvus is not installed, or for a key or labels that are too long for Milvus; `exists`
            for another collection of that name; `write-failed` for what the server refuses, or where it counts other rows in
            the end; `level-unknown`, `index-missing`, `index-damaged`.
    """
    milvus = _pymilvus()
    opened = ExportRows(index, levels)
    with _told(milvus, to, "answer"):
        client = milvus.MilvusClient(uri=to.uri, token=to.token or "", timeout=to.timeout)
    sent = 0
    try:
        with _told(milvus, to, "make it"):
            begun = _begun(milvus, client, to, opened, overwrite=overwrite)
        for block in opened.blocks(progress):
            for rows in batches(block):
                with _told(milvus, to, f"take {plural(len(rows), 'row')} from {rows[0][KEY]!r} on"):
                    new = _missing(client, to.name, rows) if begun else rows
                    if new:
                        client.upsert(to.name, new, timeout=to.timeout)
                sent += len(new)
        with _told(milvus, to, "count its rows"):
            client.flush(to.name, timeout=to.timeout)
            client.load_collection(to.name, timeout=to.timeout)
            [counted] = client.query(to.name, filter="", output_fields=[_COUNT], consistency_level="Strong")
    finally:
        client.close()
    if counted[_COUNT] != opened.count:
        raise HashgrainError(
            Reason.WRITE_FAILED,
            f"collection {to.name!r} at {to.server} has {plural(counted[_COUNT], 'row')}, expected {opened.count:,}; export "
            "again, or replace the collection",
        )
    return MilvusReport(opened.generation, opened.count, sent, (KEY, ROW, *map(field_of, opened.bits), LABELS))


def _begun(milvus: Any, client: Any, to: MilvusCollection, opened: ExportRows, *, overwrite: bool) -> bool:
    """Make the collection, unless it was begun of the same rows, and return whether it was."""
    said = json.dumps({"hashgrain": opened.generation, "pointer": hashlib.sha256(opened.pointer).hexdigest()})
    if client.has_collection(to.name):
        if not overwrite:
            _check_same(client.describe_collection(to.name), to.name, said, opened.bits)
            return True
        client.drop_collection(to.name, timeout=to.timeout)
    schema, params = _schema(milvus, opened.bits, said), _index(milvus, opened.bits, to.nlist)
    client.create_collection(
        to.name, schema=schema, index_params=params, consistency_level="Strong", timeout=to.timeout
    )
    return False


def batches(block: Block) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a block as Milvus takes them, in parts of at most `BATCH_ROWS` rows and some `BATCH_BYTES`.

    Raises:
        HashgrainError: `bad-value` for a key or labels that are too long.
    """
    labels = {name: column.to_list() for name, column in block.labels.items()}
    batch, size = list[dict[str, Any]](), 0
    for at, (row, key) in enumerate(zip(block.rows.tolist(), block.keys, strict=True)):
        own = {name: values[at] for name, values in labels.items() if values[at] is not None}
        longest = max(len(key.encode()), text := len(json.dumps(own).encode()))
        if longest > MOST_TEXT:
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"{'labels' if text == longest else 'the key'} of {key[:80]!r} have {longest:,} bytes, Milvus takes {MOST_TEXT:,}; "
                "export to files or to Lance",
            )
        codes = {field_of(level): of_level[at].tobytes() for level, of_level in block.codes.items()}
        batch.append({KEY: key, ROW: row, LABELS: own, **codes})
        size += len(key) + text + sum(map(len, codes.values()))
        if len(batch) == BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _pymilvus() -> Any:
    try:
        import pymilvus
    except ImportError as err:
        raise not_installed("an export to Milvus", "pymilvus", "milvus", err) from err
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs what it raises
    return pymilvus


def _schema(milvus: Any, bits: dict[Level, int], said: str) -> Any:
    schema = milvus.MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False, description=said)
    kinds = milvus.DataType
    schema.add_field(KEY, kinds.VARCHAR, is_primary=True, max_length=MOST_TEXT)
    schema.add_field(ROW, kinds.INT64)
    for level, nbits in bits.items():
        schema.add_field(field_of(level), kinds.BINARY_VECTOR, dim=nbits)
    schema.add_field(LABELS, kinds.JSON)
    return schema


def _index(milvus: Any, bits: dict[Level, int], nlist: int | None) -> Any:
    params = milvus.MilvusClient.prepare_index_params()
    for level in bits:
        how = (
            {"index_type": "BIN_FLAT"} if nlist is None else {"index_type": "BIN_IVF_FLAT", "params": {"nlist": nlist}}
        )
        params.add_index(field_of(level), metric_type="HAMMING", **how)
    return params


def _check_same(there: dict[str, Any], collection: str, said: str, bits: dict[Level, int]) -> None:
    """Refuse a collection that is not one begun of the same rows."""
    codes = {each["name"]: each["params"]["dim"] for each in there["fields"] if "dim" in each["params"]}
    if there["description"] != said or codes != {field_of(level): nbits for level, nbits in bits.items()}:
        raise HashgrainError(
            Reason.EXISTS,
            f"collection {collection!r} exists and is not of this generation and these levels; choose another name, or replace it",
        )


def _missing(client: Any, collection: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows whose keys the collection does not have."""
    found = client.get(collection, ids=[row[KEY] for row in rows], output_fields=[KEY])
    there = {each[KEY] for each in found}
    return [row for row in rows if row[KEY] not in there]


@contextmanager
def _told(milvus: Any, to: MilvusCollection, what: str) -> Iterator[None]:
    """Raise what Milvus refuses as one line."""
    try:
        yield
    except milvus.MilvusException as err:
        reason = str(err.message or err).strip().partition("\n")[0]
        raise HashgrainError(
            Reason.WRITE_FAILED,
            f"collection {to.name!r}: Milvus at {to.server} did not {what}: {reason}; look at the server, and export again "
            "to go on",
        ) from err
