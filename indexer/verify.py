"""Proof that an index is what its builder wrote: every digest, every count."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from encoder.errors import HashgrainError, Reason
from encoder.runtime.publish import sha256_of
from indexer.snapshot import Snapshot
from indexer.storage.row_table import hash_keys
from indexer.storage.segment import Segment

PROBED_KEYS = 1000
"""Keys that are looked up again, spread over the rows; all hashes are compared anyway."""


def verify(path: Path, progress: Callable[[float, float, str], None]) -> Snapshot:
    """Check an index in full and return it.

    Args:
        path: folder of the index.
        progress: called with bytes read, bytes to read and the file at hand.

    Raises:
        HashgrainError: `index-missing`, or `index-damaged` with the first thing that is wrong.
    """
    index = Snapshot(path)
    files = index.manifest.files
    total, done = sum(size for size, _ in files.values()), 0
    for name, (size, digest) in files.items():
        progress(done, total, name)
        if sha256_of(index.folder / name) != digest:
            raise _wrong(path, f"{name} does not match its SHA-256")
        done += size
    if files.get(str(index.manifest.model), (0, index.manifest.fingerprint))[1] != index.manifest.fingerprint:
        raise _wrong(path, "its model is not the one that made its codes")
    for segment in index.segments:
        _verify_segment(path, segment)
    return index


def _verify_segment(path: Path, segment: Segment) -> None:
    rows, table = segment.record.rows, segment.table
    for level, part in segment.levels.items():
        _ = part.flat  # opening compares counts
        if part.postings is not None and (fault := part.postings.fault()):
            raise _wrong(path, f"{level}: {fault}")
        if part.ivf is not None and (fault := part.ivf.fault()):
            raise _wrong(path, f"{level}: {fault}")
    if fault := table.keys.fault():
        raise _wrong(path, f"keys: {fault}")
    for row in np.linspace(0, rows - 1, min(rows, PROBED_KEYS)).astype(int).tolist():
        if table.find(table.keys[row]) != row:
            raise _wrong(path, f"key {table.keys[row]!r} does not lead back to row {row}")
    if not np.array_equal(np.sort(hash_keys(table.keys)), table.sorted_hashes):
        raise _wrong(path, "its key hashes are not those of its keys")


def _wrong(path: Path, why: str) -> HashgrainError:
    return HashgrainError(Reason.INDEX_DAMAGED, f"index {path} is damaged: {why}; build it again")
