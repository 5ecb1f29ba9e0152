"""The commands that change an index after it was built. Arguments in, one function call, lines out."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from encoder.enum_names import named
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level, parse_levels
from encoder.plural import plural
from encoder.runtime.console import notice, progress, result
from indexer.settings import (
    KEEP,
    BitOrder,
    CompactSettings,
    ExportForm,
    IndexKind,
    OnDuplicate,
    Retrain,
    SyncSettings,
)

DEFAULT_CODES, DEFAULT_INDEX = Path("codes"), Path("index")
IndexPath = Annotated[Path, typer.Option("--index", help="Folder of the index.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
Keep = Annotated[int, typer.Option(min=1, help="Generations that stay on the disk, the newest included.")]
Compact = Annotated[
    bool, typer.Option("--compact/--no-compact", help="Whether segments are joined after it where that is due.")
]
NOTICES = 10
"""Lines about labels that an addition shows at most."""
INDEX = {
    Reason.INDEX_DAMAGED: "indexer build CODES --out INDEX --overwrite",
    Reason.INDEX_MISSING: "--index, indexer build CODES --out INDEX",
}
REMEDIES = {
    "add": INDEX
    | {
        Reason.CODES_MISMATCH: "encoder encode SHARDS --out CODES --overwrite",
        Reason.CODES_MISSING: "encoder encode SHARDS --out CODES",
        Reason.DUPLICATE_KEYS: "--on-duplicate",
        Reason.SHARD_DAMAGED: "--allow-damaged",
    },
    "remove": INDEX | {Reason.KEY_UNKNOWN: "--missing-ok"},
    "history": INDEX,
    "rollback": INDEX | {Reason.GENERATION_MISSING: "indexer history"},
    "gc": INDEX,
    "compact": INDEX,
    "sync": INDEX
    | {
        Reason.CODES_MISMATCH: "encoder encode SHARDS --out CODES --overwrite",
        Reason.CODES_MISSING: "encoder encode SHARDS --out CODES, --keep-gone",
        Reason.DUPLICATE_KEYS: "--on-duplicate first, encoder encode --prefix-keys",
        Reason.SHARD_DAMAGED: "--allow-damaged",
    },
    "import": {
        Reason.CODES_MISMATCH: "--model, --index",
        Reason.DUPLICATE_KEYS: "--on-duplicate, --keys",
        Reason.MODEL_INVALID: "--model",
    },
    "export": INDEX | {Reason.EXISTS: "--overwrite", Reason.LEVEL_UNKNOWN: "--levels"},
}
"""What an error's remedy is called on the command line."""


def add(
    codes: Annotated[list[Path] | None, typer.Argument(help="Code files or folders.", show_default="codes")] = None,
    index: IndexPath = DEFAULT_INDEX,
    on_duplicate: Annotated[
        OnDuplicate, typer.Option(help="What to do with a key that is there already.")
    ] = OnDuplicate.REPLACE,
    allow_damaged: Annotated[
        bool, typer.Option("--allow-damaged", help="Take what was readable of damaged shards.")
    ] = False,
    compact: Compact = True,
    keep: Keep = KEEP,
    as_json: AsJson = False,
) -> None:
    """Add the rows of code files to an index; a key that is there already is replaced.

    Example: indexer add codes/new.h5 --index index
    """
    from encoder.codes.file import list_code_files
    from indexer.changes.writer import writer

    with writer(index, keep=keep, compact=False) as opened:
        added = opened.add(
            list_code_files(codes or [DEFAULT_CODES]), on_duplicate=on_duplicate, allow_damaged=allow_damaged
        )
    report = opened.report
    if as_json:
        result(
            json.dumps(asdict(added) | {"generation": report.generation, "live": report.rows, "bytes": report.bytes})
        )
        _compact_due(index, keep, wanted=compact)
        return
    result(
        f"{plural(added.rows, 'row')} added to {index} ({report.generation}): {plural(report.rows, 'row')}, "
        f"{report.bytes / 1e6:,.1f} MB written"
    )
    if added.replaced:
        notice(f"{plural(added.replaced, 'earlier row')} replaced")
    if added.left_out:
        notice(f"{plural(added.left_out, 'row')} left out: another row has the key")
    for line in added.notices[:NOTICES]:
        notice(line)
    if (more := len(added.notices) - NOTICES) > 0:
        notice(f"{plural(more, 'more label')} of several kinds")
    for line in added.missing:
        notice(f"{line} (encoder encode --prune, indexer sync)")
    _compact_due(index, keep, wanted=compact)


