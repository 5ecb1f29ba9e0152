"""What a row of an index is: its key, its place in a shard and its labels; and the way back from a key to its row."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from encoder.codes.label_columns import LabelColumn
from encoder.images.labels.values import Labels
from indexer.storage.columns import map_column, map_text
from indexer.storage.digests import Prove
from indexer.storage.labels import LabelField, LabelStore
from indexer.storage.manifest import COLUMNS

KeyHashes = npt.NDArray[np.uint64]
"""uint64[n], see `hash_keys`."""


def hash_keys(keys: Iterable[str]) -> KeyHashes:
    """Return uint64[n]: the first 8 bytes of each key's BLAKE2b, lowest first."""
    digests = b"".join(hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64, copy=False)


class RowTable:
    """Keys, places and labels of an index's rows, mapped: nothing is read before it is asked for.

    Args:
        folder: of the segment.
        rows: how many there must be.
        fields: labels, as `write_rows` returned them.
        prove: see `Prove`.
    """

    def __init__(self, folder: Path, rows: int, fields: Sequence[LabelField], prove: Prove = lambda _: None) -> None:
        self.rows = rows
        for name in COLUMNS:
            prove(name)
        self.keys = map_text(folder, "keys", rows)
        self.places: npt.NDArray[np.uint64] = map_column(folder / "places.npy", np.uint64, (rows, 2))
        self.sorted_hashes = map_column(folder / "keys.hashes.npy", np.uint64, (rows,))
        self._order = map_column(folder / "keys.order.npy", np.int64, (rows,))
        self.label_store = LabelStore(folder, rows, fields, prove)

    def find(self, key: str) -> int | None:
        """Return the row of a key, by binary search over the sorted hashes; None when it is not there."""
        try:
            wanted = hash_keys([key])[0]
        except UnicodeEncodeError:  # as a command line gives bytes that are not text; no key holds any
            return None
        at = int(np.searchsorted(self.sorted_hashes, wanted))
        while at < self.rows and self.sorted_hashes[at] == wanted:
            row = int(self._order[at])
            if self.keys[row] == key:
                return row
            at += 1
        return None

    def label_column(self, name: str) -> LabelColumn | None:
        """Return a label over the rows; None where no row has it."""
        return self.label_store.column(name)

    def labels(self, row: int) -> Labels:
        """Return the labels that a row has."""
        return self.label_store.of_row(row)
