"""Segments written anew as fewer ones, without the rows that were removed: what is due, or everything; a generation per step.

A step writes one segment, so that what it takes of disk and memory is bounded by the largest there may be, whatever the index has.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from encoder.errors import HashgrainError
from encoder.levels import Level
from encoder.plural import plural
from encoder.runtime.publish import exclusive
from indexer.changes.ageing import lists_of, recall_of, to_measure, worn
from indexer.changes.tiers import Step, due, whole
from indexer.engines.merge_lists import NewIds, OldLists
from indexer.settings import CompactSettings, Retrain, Verify
from indexer.snapshot import Snapshot
from indexer.storage.current import check_sizes, read_current
from indexer.storage.digests import Digests
from indexer.storage.generation import NextGeneration, next_generation
from indexer.storage.labels import SPOOLED
from indexer.storage.level_writer import SharedLists
from indexer.storage.manifest import Manifest, SegmentRecord
from indexer.storage.row_source import SegmentHashes, SegmentRows, segment_parts
from indexer.storage.row_writer import settle_labels
from indexer.storage.segment import Segment
from indexer.storage.segment_writer import settings_of, shared_lists, write_segment
from indexer.tune import measure_lists, retrain


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What was done, and how the index is after it."""

    generation: str
    rows: int
    """Rows that have not been removed."""
    segments: int
    steps: int = 0
    bytes: int = 0
    """Written, over all steps."""
    retrained: tuple[Level, ...] = ()
    """Levels whose lists have new centroids."""
    left: tuple[str, ...] = ()
    """A line for each step that was due and for which there was no room."""


def compact(
    index: Path, settings: CompactSettings, progress: Callable[[float, str], None] = lambda *_: None
) -> CompactReport:
    """Join segments of an index and leave out removed rows. Answers stay the same, rows get new numbers in the same order.

    Then lists that have grown are measured, and those that are worn get new centroids, where the settings let them.

    Args:
        index: folder of the index.
        settings: which segments, and what a step may take.
        progress: called with the share done of a step and a few words.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`, `busy`, `write-failed`. What was done before it stays done.
    """
    report = _report(index)  # where there is none, no folder is made
    with exclusive(index):
        report = _join(index, settings, report, progress)
        _measure(index, settings.keep, progress)
    _, manifest = read_current(index)
    listed = lists_of(manifest)
    chosen = {Retrain.AUTO: worn(manifest), Retrain.NOW: listed, Retrain.NEVER: ()}[settings.retrain]
    if chosen:
        progress(0.0, "lists are trained")
        retrain(index, {level: recall_of(listed[level]) for level in chosen}, settings.keep)
    now = _report(index)
    return replace(report, generation=now.generation, rows=now.rows, segments=now.segments, retrained=tuple(chosen))


def _join(
    index: Path, settings: CompactSettings, report: CompactReport, progress: Callable[[float, str], None]
) -> CompactReport:
    """Join segments, step by step."""
    while True:
        folder, manifest = read_current(index)
        step, left = _next(index, manifest, settings)
        if step is None:
            return replace(report, left=tuple(left))
        check_sizes(folder, manifest.files)
        with next_generation(index, (folder, manifest)) as new:
            segments = list(manifest.segments)
            segments[slice(*step)] = _rewritten(folder, manifest, step, new, progress)
            new.publish(replace(manifest, segments=segments), "compact", keep=settings.keep)
        report = replace(report, steps=report.steps + 1, bytes=report.bytes + new.bytes_written)


def _measure(index: Path, keep: int, progress: Callable[[float, str], None]) -> None:
    """Measure lists that have grown, and keep what was found in the first segment's record."""
    folder, manifest = read_current(index)
    if not (levels := to_measure(manifest)):
        return
    opened, (first, *others) = Snapshot(index, locked=True), manifest.segments
    records = dict(first.levels)
    for level in levels:
        progress(0.0, f"{level}: lists are measured")
        records[level] = replace(records[level], aged=measure_lists(opened, level))
    with next_generation(index, (folder, manifest)) as new:
        new.publish(replace(manifest, segments=[replace(first, levels=records), *others]), "measure", keep=keep)


