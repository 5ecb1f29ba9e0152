"""Rows that a code file holds."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from encoder.bits import Bits, Codes
from encoder.codes.file import USER_BLOCK, CodeFile, open_codes
from encoder.codes.header import CodeHeader
from encoder.codes.label_columns import LabelColumn
from encoder.codes.strings import TextColumn
from encoder.images.labels.values import LabelKind
from encoder.images.shards import relative_to
from encoder.levels import Level
from encoder.runtime.files import open_regular
from indexer.matches import Rows
from indexer.storage.manifest import ShardSpan
from indexer.storage.row_source import Places
from indexer.storage.row_table import KeyHashes, hash_keys


class CodeFileRows:
    """Rows of a code file that has been proven whole.

    Args:
        path: of the file.
        header: its own, with the path of its shard as it is now.
        index: folder of the index that they go to.
        kept: int64[n], ascending, the rows of the file that count; None: all.
        hashes: of their keys; None: they are found when they are wanted.
    """

    def __init__(
        self, path: Path, header: CodeHeader, index: Path, kept: Rows | None = None, hashes: KeyHashes | None = None
    ) -> None:
        self.path, self.header, self._index, self._kept, self._hashes = path, header, index, kept, hashes
        self.name, self.bits = str(path), header.bits
        self.rows = header.rows if kept is None else len(kept)
        self._file: CodeFile | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the file open."""
        with open_codes(self.path, proven=True) as file:
            self._file = file
            try:
                yield
            finally:
                self._file = None

    def codes(self, level: Level, start: int, stop: int) -> Codes:
        """Return uint8[stop - start, nbits / 8]."""
        with self._opened() as file:
            if self._kept is None or start == stop:
                return file.codes(level, start, stop)
            kept = self._kept[start:stop]
            first = int(kept[0])
            codes: Codes = file.codes(level, first, int(kept[-1]) + 1)[kept - first]
            return codes

    def keys(self) -> TextColumn:
        """Return the key of each row."""
        with self._opened() as file:
            return file.keys() if self._kept is None else file.keys().take(self._kept)

    def hashes(self) -> KeyHashes:
        """Return `hash_keys` of the keys; they are kept."""
        if self._hashes is None:
            self._hashes = hash_keys(self.keys())
        return self._hashes

    def places(self) -> Places:
        """Return the place of each row's image."""
        with self._opened() as file:
            return file.places() if self._kept is None else file.places()[self._kept]

    def label_fields(self) -> dict[str, LabelKind]:
        """Return the kind of each label that the file has."""
        with self._opened() as file:
            return file.label_fields()

    def label(self, name: str) -> LabelColumn:
        """Return one of these labels over the rows."""
        with self._opened() as file:
            return file.label(name) if self._kept is None else file.label(name).take(self._kept)

    def spans(self) -> list[ShardSpan]:
        """Return the shard of the file."""
        if not self.rows:
            return []
        shard = self.header.shard
        relative = relative_to(self._index, shard.path)
        return [ShardSpan(0, shard.kind, shard.path, shard.key_prefix, relative, self.path.name, seal_of(self.path))]

    def only(self, keep: Bits) -> "CodeFileRows":
        """Return a source of some of the rows."""
        if keep.all():
            return self
        kept = np.flatnonzero(keep) if self._kept is None else self._kept[keep]
        return CodeFileRows(self.path, self.header, self._index, kept, self.hashes()[keep])

    @contextmanager
    def _opened(self) -> Iterator[CodeFile]:
        if self._file is not None:
            yield self._file
        else:
            with open_codes(self.path, proven=True) as file:
                yield file


def seal_of(path: Path) -> str:
    """Return the SHA-256 of a code file's user block, which changes with every byte of the file."""
    with open_regular(path) as file:
        return hashlib.sha256(file.read(USER_BLOCK)).hexdigest()
