"""Codes made elsewhere into an index: arrays, keys and labels in, rows without images out."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from encoder.bits import Codes, unpack
from encoder.codes.label_columns import LabelColumn
from encoder.codes.strings import TextColumn
from encoder.codes.summary import HEALTH_ROWS, LevelHealth, health_of
from encoder.errors import HashgrainError, Reason, unless_short, why
from encoder.images.labels.table import LabelTable
from encoder.images.labels.table_files import read_table
from encoder.levels import Level
from encoder.plural import plural
from encoder.runtime.files import exists, read_regular
from encoder.runtime.publish import exclusive
from indexer.build import NewIndex, check_vacant, write_index
from indexer.changes.arrays import open_codes_of
from indexer.changes.label_rows import label_rows, rows_of_keys
from indexer.changes.writer import writer
from indexer.settings import KEEP, BitOrder, BuildSettings, Dedupe, IndexKind, OnDuplicate
from indexer.storage.current import POINTER
from indexer.storage.manifest import Manifest
from indexer.storage.row_source import PART_ROWS, ArrayRows
from indexer.storage.row_table import hash_keys

NUMBERED: Final = "row-{:09d}"
"""Key of a row where nobody says keys."""
MOST_KEYS: Final = 1 << 32
"""Bytes of a file of keys."""
PRECISION: Final = "fp32"
"""Of queries to codes of which nobody knows how they were computed."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CHECK = re.compile(r"(?P<key>.+)=(?:(?P<level>[a-z]+):)?(?P<bits>[01]+)", re.DOTALL)


