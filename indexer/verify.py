"""Proof that an index is what its builder wrote: every digest, every count, and that its files agree with each other."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from encoder.bits import Codes, hamming
from encoder.codes.strings import TextColumn, TextsColumn
from encoder.errors import HashgrainError, Reason, unreadable, why
from encoder.model.tensor_file import METADATA_KEY, UNREADABLE, read_tensor_header
from encoder.plural import plural
from encoder.runtime.publish import sha256_of
from indexer.engines.faiss_file import lists_layout
from indexer.settings import Trust, Verify
from indexer.snapshot import Snapshot
from indexer.storage.row_table import KeyHashes, hash_keys
from indexer.storage.segment import LevelPart, Segment

PROBED = 1000
"""Keys that are looked up again, and codes whose nearest list is found again, spread over the rows; all else is compared."""


def verify(path: Path, progress: Callable[[float, float, str], None]) -> Snapshot:
    """Check an index in full and return it.

    Args:
        path: folder of the index.
        progress: called with bytes read, bytes to read and the file at hand.

    Raises:
        HashgrainError: `index-missing`, or `index-damaged` with the first thing that is wrong.
    """
    index = Snapshot(path, trust=Trust(Verify.OFF))  # every digest is read here, once
    files = index.manifest.files
    total, done = sum(size for size, _ in files.values()), 0
    for name, (size, digest) in files.items():
        progress(done, total, name)
        try:
            found = sha256_of(index.folder / name)
        except OSError as err:
            raise unreadable(index.folder / name, err, _wrong(path, f"{name} cannot be read ({why(err)})")) from err
        if found != digest:
            raise _wrong(path, f"{name} does not match its SHA-256")
        done += size
    if index.manifest.model is not None:
        _verify_model(path, index, index.manifest.model)
    hashes = [_verify_segment(path, index.folder, segment) for segment in index.segments]
    _verify_keys(path, index, np.concatenate(hashes))
    return index


def _verify_model(path: Path, index: Snapshot, name: str) -> None:
    if index.manifest.files[name][1] != index.manifest.fingerprint:
        raise _wrong(path, "its model is not the one that made its codes")
    try:
        known = METADATA_KEY in read_tensor_header(index.folder / name).metadata
    except (OSError, *UNREADABLE) as err:
        damaged = _wrong(path, f"its model {name} is not a model file ({err})")
        raise (unreadable(index.folder / name, err, damaged) if isinstance(err, OSError) else damaged) from err
    if not known:
        raise _wrong(path, f"its model {name} is not a model file of this program")


def _verify_segment(path: Path, generation: Path, segment: Segment) -> KeyHashes:
    """Return the hash of each key."""
    record, table = segment.record, segment.table
    for level, part in segment.levels.items():
        _ = part.flat  # opening compares counts
        if part.postings is not None and (fault := part.postings.fault()):
            raise _wrong(path, f"{level}: {fault}")
        if part.ivf is not None and (fault := part.ivf.fault() or _lists_fault(part, generation / record.name)):
            raise _wrong(path, f"{level}: {fault}")
    removed = 0 if segment.live is None else record.rows - int(segment.live.sum())
    if removed != record.removed:
        raise _wrong(path, f"{record.name}: {plural(removed, 'row')} removed, {record.removed:,} by its manifest")
    if fault := table.keys.fault():
        raise _wrong(path, f"keys: {fault}")
    for row in _spread(record.rows):
        if table.find(table.keys[row]) != row:
            raise _wrong(path, f"key {table.keys[row]!r} does not lead back to row {row}")
    hashes = hash_keys(table.keys)
    if not np.array_equal(np.sort(hashes), table.sorted_hashes):
        raise _wrong(path, "its key hashes are not those of its keys")
    for field in record.labels:
        if fault := _label_fault(segment, field.name):
            raise _wrong(path, f"label {field.name!r}: {fault}")
    return hashes


def _spread(rows: int) -> list[int]:
    """Return up to `PROBED` rows at like distances."""
    spread: list[int] = np.linspace(0, rows - 1, min(rows, PROBED)).astype(int).tolist()
    return spread


def _label_fault(segment: Segment, name: str) -> str | None:
    column = segment.table.label_column(name)
    if column is None:
        return "it is not there"
    for flags in (column.present, column.values):
        if isinstance(flags, np.ndarray) and flags.dtype == np.bool_ and flags.view(np.uint8).max(initial=0) > 1:
            return "it has values that are neither true nor false"
    return column.values.fault() if isinstance(column.values, TextColumn | TextsColumn) else None


def _lists_fault(part: LevelPart, folder: Path) -> str | None:
    """Say where inverted lists are not those of the flat codes, or None; their ids are known to be each entry once."""
    file, codes = folder / str(part.record.ivf), part.flat.codes
    layout, size = lists_layout(file), codes.shape[1]
    centroids = _codes_at(file, layout.centroids_at, layout.nlist, size)
    list_of, at = np.empty(layout.ntotal, np.int32), layout.lists_at
    for number, count in enumerate(layout.sizes.tolist()):
        ids = np.fromfile(file, np.int64, count, offset=at + count * size)
        if not np.array_equal(codes[ids], _codes_at(file, at, count, size)):
            return f"list {number} holds codes that are not those of its rows"
        list_of[ids] = number
        at += count * (size + ids.itemsize)
    probed = _spread(layout.ntotal)
    distances = hamming(codes[probed], centroids)
    if np.any(distances[np.arange(len(probed)), list_of[probed]] > distances.min(axis=1)):
        return "its lists hold codes that are nearer to others"
    return None


def _codes_at(file: Path, at: int, count: int, size: int) -> Codes:
    return np.fromfile(file, np.uint8, count * size, offset=at).reshape(-1, size)


def _verify_keys(path: Path, index: Snapshot, hashes: KeyHashes) -> None:
    """Raise where a key is live in two rows, of one segment or of two."""
    rows = index.live_rows()
    ordered = rows[np.argsort(hashes[rows], kind="stable")]
    twice = np.flatnonzero(hashes[ordered[1:]] == hashes[ordered[:-1]])
    for at in twice.tolist():
        first, second = (index.key(int(ordered[at + step])) for step in (0, 1))
        if first == second:
            raise _wrong(path, f"key {first!r} stands in two rows, {ordered[at]:,} and {ordered[at + 1]:,}")


def _wrong(path: Path, why: str) -> HashgrainError:
    return HashgrainError(Reason.INDEX_DAMAGED, f"index {path} is damaged: {why}; build it again")
