"""An index made what code files say now: rows of new and changed files come, rows of those that are gone leave, at once.

A code file is known by its seal, which changes with every byte of it, so files that are as they were are not read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from encoder.bits import Bits
from encoder.codes.file import open_codes
from encoder.codes.gone import Missing, missing_shards
from encoder.codes.header import CodeHeader
from encoder.errors import HashgrainError, Reason
from encoder.images.shards import ShardKind, found_from
from encoder.plural import plural
from encoder.runtime.files import exists, is_missing
from indexer.build import build
from indexer.changes.writer import Writer, writer
from indexer.matches import Rows
from indexer.settings import BuildSettings, OnDuplicate, SyncSettings
from indexer.snapshot import Snapshot
from indexer.storage.code_file_rows import seal_of
from indexer.storage.current import POINTER, read_current
from indexer.storage.segment import Segment


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What was done, or would be."""

    generation: str | None
    """The one that is current after it; None: there is no index."""
    rows: int
    """Of the index after it, without those removed."""
    added: int
    removed: int
    new: tuple[str, ...]
    """Names of code files that the index did not know."""
    changed: tuple[str, ...]
    """Of those that it knew otherwise."""
    dropped: tuple[str, ...]
    """Of those that are not there any more."""
    restored: tuple[str, ...]
    """Of those that are as they were, and had rows that were not in the index: removed by hand, or by the key of another."""
    gone: tuple[str, ...]
    """Shards that are gone."""
    notices: tuple[str, ...]
    """What a person should know."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is between an index and code files."""

    stale: Rows
    """int64[n], rows over all segments that no code file has."""
    fresh: list[Path]
    """Code files that are new, or changed."""
    short: list[Path]
    """Those that the index has, but not with all of their rows."""
    known: frozenset[str]
    """Names of the code files that the index has rows of."""


def sync(
    index: Path,
    codes: Sequence[Path],
    settings: SyncSettings,
    progress: Callable[[float, str], None] = lambda *_: None,
) -> SyncReport:
    """Make an index what code files say now; where there is none, build it. Rows that were imported stay as they are.

    Rows of code files that are not among these leave, and so do those of shards that are gone while the folder that they stood
    in holds other things. Rows that were removed by hand come back where their code file is still there.

    Args:
        index: folder of the index.
        codes: all code files that it is to have rows of, from `encoder.codes.file.list_code_files`.
        settings: how.
        progress: called with a share done and a few words, where an index is built.

    Raises:
        HashgrainError: as `indexer.build.build`, and `index-damaged`. Whatever is raised, the index stays as it was.
    """
    files = {path: _read(path) for path in codes}
    missing = _missing(index, files)
    wanted = {path: file for path, file in files.items() if settings.keep_gone or path not in missing.gone}
    says = "their rows stay, as was asked for" if settings.keep_gone else "their rows are left out"
    notices = tuple(missing.notices(says, "their rows stay"))
    if not exists(index / POINTER):
        return _built(index, wanted, missing, settings, notices, progress)
    by_seal = _by_seal(wanted, settings)
    if settings.dry_run:
        opened = Snapshot(index)
        plan = _plan(opened.segments, [segment.live for segment in opened.segments], wanted, by_seal)
        added = sum(wanted[path].header.rows for path in plan.fresh)
        report = SyncReport(
            opened.generation, opened.manifest.live + added - len(plan.stale), added, len(plan.stale), *[()] * 6
        )
    else:
        with writer(index, keep=settings.keep, what="sync", compact=settings.compact) as changing:
            plan = _plan(changing.segments, changing.live, wanted, by_seal)
            said = _follow(changing, plan, settings)
        done = changing.report
        report = SyncReport(done.generation, done.rows, done.added, done.removed, *[()] * 6)
        notices += said
    fresh, names = [path.name for path in plan.fresh], {path.name for path in wanted}
    return replace(
        report,
        new=tuple(name for name in fresh if name not in plan.known),
        changed=tuple(name for name in fresh if name in plan.known),
        dropped=tuple(sorted(plan.known - names)),
        restored=tuple(path.name for path in plan.short),
        gone=tuple(missing.gone.values()),
        notices=notices,
    )


class _File(NamedTuple):
    """A code file as it is now."""

    header: CodeHeader
    """With the path of its shard as it is now."""
    seal: str