def compact_due(index: Path, keep: int) -> CompactReport:
    """Join what is due after a change, which is done whatever comes of this: a fault is a line of the report.

    Args:
        index: folder of the index.
        keep: generations that stay on the disk.
    """
    try:
        return compact(index, CompactSettings(keep=keep, retrain=Retrain.NEVER))
    except (HashgrainError, MemoryError) as err:
        return replace(_report(index), left=(f"segments were not joined: {err}",))


def _report(index: Path) -> CompactReport:
    """Return how an index is, with nothing done."""
    folder, manifest = read_current(index)
    return CompactReport(folder.name, manifest.live, len(manifest.segments))


def _next(index: Path, manifest: Manifest, settings: CompactSettings) -> tuple[Step | None, list[str]]:
    """Return the first step that is due and has room, None for none, and a line for each that has none."""
    rows, removed = zip(*[(segment.rows, segment.removed) for segment in manifest.segments], strict=True)
    room, left = shutil.disk_usage(index).free, list[str]()
    if settings.max_bytes is not None:
        room = min(room, settings.max_bytes)
    for step in (whole if settings.all else due)(rows, removed, settings.segment_rows):
        if (needed := _bytes(manifest, step)) <= room:
            return step, []
        left.append(
            f"not written anew: {plural(step.stop - step.first, 'segment')} from {manifest.segments[step.first].name} on; "
            f"that takes {needed / 1e6:,.1f} MB, and there is room for {room / 1e6:,.1f} MB; remove old generations, or allow more"
        )
    return None, left


def _bytes(manifest: Manifest, step: Step) -> int:
    """Return what a step writes at most; labels of which it is not known before where they begin are written twice."""
    total = 0
    for record in manifest.segments[slice(*step)]:
        files = {name: size for name, (size, _) in manifest.files.items() if name.startswith(f"{record.name}/")}
        of_segment = sum(files.values()) + sum(files.get(f"{record.name}/{name}", 0) for name in SPOOLED)
        total += of_segment * (record.rows - record.removed) // max(1, record.rows)
    return total


def _rewritten(
    folder: Path, manifest: Manifest, step: Step, new: NextGeneration, progress: Callable[[float, str], None]
) -> list[SegmentRecord]:
    """Write one segment, or none where no row is left, in the place of those of a step."""
    prove = Digests(folder, manifest.files, Verify.FULL).check  # what is damaged is not to get a digest of its own
    everything = [Segment(folder, record, prove) for record in manifest.segments]
    segments = everything[slice(*step)]
    sources = [part for segment in segments for part in segment_parts(segment, segment.live)]
    if not sources and len(segments) == len(everything):  # an index has a segment, with rows or without
        sources = [SegmentRows(segments[0], np.empty(0, dtype=np.int64), SegmentHashes(segments[0]))]
    if not sources:
        return []
    lists = shared_lists(everything)
    for level, joined in _joined(segments, lists).items():
        lists[level] = lists[level]._replace(joined=joined)
    target, (fields, _) = new.folder / new.segment_name(), settle_labels(sources)
    record = write_segment(target, sources, fields, settings_of(manifest), lists, progress)
    if step.first == 0:
        was = manifest.segments[0].levels
        levels = {level: replace(made, aged=was[level].aged) for level, made in record.levels.items()}
        record = replace(record, levels=levels)
    return [record]


def _joined(segments: Sequence[Segment], lists: Mapping[Level, SharedLists]) -> dict[Level, list[OldLists]]:
    """Return the lists that hold the codes of segments already, of the levels where they have the centroids of all."""
    new_ids, base = list[NewIds](), 0
    for segment in segments:
        live = np.ones(segment.record.rows, dtype=np.bool_) if segment.live is None else segment.live
        numbers = base - 1 + np.cumsum(live, dtype=np.int32)
        new_ids.append(np.where(live, numbers, np.int32(-1)))
        base += int(live.sum())
    joined = {}
    for level, shared in lists.items():
        parts = [segment.levels[level] for segment in segments]
        if all(part.record.trained == shared.record.trained and part.record.postings is None for part in parts):
            _ = [part.ivf for part in parts]  # proven, and of as many codes as the segments have
            paths = [segment.folder / str(segment.levels[level].record.ivf) for segment in segments]
            joined[level] = [OldLists(*pair) for pair in zip(paths, new_ids, strict=True)]
    return joined
