"""What a row of an index is: its key, its place in a shard and its labels; and the way back from a key to its row."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from encoder.bits import Bits
from encoder.codes.label_columns import LabelColumn
from encoder.codes.strings import TextColumn
from encoder.errors import HashgrainError, Reason
from encoder.images.labels.values import Labels
from indexer.matches import Rows
from indexer.storage.columns import map_column, map_text
from indexer.storage.digests import Prove
from indexer.storage.labels import LabelField, LabelStore

KeyHashes = npt.NDArray[np.uint64]
"""uint64[n], see `hash_keys`."""


def hash_keys(keys: Iterable[str]) -> KeyHashes:
    """Return uint64[n]: the first 8 bytes of each key's BLAKE2b, lowest first."""
    encoded = keys.encoded() if isinstance(keys, TextColumn) else (key.encode() for key in keys)
    digests = b"".join([hashlib.blake2b(key, digest_size=8).digest() for key in encoded])
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64, copy=False)


class AskedKeys(NamedTuple):
    """Keys whose rows are looked for, sorted once for however many segments: neighbours lie near each other in a file."""

    texts: TextColumn
    order: Rows
    """int64[n], the numbers of the keys in the order of their hashes."""
    hashes: KeyHashes
    """uint64[n], ascending."""

    @classmethod
    def of(cls, keys: Sequence[str] | TextColumn, hashes: KeyHashes | None = None) -> "AskedKeys":
        """Sort keys.

        Args:
            keys: any number; bytes of a command line that are not text are keys that nobody has.
            hashes: their `hash_keys`, where the caller has them already; None: they are found here.
        """
        texts = keys if isinstance(keys, TextColumn) else TextColumn.of(map(_as_text, keys))
        hashes = hash_keys(texts) if hashes is None else hashes
        order = np.argsort(hashes)
        return cls(texts, order, hashes[order])


class RowTable:
    """Keys, places and labels of an index's rows, mapped: nothing is read before it is asked for.

    Args:
        folder: of the segment.
        rows: how many there must be.
        fields: labels, as `write_rows` returned them.
        prove: see `Prove`.
    """

    def __init__(self, folder: Path, rows: int, fields: Sequence[LabelField], prove: Prove = lambda _: None) -> None:
        self.rows, self._folder, self._fields, self._prove = rows, folder, fields, prove

    @cached_property
    def keys(self) -> TextColumn:
        """The key of each row."""
        self._prove("keys.offsets.npy")
        self._prove("keys.text.npy")
        return map_text(self._folder, "keys", self.rows)

    @cached_property
    def places(self) -> npt.NDArray[np.uint64]:
        """uint64[rows, 2], offset and size in bytes of each image in its shard."""
        return self._column("places.npy", np.uint64, 2)

    @cached_property
    def sorted_hashes(self) -> KeyHashes:
        """uint64[rows], `hash_keys` of all keys, ascending."""
        return self._column("keys.hashes.npy", np.uint64)

    @cached_property
    def order(self) -> Rows:
        """int64[rows], the row of each of these."""
        return self._column("keys.order.npy", np.int64)

    @cached_property
    def label_store(self) -> LabelStore:
        """The labels of all rows."""
        return LabelStore(self._folder, self.rows, self._fields, self._prove)

    def _column(self, name: str, dtype: npt.DTypeLike, *width: int) -> npt.NDArray[Any]:
        self._prove(name)
        return map_column(self._folder / name, dtype, (self.rows, *width))

    def open_all(self) -> None:
        """Map every file.

        Raises:
            HashgrainError: `index-damaged`.
        """
        _ = self.keys, self.places, self.sorted_hashes, self.order
        self.label_store.open_all()

    def find(self, key: str) -> int | None:
        """Return the row of a key; None when it is not there. As `rows_of`, which takes five times as long for one."""
        text = _as_text(key).encode()
        hashed = np.uint64(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"))
        hashes, keys = self.sorted_hashes, self.keys
        at = int(hashes.searchsorted(hashed))
        while at < self.rows and hashes[at] == hashed:
            row = int(self.order[at])
            if not 0 <= row < self.rows:
                raise self._astray()
            start, stop = int(keys.offsets[row]), int(keys.offsets[row + 1])
            if start <= stop <= len(keys.text) and keys.text[start:stop].tobytes() == text:
                return row
            at += 1  # keys that differ may share a hash
        return None

    def rows_of(self, asked: AskedKeys) -> Rows:
        """Return int64[n], the row of each key, -1 for those that are not there."""
        rows = np.full(len(asked.texts), -1, dtype=np.int64)
        if not self.rows:
            return rows
        numbers, hashes, places = asked.order, asked.hashes, np.searchsorted(self.sorted_hashes, asked.hashes)
        while len(numbers):
            there = self.sorted_hashes[np.minimum(places, self.rows - 1)] == hashes
            there &= places < self.rows
            numbers, hashes, places = numbers[there], hashes[there], places[there]
            candidates = self.order[places]
            if (candidates.view(np.uint64) >= self.rows).any():
                raise self._astray()
            same = _same(asked.texts, numbers, self.keys, candidates)
            rows[numbers[same]] = candidates[same]
            # of keys that differ and share a hash
            numbers, hashes, places = numbers[~same], hashes[~same], places[~same] + 1
        return rows

    def _astray(self) -> HashgrainError:
        return HashgrainError(
            Reason.INDEX_DAMAGED,
            f"{self._folder / 'keys.order.npy'} leads out of the {self.rows:,} rows; build the index again",
        )

    def label_column(self, name: str) -> LabelColumn | None:
        """Return a label over the rows; None where no row has it."""
        return self.label_store.column(name)

    def labels(self, row: int) -> Labels:
        """Return the labels that a row has."""
        return self.label_store.of_row(row)


def _as_text(key: str) -> str:
    """Return a key, and one that nobody has for bytes that are not text, as a command line may give them."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return "\0"
    return key


def _same(texts: TextColumn, some: Rows, keys: TextColumn, rows: Rows) -> Bits:
    """Return bool[n], whether text some[i] is key rows[i], without making strings of them."""
    starts, stops, others, ends = (
        column.offsets[numbers + step].astype(np.int64)
        for column, numbers in ((texts, some), (keys, rows))
        for step in (0, 1)
    )
    same: Bits = (stops - starts == ends - others) & (others >= 0) & (ends <= len(keys.text))
    sizes = np.where(same, stops - starts, 0)
    pair = np.repeat(np.arange(len(sizes)), sizes)
    within = np.arange(len(pair)) - (np.cumsum(sizes) - sizes)[pair]
    same[pair[texts.text[starts[pair] + within] != keys.text[others[pair] + within]]] = False
    return same