def _read(path: Path) -> _File:
    """Read a code file's header; the file is proven whole where its rows are taken."""
    try:
        seal = seal_of(path)
        with open_codes(path, proven=True) as file:
            header = file.header
    except (OSError, ValueError, HashgrainError):
        with open_codes(path) as file:  # which finds out what it is instead
            header = file.header
        seal = seal_of(path)
    return _File(replace(header, shard=replace(header.shard, path=header.shard.found_from(path.parent))), seal)


def _missing(index: Path, files: Mapping[Path, _File]) -> Missing:
    """Find the shards that are not where they were, nor where the index was told that they have gone."""
    missing = missing_shards({path: file.header for path, file in files.items()})
    if (missing.gone or missing.away) and exists(index / POINTER):
        spans = [span for segment in read_current(index)[1].segments for span in segment.shards]
        told = {span.seal: found_from(index, span.path, span.relative) for span in spans}
        there = {path for path, file in files.items() if not is_missing(told.get(file.seal, file.header.shard.path))}
        gone, away = (
            {path: shard for path, shard in of.items() if path not in there} for of in (missing.gone, missing.away)
        )
        return Missing(gone, away)
    return missing


def _by_seal(files: Mapping[Path, _File], settings: SyncSettings) -> dict[str, Path]:
    """Return code files by their seals."""
    paths = dict[str, Path]()
    for path, file in files.items():
        other = paths.setdefault(file.seal, path)
        if other != path and settings.on_duplicate is OnDuplicate.ERROR:
            raise HashgrainError(Reason.CODES_TWICE, f"{path} and {other} are the same; take one away")
    return paths


def _built(
    index: Path,
    files: Mapping[Path, _File],
    missing: Missing,
    settings: SyncSettings,
    notices: tuple[str, ...],
    progress: Callable[[float, str], None],
) -> SyncReport:
    if not files:
        raise HashgrainError(
            Reason.CODES_MISSING,
            f"{index} is not an index yet, and the shards of its code files are gone, all {len(missing.gone):,}, first "
            f"{next(iter(missing.gone.values()), 'none')}; encode shards that are there, or keep what is gone",
        )
    generation, rows = None, sum(file.header.rows for file in files.values())
    if not settings.dry_run:
        how = BuildSettings(on_duplicate=settings.on_duplicate, allow_damaged=settings.allow_damaged)
        report = build(list(files), index, how, progress)
        generation, rows, notices = report.generation, report.rows, notices + report.notices
    names = tuple(path.name for path in files)
    return SyncReport(generation, rows, rows, 0, names, (), (), (), tuple(missing.gone.values()), notices)


def _plan(
    segments: Sequence[Segment],
    live: Sequence[Bits | None],
    files: Mapping[Path, _File],
    by_seal: Mapping[str, Path],
) -> _Plan:
    """Hold the shards that rows came from against code files."""
    stale, there, known, base = [np.empty(0, np.int64)], dict.fromkeys(by_seal.values(), 0), set[str](), 0
    for segment, alive in zip(segments, live, strict=True):
        spans, rows = segment.record.shards, segment.record.rows
        bounds = pairwise([*(span.first_row for span in spans), rows])
        for span, (start, stop) in zip(spans, bounds, strict=True):
            if span.kind is ShardKind.NONE:
                continue
            present = np.arange(start, stop) if alive is None else start + np.flatnonzero(alive[start:stop])
            if len(present) and span.codes is not None:
                known.add(span.codes)
            if (path := by_seal.get(span.seal or "")) is None:
                stale.append(base + present)
            else:
                there[path] += len(present)
        base += rows
    fresh = [path for path, rows in there.items() if not rows and files[path].header.rows]
    short = [path for path, rows in there.items() if 0 < rows < files[path].header.rows]
    return _Plan(np.concatenate(stale), fresh, short, frozenset(known))


def _follow(opened: Writer, plan: _Plan, settings: SyncSettings) -> tuple[str, ...]:
    """Do what is planned; return lines for a person."""
    opened.remove_rows(plan.stale)  # first: a picture that went from one shard to another has its key in both
    new = opened.add(plan.fresh, on_duplicate=settings.on_duplicate, allow_damaged=settings.allow_damaged)
    back = opened.add(plan.short, on_duplicate=OnDuplicate.FIRST, allow_damaged=settings.allow_damaged)
    lines = [*new.notices, *back.notices]
    if new.left_out:
        lines.append(f"{plural(new.left_out, 'row')} left out: another row has the key")
    if back.rows:
        lines.append(f"back after removal: {plural(back.rows, 'row')}, which the code files still have")
    return tuple(lines)