@dataclass(frozen=True)
class ImportRequest:
    """What is to be imported."""

    levels: Mapping[Level, Path | Codes]
    """Codes of each level: a file, see `arrays.open_codes_of`, or uint8[rows, nbits / 8]."""
    bit_order: BitOrder | None = None
    """In which the bits were packed; None: FAISS's, of its own files alone."""
    keys: Path | Sequence[str] | None = None
    """A file with a key per line, or the keys; None: those of the table of labels, else rows are numbered."""
    labels: Path | None = None
    """A table of labels, see `encoder.images.labels.table_files`. Its rows are found by key; it says the keys where nobody does."""
    key_column: str | None = None
    """Of the table; None: `key` or `file_name`."""
    model: Path | None = None
    """The model that made the codes, so that photos can be queries; None: nobody knows."""
    checks: Sequence[str] = ()
    """`KEY=BITS` or `KEY=LEVEL:BITS`: the first bits that a row's code must have, as 0 and 1."""
    kind: IndexKind = IndexKind.AUTO
    """Where an index is made: how it is searched."""
    dedupe: Dedupe = Dedupe.AUTO
    on_duplicate: OnDuplicate = OnDuplicate.REPLACE
    """What to do with a key that the index has."""
    compact: bool = True
    """Join segments after it where that is due."""
    keep: int = KEEP


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What was imported."""

    generation: str
    rows: int
    """Of the index, without those removed."""
    added: int
    replaced: int
    left_out: int
    labels: tuple[str, ...]
    """Fields that came along."""
    levels: dict[Level, LevelHealth]
    """How well the codes use their bits: an order of bits that is not theirs does not show, but bits that are not codes do."""
    checked: int
    """Codes that were as `checks` said."""
    notices: tuple[str, ...]


class _Rows(NamedTuple):
    parts: list[ArrayRows]
    notices: list[str]


def import_codes(
    index: Path, request: ImportRequest, progress: Callable[[float, str], None] = lambda *_: None
) -> ImportReport:
    """Add codes that were made elsewhere to an index; where there is none, make it.

    Args:
        index: folder of the index.
        request: what.
        progress: called with a share done and a few words, where an index is made.

    Raises:
        HashgrainError: `bad-value` for arrays, keys, labels or checks that do not fit; `duplicate-keys`; `codes-mismatch` where the
            index has other levels, bits or another model; `model-invalid`, `busy`, `write-failed`. The index stays as it was.
    """
    arrays = _arrays(index, request)
    fingerprint = "" if request.model is None else _fingerprint(request.model, arrays)
    rows = _rows(arrays, request)
    checked = _check(rows.parts, request.checks)
    labels = tuple(rows.parts[0].labels) if rows.parts else ()
    levels = {level: health_of(np.ascontiguousarray(codes[:HEALTH_ROWS])) for level, codes in arrays.items()}
    if exists(index / POINTER):
        with writer(index, keep=request.keep, what="import", compact=request.compact) as opened:
            added = opened.add_rows(rows.parts, fingerprint, on_duplicate=request.on_duplicate)
        report = opened.report
        notices = (*rows.notices, *added.notices)
        return ImportReport(
            report.generation, report.rows, added.rows, added.replaced, added.left_out, labels, levels, checked, notices
        )
    settings = BuildSettings(kind=request.kind, dedupe=request.dedupe)
    with exclusive(index):
        check_vacant(index, settings)
        said = Manifest(fingerprint, PRECISION, None, [], {}, kind=settings.kind, dedupe=settings.dedupe)
        new = NewIndex("import", said, request.model)
        built = write_index(index, rows.parts, new, settings, progress)
    notices = (*rows.notices, *built.notices)
    return ImportReport(built.generation, built.rows, built.rows, 0, 0, labels, levels, checked, notices)


def _arrays(index: Path, request: ImportRequest) -> dict[Level, Codes]:
    """Return the codes of each level, in the order of levels, of as many rows each."""
    if not request.levels:
        raise _bad("no codes to import; give those of a level at least")
    opened = {
        level: open_codes_of(request.levels[level], level, request.bit_order, index.absolute().parent)
        for level in Level
        if level in request.levels
    }
    counts = {level: len(codes) for level, codes in opened.items()}
    if len(set(counts.values())) > 1:
        raise _bad(
            f"levels have different numbers of rows: {', '.join(f'{level} {count:,}' for level, count in counts.items())}; "
            "row i of each has to be of the same image"
        )
    return opened


def _fingerprint(model: Path, arrays: Mapping[Level, Codes]) -> str:
    """Return the fingerprint of the model, whose levels have to be those of the codes."""
    from encoder.model.model_file import load_model  # loads torch

    loaded = load_model(model)
    made = loaded.config.bits
    for level, codes in arrays.items():
        if made.get(level) != 8 * codes.shape[1]:
            raise HashgrainError(
                Reason.CODES_MISMATCH,
                f"codes of {level} have {8 * codes.shape[1]} bits, those of model {model} have {made.get(level, 'no')}; give "
                "the model that made them, or none",
            )
    return loaded.fingerprint


def _rows(arrays: Mapping[Level, Codes], request: ImportRequest) -> _Rows:
    count = len(next(iter(arrays.values())))
    table = None if request.labels is None else read_table(request.labels, request.key_column)
    keys = _keys(request, table, count)
    text = TextColumn.of(keys)
    labels, notices = dict[str, LabelColumn](), list[str]()
    if table is not None:
        rows = rows_of_keys(table, keys)
        labels, notices = label_rows(table, rows)
        notices = [*table.notices(), *notices]
        if without := int((rows < 0).sum()):
            first = keys[int(np.argmax(rows < 0))]
            notices.append(f"{table.path.name}: {without:,} of {count:,} rows have no labels, first {first!r}")
    named = [str(source) for source in request.levels.values() if isinstance(source, Path)]
    name = str(Path(named[0].partition("#")[0]).absolute()) if named else "an array"
    parts = []
    for start in range(0, count, PART_ROWS):  # so that no step holds more of a mapped array
        stop = min(start + PART_ROWS, count)
        part = {level: codes[start:stop] for level, codes in arrays.items()}
        taken = {field: column.rows(start, stop) for field, column in labels.items()}
        parts.append(ArrayRows(name, text.take(np.arange(start, stop)), part, taken))
    return _Rows(parts or [ArrayRows(name, text, dict(arrays), {})], notices)


def _keys(request: ImportRequest, table: LabelTable | None, count: int) -> Sequence[str]:
    """Return the key of each row: as many as there are codes, each once."""
    keys, what, number = request.keys, "the keys", "row"
    if isinstance(keys, Path):
        what, number = str(keys), "line"
        keys = _lines(keys)
    elif keys is None and table is not None:
        keys, what = [key or "" for key in table.keys.to_pylist()], str(table.path)
    elif keys is None:
        return [NUMBERED.format(row) for row in range(count)]
    if len(keys) != count:
        raise _bad(
            f"{what} has {plural(len(keys), 'key')}, there are {plural(count, 'code')}; give one key per code, in their order"
        )
    for row, key in enumerate(keys):
        if not key or _CONTROL.search(key):
            raise _bad(
                f"{what}, {number} {row + 1}: {key!r} is not a key; expected text that is not empty, without control characters"
            )
    hashes = hash_keys(keys)
    order = np.argsort(hashes, kind="stable")
    again = order[1:][hashes[order[1:]] == hashes[order[:-1]]]
    if len(again):
        later = int(again.min())
        earlier = int(np.argmax(hashes == hashes[later]))
        raise HashgrainError(
            Reason.DUPLICATE_KEYS,
            f"{what}: {plural(len(again), 'key')} given again, first {keys[later]!r} in {number}s {earlier + 1} and {later + 1}; "
            "give each row a key of its own",
        )
    return keys


def _lines(path: Path) -> list[str]:
    """Return the lines of a file of text; the last one may do without an end."""
    try:
        text = read_regular(path, MOST_KEYS).decode("utf-8-sig")
    except (OSError, ValueError) as err:
        reason = "it is not UTF-8" if isinstance(err, UnicodeDecodeError) else why(err)
        bad = _bad(f"keys {path} could not be read: {reason}; give a file with a key per line")
        raise unless_short(f"keys {path}", err, bad) from err
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]


def _check(parts: Sequence[ArrayRows], checks: Sequence[str]) -> int:
    """Hold codes against what is known of them, and return how many were."""
    for check in checks:
        if (said := _CHECK.fullmatch(check)) is None:
            raise _bad(
                f"check {check!r} is not KEY=BITS or KEY=LEVEL:BITS; give for example cat-1=fine:01101100, its first bits"
            )
        level = next((each for each in parts[0].arrays if said["level"] in {each, None}), None)
        if level is None:
            raise _bad(
                f"check {check!r}: level {said['level']} is not imported (there are: {', '.join(parts[0].arrays)})"
            )
        rows = ((part, row) for part in parts for row, key in enumerate(part.text) if key == said["key"])
        part, row = next(rows, (None, 0))
        if part is None:
            raise _bad(f"check {check!r}: there is no row with the key {said['key']!r}; give a key that is imported")
        expected = said["bits"]
        bits = unpack(np.asarray(part.arrays[level][row : row + 1]))[0, : len(expected)]
        found = "".join(map(str, bits.astype(int).tolist()))
        if found != expected:
            raise _bad(
                f"the code of {said['key']!r} at level {level} begins with {found}, expected {expected}; say the other bit order, "
                "or look whether codes and keys are in the same order"
            )
    return len(checks)


def _bad(message: str) -> HashgrainError:
    return HashgrainError(Reason.BAD_VALUE, message)
