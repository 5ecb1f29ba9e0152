"""Code files in, an index out: one generation, written whole and made current at once."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from encoder.bits import Bits, Codes
from encoder.codes.file import open_codes
from encoder.codes.gone import missing_shards
from encoder.codes.header import CodeHeader
from encoder.errors import HashgrainError, Reason, why
from encoder.images.limits import Limits
from encoder.levels import Level
from encoder.model.spec import MODEL_NAME
from encoder.plural import plural
from encoder.runtime.files import exists
from encoder.runtime.publish import exclusive, sha256_of
from indexer.engines.faiss_cpu import TRAIN_PER_LIST, train
from indexer.settings import BuildSettings, OnDuplicate
from indexer.storage.code_file_rows import CodeFileRows
from indexer.storage.current import POINTER
from indexer.storage.generation import NextGeneration, copy_file, next_generation
from indexer.storage.labels import LabelField
from indexer.storage.level_writer import SharedLists, new_lists, wanted_lists
from indexer.storage.manifest import LevelRecord, Manifest, SegmentRecord
from indexer.storage.row_source import RowSource
from indexer.storage.row_table import KeyHashes
from indexer.storage.row_writer import settle_labels
from indexer.storage.segment_writer import blocks, write_segment

STAY: Final = (
    "their code files are still there, so their rows are taken; delete those files, or sync the index with its folder"
)
"""What is said of shards that are gone where rows of code files are taken by name."""


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
    missing: tuple[str, ...] = ()
    """What a person should know of shards that are not where they were."""


class NewIndex(NamedTuple):
    """What is known of an index beside its rows."""

    what: str
    """How its history begins, as `Change.what`."""
    said: Manifest
    """What the manifest says; segments and files are found when they are written."""
    model: Path | None
    """File of the model that made the codes; None: it is not there."""


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
    check_vacant(index, settings)
    headers = prove(files, settings)
    with exclusive(index):
        check_vacant(index, settings)  # proving the files takes minutes, in which another build may have been quicker
        sources = choose([CodeFileRows(path, header, index) for path, header in headers.items()], settings.on_duplicate)
        first = headers[files[0]]
        said = Manifest(
            fingerprint=first.fingerprint,
            precision=_precision(headers.values()),
            model=None,
            segments=[],
            files={},
            limits=limits_of(headers.values()),
            kind=settings.kind,
            dedupe=settings.dedupe,
            seed=settings.seed,
        )
        model = _model_beside(files[0].parent, first.fingerprint)
        written = write_index(index, sources, NewIndex("build", said, model), settings, progress)
    seen = sum(header.rows for header in headers.values())
    missing = tuple(missing_shards(headers).notices(STAY))
    return replace(written, duplicates=seen - written.rows, missing=missing)


def write_index(
    index: Path,
    sources: Sequence[RowSource],
    new_index: NewIndex,
    settings: BuildSettings,
    progress: Callable[[float, str], None],
) -> BuildReport:
    """Write rows as an index; the caller holds its folder.

    Args:
        index: folder of the index.
        sources: in the order of the rows; no two rows have one key.
        new_index: what is known of it beside its rows.
        settings: how.
        progress: called with a share done and a few words.
    """
    fields, notices = settle_labels(sources)
    rows = sum(source.rows for source in sources)
    what, said, model = new_index
    with next_generation(index) as new:
        records = _write_segments(new, sources, fields, settings, progress)
        if model is not None:
            copy_file(model, new.folder / MODEL_NAME)
        manifest = replace(said, segments=records, model=None if model is None else MODEL_NAME)
        manifest = new.publish(manifest, what, added=rows, keep=1)
    size = sum(size for size, _ in manifest.files.values())
    levels = manifest.segments[0].levels
    return BuildReport(new.name, rows, 0, levels, size, model is not None, tuple(notices))


def check_vacant(index: Path, settings: BuildSettings) -> None:
    """Raise `exists` where there is an index that is not to be replaced."""
    if exists(index / POINTER) and not settings.overwrite:
        raise HashgrainError(Reason.EXISTS, f"{index} holds an index; choose another folder, or overwrite it")


def prove(files: Sequence[Path], settings: BuildSettings) -> dict[Path, CodeHeader]:
    """Prove every code file whole and alike, and return their headers, each with the path of its shard as it is now.

    Raises:
        HashgrainError: `codes-damaged`, `codes-mismatch`, `codes-missing`, `level-unknown`, `shard-damaged`, `too-new`.
    """
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


def choose(sources: Sequence[CodeFileRows], on_duplicate: OnDuplicate) -> list[CodeFileRows]:
    """Find rows whose key an earlier row has (a later one, if those replace), and refuse them or leave them out.

    Raises:
        HashgrainError: `codes-twice`, `duplicate-keys`.
    """
    parts = [source.hashes() for source in sources]
    hashes = np.concatenate(parts)
    order = np.argsort(hashes, kind="stable")
    again = np.zeros(len(hashes), dtype=np.bool_)
    left_out = order[:-1] if on_duplicate is OnDuplicate.REPLACE else order[1:]
    again[left_out] = hashes[order[1:]] == hashes[order[:-1]]
    bounds = np.cumsum([source.rows for source in sources])[:-1]
    kept = np.split(~again, bounds)
    if again.any() and on_duplicate is OnDuplicate.ERROR:
        raise _duplicates(sources, parts, kept, int(again.sum()))
    return [source.only(keep) for source, keep in zip(sources, kept, strict=True)]


def _duplicates(
    sources: Sequence[CodeFileRows], hashes: Sequence[KeyHashes], kept: Sequence[Bits], count: int
) -> HashgrainError:
    """Return the error of keys that are repeated: with the first, its two code files, and what each cause is mended by."""
    later = next(number for number, keep in enumerate(kept) if not keep.all())
    row = int(np.flatnonzero(~kept[later])[0])
    repeated = hashes[later][row]
    first = next(number for number, of_file in enumerate(hashes) if (of_file == repeated).any())
    key, earlier, later_path = sources[later].keys()[row], sources[first].path, sources[later].path
    shards = [sources[number].header.shard for number in (first, later)]
    found = f"{plural(count, 'key')} in more than one row, first {key!r} in {earlier} and {later_path}"
    if shards[0].path == shards[1].path:
        old = min(earlier, later_path, key=lambda path: path.stat().st_mtime_ns)
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


def _write_segments(
    new: NextGeneration,
    sources: Sequence[RowSource],
    fields: list[LabelField],
    settings: BuildSettings,
    progress: Callable[[float, str], None],
) -> list[SegmentRecord]:
    """Write the rows as one segment, or as several that share their centroids where one would have too many rows."""
    groups = list(_cut(sources, settings.segment_rows))
    shared = _train(sources, settings) if len(groups) > 1 else None
    records: list[SegmentRecord] = []
    for group in groups:

        def part(done: float, what: str, before: int = len(records)) -> None:
            progress((before + done) / len(groups), what)

        records.append(write_segment(new.folder / new.segment_name(), group, fields, settings, shared, part))
    return records


def _cut(sources: Sequence[RowSource], most: int) -> Iterator[list[RowSource]]:
    """Yield the sources in groups of at most so many rows; one group where there are none."""
    group, room = list[RowSource](), most
    for source in sources:
        start = 0
        while source.rows - start > room:
            group.append(source.only(_range(source.rows, start, start + room)))
            yield group
            start, group, room = start + room, [], most
        group.append(source.only(_range(source.rows, start, source.rows)))
        room -= source.rows - start
    yield group


def _range(rows: int, start: int, stop: int) -> Bits:
    chosen = np.zeros(rows, dtype=np.bool_)
    chosen[start:stop] = True
    return chosen


def _train(sources: Sequence[RowSource], settings: BuildSettings) -> dict[Level, SharedLists]:
    """Train the centroids of the levels that are to have lists on a sample of all rows."""
    rows, bits, shared = sum(source.rows for source in sources), sources[0].bits, dict[Level, SharedLists]()
    for level in settings.levels or tuple(bits):
        if (lists := wanted_lists(rows, settings)) is None:
            continue
        rng = np.random.default_rng(settings.seed)
        chosen = np.sort(rng.permutation(rows)[: TRAIN_PER_LIST * lists.nlist])
        sample, start = list[Codes](), 0
        for block in blocks(sources, level):
            first, last = np.searchsorted(chosen, (start, start + len(block)))
            sample.append(block[chosen[first:last] - start])
            start += len(block)
        centroids = train(np.concatenate(sample), lists.nlist, settings.seed)
        shared[level] = new_lists(LevelRecord(bits[level], "", None, None, None), centroids, lists.nprobe, rows)
    return shared


def _precision(headers: Iterable[CodeHeader]) -> str:
    """Return what most rows were coded in: the bits of one photo differ by 0.2 % between two, so a query may take either."""
    rows: Counter[str] = Counter()
    for header in headers:
        rows[header.precision] += header.rows
    return rows.most_common(1)[0][0]


def limits_of(headers: Iterable[CodeHeader]) -> Limits:
    """Return what an image might be, by the most generous of code files."""
    limits = [header.rules.limits for header in headers]
    return Limits(max(each.max_bytes for each in limits), max(each.max_pixels for each in limits))


def _model_beside(codes: Path, fingerprint: str) -> Path | None:
    """Return the model that stands beside the codes, if it is the one that made them."""
    model = codes / MODEL_NAME
    try:
        return model if model.is_file() and sha256_of(model) == fingerprint else None
    except OSError as err:
        raise HashgrainError(
            Reason.MODEL_INVALID,
            f"model file {model} could not be read ({why(err)}); give codes beside one that can be",
        ) from err
