"""Code files in, an index out: one generation, written whole and made current at once."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from encoder.bits import Codes
from encoder.codes.file import open_codes
from encoder.codes.header import CodeHeader
from encoder.errors import HashgrainError, Reason
from encoder.images.limits import Limits
from encoder.images.shards import relative_to
from encoder.levels import Level
from encoder.model.spec import MODEL_NAME
from encoder.runtime.files import exists
from encoder.runtime.publish import exclusive, sha256_of
from indexer.settings import BuildSettings, OnDuplicate
from indexer.storage.generation import publish_generation
from indexer.storage.labels import LabelField
from indexer.storage.level_writer import write_level
from indexer.storage.manifest import POINTER, LevelRecord, Manifest, SegmentRecord, ShardSpan
from indexer.storage.row_table import KeyHashes, hash_keys
from indexer.storage.row_writer import KeptRows, settle_labels, write_rows

SEGMENT = "segment-000"
BLOCK_ROWS = 1 << 18


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What was built."""

    generation: str
    rows: int
    duplicates: int
    """Rows left out because another one has their key."""
    levels: dict[Level, LevelRecord]
    bytes: int
    """Of all files of the generation."""
    has_model: bool
    notices: tuple[str, ...] = ()
    """What a person should know of the labels: fields that are of several kinds, and those that were left out."""


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
        HashgrainError: `codes-damaged`, `codes-mismatch`, `codes-missing`, `codes-twice`, `duplicate-keys`,
            `level-unknown`, `exists`, `busy`, `shard-damaged`, `too-new`, `write-failed`.
    """
    _check_vacant(index, settings)
    headers = _headers(files, settings)
    with exclusive(index):
        _check_vacant(index, settings)  # proving the files takes minutes, in which another build may have been quicker
        kept, hashes, duplicates = _kept_rows(headers, settings)
        fields, notices = settle_labels(kept)

        def write(folder: Path) -> Manifest:
            progress(0.0, "keys, places and labels")
            (folder / SEGMENT).mkdir()
            write_rows(folder / SEGMENT, kept, hashes, fields)
            return _write_levels(folder, headers, kept, fields, settings, progress)

        name, manifest = publish_generation(index, write, {})
    size, has_model = sum(size for size, _ in manifest.files.values()), manifest.model is not None
    return BuildReport(name, len(hashes), duplicates, manifest.segments[0].levels, size, has_model, tuple(notices))


def _check_vacant(index: Path, settings: BuildSettings) -> None:
    if exists(index / POINTER) and not settings.overwrite:
        raise HashgrainError(Reason.EXISTS, f"{index} holds an index; choose another folder, or overwrite it")


def _headers(files: Sequence[Path], settings: BuildSettings) -> dict[Path, CodeHeader]:
    """Prove every code file whole and alike."""
    headers: dict[Path, CodeHeader] = {}
    for path in files:
        with open_codes(path) as file:
            shard = file.header.shard
            found = replace(shard, path=shard.found_from(path.parent))
            header = headers[path] = replace(file.header, shard=found)
        first = headers[files[0]]
        if header.fingerprint != first.fingerprint:
            raise HashgrainError(
                Reason.CODES_MISMATCH,
                f"{path} was made by model {header.fingerprint[:12]}, {files[0]} by {first.fingerprint[:12]}; "
                "encode all shards with one model",
            )
        if header.bits != first.bits:
            raise HashgrainError(
                Reason.CODES_MISMATCH,
                f"{path} has {_bits(header)}, {files[0]} has {_bits(first)}; encode all shards with one model and the same levels",
            )
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


def _bits(header: CodeHeader) -> str:
    return ", ".join(f"{level} {nbits} bits" for level, nbits in header.bits.items())


def _kept_rows(headers: dict[Path, CodeHeader], settings: BuildSettings) -> tuple[KeptRows, KeyHashes, int]:
    """Find rows whose key an earlier row has (a later one, if those replace), and refuse them or leave them out."""
    parts = []
    for path in headers:
        with open_codes(path, proven=True) as file:
            parts.append(hash_keys(file.keys()))
    hashes = np.concatenate(parts)
    order = np.argsort(hashes, kind="stable")
    again = np.zeros(len(hashes), dtype=np.bool_)
    left_out = order[:-1] if settings.on_duplicate is OnDuplicate.REPLACE else order[1:]
    again[left_out] = hashes[order[1:]] == hashes[order[:-1]]
    bounds = np.cumsum([header.rows for header in headers.values()])[:-1]
    kept = dict(zip(headers, np.split(~again, bounds), strict=True))
    if again.any() and settings.on_duplicate is OnDuplicate.ERROR:
        raise _duplicates(headers, np.split(hashes, bounds), kept, int(again.sum()))
    return kept, hashes[~again], int(again.sum())


def _duplicates(
    headers: dict[Path, CodeHeader], hashes: Sequence[KeyHashes], kept: KeptRows, count: int
) -> HashgrainError:
    """Return the error of keys that are repeated: with the first, its two code files, and what each cause is mended by."""
    paths = list(headers)
    later = next(path for path in paths if not kept[path].all())
    row = int(np.flatnonzero(~kept[later])[0])
    repeated = hashes[paths.index(later)][row]
    earlier = next(path for path, of_file in zip(paths, hashes, strict=True) if (of_file == repeated).any())
    with open_codes(later, proven=True) as file:
        key = file.keys()[row]
    shards = [headers[path].shard for path in (earlier, later)]
    found = f"{count:,} keys stand in more than one row, first {key!r} in {earlier} and {later}"
    if shards[0].path == shards[1].path:
        old = min(earlier, later, key=lambda path: path.stat().st_mtime_ns)
        return HashgrainError(
            Reason.CODES_TWICE,
            f"{found}, both of the shard {shards[0].path}: one is left from an earlier run, by their times {old}; take it away",
        )
    same = shards[0].size and (shards[0].size, shards[0].sha256) == (shards[1].size, shards[1].sha256)
    remedy = "which hold the same; take one file away" if same else "which are not the same; encode with prefixed keys"
    return HashgrainError(
        Reason.DUPLICATE_KEYS,
        f"{found}, of the shards {shards[0].path} and {shards[1].path}, {remedy}, or build with the first of each key",
    )


def _write_levels(
    folder: Path,
    headers: dict[Path, CodeHeader],
    kept: KeptRows,
    fields: list[LabelField],
    settings: BuildSettings,
    progress: Callable[[float, str], None],
) -> Manifest:
    """Write the codes of every level and the model, and return the manifest of the generation."""
    first, rows = next(iter(headers.values())), sum(int(keep.sum()) for keep in kept.values())
    wanted, levels = settings.levels or tuple(first.bits), dict[Level, LevelRecord]()
    for level in wanted:
        share = len(levels) / len(wanted)

        def part(done: float, what: str, share: float = share) -> None:
            progress(share + done / len(wanted), what)

        levels[level] = write_level(
            folder / SEGMENT / level, first.bits[level], rows, _blocks(kept, level), settings, part
        )
    has_model = _take_model(next(iter(headers)).parent, folder, first.fingerprint)
    return Manifest(
        fingerprint=first.fingerprint,
        precision=_precision(headers),
        model=MODEL_NAME if has_model else None,
        segments=[SegmentRecord(SEGMENT, rows, levels, fields, _spans(folder.parent, headers, kept))],
        files={},
        limits=_limits(headers),
        kind=settings.kind,
        dedupe=settings.dedupe,
        seed=settings.seed,
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


def _limits(headers: dict[Path, CodeHeader]) -> Limits:
    limits = [header.rules.limits for header in headers.values()]
    return Limits(max(each.max_bytes for each in limits), max(each.max_pixels for each in limits))


def _spans(index: Path, headers: dict[Path, CodeHeader], kept: KeptRows) -> list[ShardSpan]:
    spans, row = [], 0
    for path, header in headers.items():
        shard = header.shard
        spans.append(ShardSpan(row, shard.kind, shard.path, shard.key_prefix, relative_to(index, shard.path)))
        row += int(kept[path].sum())
    return spans


def _take_model(codes: Path, folder: Path, fingerprint: str) -> bool:
    """Copy the model that stands beside the codes, if it is the one that made them."""
    model = codes / MODEL_NAME
    if not model.is_file() or sha256_of(model) != fingerprint:
        return False
    shutil.copyfile(model, folder / MODEL_NAME)
    return True