def remove(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys of rows.", show_default=False)] = None,
    index: IndexPath = DEFAULT_INDEX,
    where: Annotated[str | None, typer.Option(help="Rows that pass, e.g. 'label.fine = 3'.")] = None,
    from_file: Annotated[
        Path | None,
        typer.Option(help="A file with one key per line, or the marks of a page of near-duplicates (.jsonl)."),
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="Rows of the shards with this name or glob, as `shard` in a filter.")
    ] = None,
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="Keys that are not there are no error.")] = False,
    compact: Compact = True,
    keep: Keep = KEEP,
    as_json: AsJson = False,
) -> None:
    """Remove rows from an index: from the next query on they are not found.

    Example: indexer remove train-00017 --index index
    """
    from indexer.changes.writer import writer

    named = [*(keys or []), *(_keys_of(from_file) if from_file else [])]
    filters = [text for text in (where, None if shard is None else f"shard ~ {json.dumps(shard)}") if text is not None]
    if not named and not filters and from_file is None:
        raise HashgrainError(Reason.BAD_VALUE, "nothing to remove; give keys, --from-file, --where or --shard")
    with writer(index, keep=keep, compact=False) as opened:
        removed = opened.remove(named, missing_ok=missing_ok) + sum(opened.remove(where=text) for text in filters)
    report = opened.report
    if as_json:
        result(json.dumps({"removed": removed, "generation": report.generation, "live": report.rows}))
    else:
        result(f"{plural(removed, 'row')} removed from {index} ({report.generation}): {plural(report.rows, 'row')}")
    _compact_due(index, keep, wanted=compact)


def compact(
    index: IndexPath = DEFAULT_INDEX,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Join all segments, and leave out every removed row.", show_default="what is due"),
    ] = False,
    max_gb: Annotated[
        float | None, typer.Option(min=0.001, help="GB that may be written at once.", show_default="what the disk has")
    ] = None,
    retrain: Annotated[
        Retrain, typer.Option(help="Train the lists' centroids anew: where they are worn, never, or now.")
    ] = Retrain.AUTO,
    keep: Keep = KEEP,
    as_json: AsJson = False,
) -> None:
    """Join segments of an index, and leave out rows that were removed; queries go on meanwhile, and find the same after it.

    Example: indexer compact --index index
    """
    from indexer.changes.compact import compact as run_compact

    _make_way()
    most = None if max_gb is None else int(max_gb * 1e9)
    settings = CompactSettings(all=everything, max_bytes=most, retrain=retrain, keep=keep)
    with progress("compacting") as advance:
        report = run_compact(index, settings, lambda share, what: advance(share, 1.0, what))
    if as_json:
        result(json.dumps(asdict(report)))
        return
    result(
        f"{index} ({report.generation}): {plural(report.rows, 'row')} in {plural(report.segments, 'segment')}, "
        f"{report.bytes / 1e6:,.1f} MB written in {plural(report.steps, 'step')}"
    )
    if report.retrained:
        notice(f"new lists at {', '.join(report.retrained)}")
    for line in report.left:
        notice(f"{line} (indexer gc, --max-gb)")


def history(index: IndexPath = DEFAULT_INDEX, as_json: AsJson = False) -> None:
    """Show what was done to an index, oldest first, and which generations are still on the disk.

    Example: indexer history --index index
    """
    from indexer.changes.history import history as run_history

    for change, there in run_history(index):
        if as_json:
            result(json.dumps(asdict(change) | {"on_disk": there}))
            continue
        what = change.what if change.of is None else f"{change.what} to {change.of}"
        where = "" if there else "  (no longer on the disk)"
        result(
            f"{change.generation}  {change.when}  {what}: +{change.added:,} -{change.removed:,}, "
            f"{plural(change.rows, 'row')}{where}"
        )


def rollback(
    to: Annotated[
        str,
        typer.Argument(
            help="Number or name of a generation, as `indexer history` has it; -1 undoes the last change, -2 the last two. "
            "Segments that were joined after a change belong to it.",
            show_default=False,
        ),
    ],
    index: IndexPath = DEFAULT_INDEX,
    keep: Keep = KEEP,
    as_json: AsJson = False,
) -> None:
    """Take up an earlier generation of an index again, as a new one.

    Example: indexer rollback 3 --index index
    """
    from indexer.changes.history import rollback as run_rollback

    change = run_rollback(index, to, keep)
    if as_json:
        result(json.dumps(asdict(change)))
        return
    result(f"{index} ({change.generation}) is as {change.of} was: {plural(change.rows, 'row')}")


def gc(index: IndexPath = DEFAULT_INDEX, keep: Keep = KEEP, as_json: AsJson = False) -> None:
    """Remove old generations of an index from the disk, save those that somebody reads.

    Example: indexer gc --keep 2 --index index
    """
    from indexer.changes.history import gc as run_gc

    gone = run_gc(index, keep)
    if as_json:
        result(json.dumps({"removed": gone}))
        return
    result(f"{plural(len(gone), 'generation')} of {index} removed{': ' if gone else ''}{', '.join(gone)}")


