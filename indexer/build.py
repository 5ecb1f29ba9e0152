"""Code files in, an index out: one generation, written whole and made current at once."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoder.bits import Codes
from encoder.codes.file import CodeHeader, open_codes
from encoder.codes.strings import TextColumn
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from encoder.model.spec import MODEL_NAME
from encoder.runtime.files import exists
from encoder.runtime.publish import exclusive, sha256_of
from indexer.settings import BuildSettings, OnDuplicate
from indexer.storage.generation import publish_generation
from indexer.storage.level_writer import write_level
from indexer.storage.manifest import POINTER, LevelRecord, Manifest, SegmentRecord, ShardSpan
from indexer.storage.row_table import KeyHashes, hash_keys
from indexer.storage.row_writer import KeptRows, write_rows

SEGMENT = "segment-000"
BLOCK_ROWS = 1 << 18


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What was built."""

    generation: str
    rows: int
    duplicates: int
    """Rows left out because an earlier one has their key."""
    levels: dict[Level, LevelRecord]
    bytes: int
    """Of all files of the generation."""
    has_model: bool


def build(
    files: Sequence[Path],
    index: Path,
    settings: BuildSettings,
    progress: Callable[[float, str], None] = lambda *_: None,
) -> BuildReport:
    """Build an index from code files; a row is a position over all of them in the order given.

    Args:
        files: code files, from `encoder.codes.file.list_code_files`.
        index: folder of the index.
        settings: how.
        progress: called with a share done and a few words.

    Raises:
        HashgrainError: `codes-damaged`, `codes-mismatch`, `level-unknown`, `duplicate-keys`, `exists`, `busy`,
            `shard-damaged`, `write-failed`.
    """
    _check_vacant(index, settings)
    headers = _headers(files, settings)
    with exclusive(index):
        _check_vacant(index, settings)  # proving the files takes minutes, in which another build may have been quicker
        kept, hashes, duplicates = _kept_rows(headers, settings)
        name, manifest = publish_generation(
            index, lambda folder: _write_generation(folder, headers, kept, hashes, settings, progress), {}
        )
    size = sum(size for size, _ in manifest.files.values())
    return BuildReport(name, len(hashes), duplicates, manifest.segments[0].levels, size, manifest.model is not None)


def _check_vacant(index: Path, settings: BuildSettings) -> None:
    if exists(index / POINTER) and not settings.overwrite:
        raise HashgrainError(Reason.EXISTS, f"{index} holds an index; choose another folder, or overwrite it")


def _headers(files: Sequence[Path], settings: BuildSettings) -> dict[Path, CodeHeader]:
    """Prove every code file whole and alike."""
    headers: dict[Path, CodeHeader] = {}
    for path in files:
        with open_codes(path) as file:
            header = headers[path] = file.header
        first = headers[files[0]]
        if header.fingerprint != first.fingerprint:
            raise HashgrainError(
                Reason.CODES_MISMATCH,
                f"{path} was made by model {header.fingerprint[:12]}, {files[0]} by {first.fingerprint[:12]}; "
                "encode all shards with one model",
            )
        if header.bits != first.bits:
            raise HashgrainError(Reason.CODES_MISMATCH, f"{path} has bits {header.bits}, {files[0]} has {first.bits}")
        if header.shard.damage and not settings.allow_damaged:
            raise HashgrainError(
                Reason.SHARD_DAMAGED,
                f"{path} holds what was readable of a damaged shard ({header.shard.damage}); mend {header.shard.path} and "
                "encode it again, or allow damaged shards",
            )
    for level in settings.levels or ():
        if level not in headers[files[0]].bits:
            has = ", ".join(headers[files[0]].bits)
            raise HashgrainError(Reason.LEVEL_UNKNOWN, f"level {level} is not in {files[0]} (has: {has}); name those")
    return headers


def _kept_rows(headers: dict[Path, CodeHeader], settings: BuildSettings) -> tuple[KeptRows, KeyHashes, int]:
    """Find rows whose key an earlier row has, and refuse them or leave them out."""
    parts = []
    for path in headers:
        with open_codes(path, proven=True) as file:
            parts.append(hash_keys(file.keys()))
    hashes = np.concatenate(parts)
    order = np.argsort(hashes, kind="stable")
    again = np.zeros(len(hashes), dtype=np.bool_)
    again[order[1:]] = hashes[order[1:]] == hashes[order[:-1]]
    bounds = np.cumsum([header.rows for header in headers.values()])[:-1]
    kept = dict(zip(headers, np.split(~again, bounds), strict=True))
    if again.any() and settings.on_duplicate is OnDuplicate.ERROR:
        key, path = next((file_key, path) for path, keep in kept.items() for file_key in _left_out(path, keep))
        raise HashgrainError(
            Reason.DUPLICATE_KEYS,
            f"{int(again.sum()):,} keys stand in more than one row, first {key!r} in {path}; encode with "
            "prefixed keys, or build with the first of each",
        )
    return kept, hashes[~again], int(again.sum())


def _left_out(path: Path, keep: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Iterator[str]:
    with open_codes(path, proven=True) as file:
        keys: TextColumn = file.keys()
        yield from (keys[row] for row in np.flatnonzero(~keep).tolist())


def _write_generation(
    folder: Path,
    headers: dict[Path, CodeHeader],
    kept: KeptRows,
    hashes: KeyHashes,
    settings: BuildSettings,
    progress: Callable[[float, str], None],
) -> Manifest:
    segment = folder / SEGMENT
    segment.mkdir()
    first = next(iter(headers.values()))
    progress(0.0, "keys, places and labels")
    fields = write_rows(segment, kept, hashes)
    wanted, levels = settings.levels or tuple(first.bits), dict[Level, LevelRecord]()
    for level in wanted:
        share = len(levels) / len(wanted)

        def part(done: float, what: str, share: float = share) -> None:
            progress(share + done / len(wanted), what)

        levels[level] = write_level(
            segment / level, first.bits[level], len(hashes), _blocks(kept, level), settings, part
        )
    has_model = _take_model(next(iter(headers)).parent, folder, first.fingerprint)
    return Manifest(
        fingerprint=first.fingerprint,
        precision=_precision(headers),
        model=MODEL_NAME if has_model else None,
        segments=[SegmentRecord(SEGMENT, len(hashes), levels, fields, _spans(headers, kept))],
        files={},
    )


def _blocks(kept: KeptRows, level: Level) -> Iterator[Codes]:
    for path, keep in kept.items():
        with open_codes(path, proven=True) as file:
            for start in range(0, len(keep), BLOCK_ROWS):
                part = keep[start : start + BLOCK_ROWS]
                yield file.codes(level, start, start + len(part))[part]


def _precision(headers: dict[Path, CodeHeader]) -> str:
    """Return what most rows were coded in: the bits of one photo differ by 0.2 % between two, so a query may take either."""
    rows: Counter[str] = Counter()
    for header in headers.values():
        rows[header.precision] += header.rows
    return rows.most_common(1)[0][0]


def _spans(headers: dict[Path, CodeHeader], kept: KeptRows) -> list[ShardSpan]:
    spans, row = [], 0
    for path, header in headers.items():
        spans.append(ShardSpan(row, header.shard.kind, header.shard.path, header.shard.key_prefix))
        row += int(kept[path].sum())
    return spans


def _take_model(codes: Path, folder: Path, fingerprint: str) -> bool:
    """Copy the model that stands beside the codes, if it is the one that made them."""
    model = codes / MODEL_NAME
    if not model.is_file() or sha256_of(model) != fingerprint:
        return False
    shutil.copyfile(model, folder / MODEL_NAME)
    return True
