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
from encoder.plural import plural
from encoder.runtime.console import notice, progress, result
from indexer.common_cli import DEFAULT_CODES, DEFAULT_INDEX, INDEX, NOTICES, AsJson, IndexPath, Keep
from indexer.settings import (
    KEEP,
    CompactSettings,
    OnDuplicate,
    Retrain,
    SyncSettings,
)

Compact = Annotated[
    bool, typer.Option("--compact/--no-compact", help="Whether segments are joined after it where that is due.")
]
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
        join_what_is_due(index, keep, wanted=compact)
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
    join_what_is_due(index, keep, wanted=compact)


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
    join_what_is_due(index, keep, wanted=compact)


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
                result(f"  {what}: {first_of(names)}")
    for line in report.notices[:NOTICES]:
        notice(line)
    if not dry_run:
        join_what_is_due(index, keep, wanted=compact)


def first_of(names: Sequence[str]) -> str:
    """Return the first names of many."""
    return ", ".join(names[:NOTICES]) + (f" and {len(names) - NOTICES:,} more" if len(names) > NOTICES else "")


def join_what_is_due(index: Path, keep: int, *, wanted: bool) -> None:
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
    os.nice(max(0, 10 - os.nice(0)))  # once, however often it is said


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


COMMANDS = (add, remove, compact, history, rollback, gc, sync)