def sync(
    codes: Annotated[list[Path] | None, typer.Argument(help="Code files or folders.", show_default="codes")] = None,
    index: IndexPath = DEFAULT_INDEX,
    keep_gone: Annotated[bool, typer.Option("--keep-gone", help="Keep the rows of shards that are gone, too.")] = False,
    on_duplicate: Annotated[
        str, typer.Option(help="What to do with a key of several code files: error, or first to keep the row there is.")
    ] = "error",
    allow_damaged: Annotated[
        bool, typer.Option("--allow-damaged", help="Take what was readable of damaged shards.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    compact: Compact = True,
    keep: Keep = KEEP,
    as_json: AsJson = False,
) -> None:
    """Make an index what code files say now: rows of new and changed files come, those of files and shards that are gone leave.

    Example: indexer sync codes --index index
    """
    from encoder.codes.file import list_code_files
    from indexer.changes.sync import sync as run_sync

    settings = SyncSettings(
        keep_gone=keep_gone,
        allow_damaged=allow_damaged,
        dry_run=dry_run,
        on_duplicate=named(OnDuplicate, on_duplicate, "on_duplicate"),
        compact=False,
        keep=keep,
    )
    with progress("syncing") as advance:
        files = list_code_files(codes or [DEFAULT_CODES])
        report = run_sync(index, files, settings, lambda share, what: advance(share, 1.0, what))
    if as_json:
        result(json.dumps(asdict(report)))
    else:
        counts = f"+{report.added:,} -{report.removed:,}, {plural(report.rows, 'row')}"
        result(
            f"{index} would change: {counts}"
            if dry_run
            else f"{index} ({report.generation}) is as its code files are: {counts}"
        )
        for what, names in (("new", report.new), ("changed", report.changed), ("no longer there", report.dropped)):
            if names:
                result(f"  {what}: {_first(names)}")
    for line in report.notices[:NOTICES]:
        notice(line)
    if not dry_run:
        _compact_due(index, keep, wanted=compact)


def import_(
    level: Annotated[
        list[str] | None,
        typer.Option(
            help="LEVEL=PATH, codes of a level (fine=codes.npy): .npy, .npz, Parquet or FAISS's plain binary index; repeatable. "
            "PATH#NAME is one array or column of several.",
            show_default=False,
        ),
    ] = None,
    npy: Annotated[
        str | None,
        typer.Option(help="PATH, in place of LEVEL=PATH: codes of the level that --level names.", show_default=False),
    ] = None,
    index: IndexPath = DEFAULT_INDEX,
    bit_order: Annotated[
        BitOrder | None,
        typer.Option(
            help="Which bit of a byte is the first, lowest (little) or highest (big).", show_default="FAISS's own"
        ),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(help="File with a key per line.", show_default="the table's, else row-000000000 and so on"),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Table of labels (.csv, .tsv, .parquet, .jsonl), whose rows are found by key.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Column of keys in the table.", show_default="key or file_name")
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(
            help="KEY=BITS or KEY=LEVEL:BITS, first bits of a code as you know them; repeatable.", show_default=False
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Model file that made the codes, so that photos can be queries.", show_default="none"),
    ] = None,
    kind: Annotated[
        IndexKind, typer.Option(help="Of a new index; auto: flat below a million rows, else ivf.")
    ] = IndexKind.AUTO,
    on_duplicate: Annotated[
        OnDuplicate, typer.Option(help="What to do with a key that is there already.")
    ] = OnDuplicate.REPLACE,
    compact: Compact = True,
    keep: Keep = KEEP,
    as_json: AsJson = False,
) -> None:
    """Add codes that were made elsewhere to an index, or make one of them; no image is needed.

    Example: indexer import --level fine=codes.npy --bit-order little --keys keys.txt --index index
    """
    from indexer.changes.imports import ImportRequest, import_codes

    request = ImportRequest(
        levels=_levels_of(level or [], npy),
        bit_order=bit_order,
        keys=keys,
        labels=labels,
        key_column=key,
        model=model,
        checks=check or (),
        kind=kind,
        on_duplicate=on_duplicate,
        compact=False,
        keep=keep,
    )
    with progress("importing") as advance:
        report = import_codes(index, request, lambda share, what: advance(share, 1.0, what))
    if as_json:
        result(json.dumps(asdict(report)))
    else:
        result(
            f"{plural(report.added, 'row')} imported into {index} ({report.generation}): {plural(report.rows, 'row')}"
        )
        for name, health in report.levels.items():
            result(
                f"  {name}: {health.nbits} bits, ones {health.mean_balance:.1%} (worst bit {health.worst_balance:.1%}), "
                f"{health.distinct:.1%} distinct codes"
            )
        if report.labels:
            result(f"  labels: {_first(report.labels)}")
    if report.replaced:
        notice(f"{plural(report.replaced, 'earlier row')} replaced")
    if report.left_out:
        notice(f"{plural(report.left_out, 'row')} left out: another row has the key")
    if not report.checked and bit_order is not None:
        notice(f"bits were taken as {bit_order}, which no check has proven; --check KEY=BITS does")
    for line in report.notices[:NOTICES]:
        notice(line)
    _compact_due(index, keep, wanted=compact)


def export(
    out: Annotated[Path, typer.Argument(help="Folder to make.", show_default=False)],
    index: IndexPath = DEFAULT_INDEX,
    form: Annotated[
        ExportForm,
        typer.Option(
            help="npy: LEVEL.npy, keys.txt, labels.parquet; faiss: LEVEL.faiss instead; parquet: all in rows.parquet."
        ),
    ] = ExportForm.NPY,
    levels: Annotated[str | None, typer.Option(help="Levels to export (fine,fused).", show_default="all")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the export that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write codes, keys and labels of an index as files that anybody reads; removed rows are not among them.

    Example: indexer export exported --form parquet --index index
    """
    from indexer.changes.export import export as run_export

    with progress("exporting") as advance:
        report = run_export(
            index,
            out,
            form,
            parse_levels(levels),
            overwrite=overwrite,
            progress=lambda share, what: advance(share, 1.0, what),
        )
    if as_json:
        result(json.dumps(asdict(report)))
        return
    result(f"{plural(report.rows, 'row')} of {index} ({report.generation}) in {out}, {report.bytes / 1e6:,.1f} MB")
    result(f"  {', '.join(report.files)}")
    if report.key_column != "key":
        notice(f"a label is called key, so the keys stand in column {report.key_column} (indexer import --key)")


def _levels_of(texts: list[str], npy: str | None) -> dict[Level, Path]:
    """Read `fine=codes.npy`, or `fine` and a path of its own; which level is never guessed."""
    if npy is not None:
        if len(texts) != 1 or texts[0] not in set(Level):
            raise typer.BadParameter(
                f"{npy}; expected --level LEVEL beside it, one of {', '.join(Level)}", param_hint="--npy"
            )
        texts = [f"{texts[0]}={npy}"]
    if not texts:
        raise typer.BadParameter("no codes; expected LEVEL=PATH (fine=codes.npy)", param_hint="--level")
    levels = dict[Level, Path]()
    for text in texts:
        name, _, path = text.partition("=")
        if name not in set(Level) or not path or name in levels:
            raise typer.BadParameter(
                f"{text!r}; expected LEVEL=PATH, each of {', '.join(Level)} once at most", param_hint="--level"
            )
        levels[Level(name)] = Path(path)
    return levels


def _first(names: Sequence[str]) -> str:
    """Return the first names of many."""
    return ", ".join(names[:NOTICES]) + (f" and {len(names) - NOTICES:,} more" if len(names) > NOTICES else "")


def _compact_due(index: Path, keep: int, *, wanted: bool) -> None:
    """Join what is due after a change, of which the result is told already."""
    if not wanted:
        return
    from indexer.changes.compact import compact_due

    _make_way()
    report = compact_due(index, keep)
    if report.steps:
        notice(
            f"{plural(report.segments, 'segment')} now ({report.generation}): {report.bytes / 1e6:,.1f} MB written to join others"
        )
    for line in report.left:
        notice(f"{line} (indexer gc, indexer compact)")


def _make_way() -> None:
    """Leave the processor to those who query, for the rest of this process."""
    os.nice(10)


def _keys_of(path: Path) -> list[str]:
    """Return the keys of a file: one per line, or of JSON lines those of the objects that are marked as dropped."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line]
        return (
            lines if path.suffix != ".jsonl" else [mark["key"] for mark in map(_mark, lines) if mark["mark"] == "drop"]
        )
    except (OSError, ValueError, RecursionError) as err:
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"{path} cannot be read as keys ({err}); give a file with one key per line, or marks as JSON lines (.jsonl)",
        ) from err


def _mark(line: str) -> dict[str, str]:
    mark: object = json.loads(line)
    if not isinstance(mark, dict) or not isinstance(mark.get("key"), str) or mark.get("mark") not in {"keep", "drop"}:
        raise ValueError(f'{line[:80]!r} is not {{"key": ..., "mark": "keep" or "drop"}}')
    return mark


COMMANDS = (add, remove, compact, history, rollback, gc, sync, import_, export)
