"""How many lists to probe: recall and time are measured on held-out queries, and the finding is kept in the index.

Queries are rows of the index, or codes from elsewhere. Query rows do not count as answers, so that no query finds itself.
Recall@k is the share of the k answers that are no farther than the k-th exact one, which is fair to ties.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from encoder.bits import Codes
from encoder.codes.file import list_code_files, open_codes
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from encoder.runtime.publish import exclusive
from indexer.engines.faiss_file import lists_layout
from indexer.matches import Matches
from indexer.row_mask import RowSet, row_set
from indexer.search.level_index import LevelIndex
from indexer.settings import Engine, SearchSettings, TuneSettings
from indexer.snapshot import Snapshot
from indexer.storage.generation import next_generation
from indexer.storage.level_writer import imbalance_of, usual_nlist
from indexer.storage.manifest import Aged, LevelRecord, Manifest, SegmentRecord, Tuned
from indexer.storage.new_lists import write_new_lists
from indexer.storage.segment import LevelPart

REPEATS: Final = 3
"""Runs of a batch, of which the median time counts."""
STEP: Final = 2**0.5
"""Each nprobe that is tried, as a multiple of the one before."""
ENOUGH: Final = 0.999
"""Recall beyond which no more lists are tried."""


@dataclass(frozen=True, slots=True)
class Point:
    """What some effort finds, and what it takes."""

    nprobe: int | None
    """None: every code is compared."""
    recall: float
    milliseconds: float
    """A query, in a batch of all of them."""


@dataclass(frozen=True, slots=True)
class Curve:
    """What was measured of a level with some number of lists."""

    level: Level
    nlist: int
    points: list[Point]
    """By nprobe, and last the exact search."""
    chosen: Point
    """The quickest that reaches the recall; the exact search if no number of lists does."""


@dataclass(frozen=True, slots=True)
class _Held:
    """Queries and what they are asked of."""

    queries: Codes
    rows: RowSet
    """Without those that ask."""
    exact: list[Matches]


def tune(
    index: Path,
    settings: TuneSettings,
    queries: Mapping[Level, Codes],
    progress: Callable[[float, str], None] = lambda *_: None,
) -> list[Curve]:
    """Measure the lists of an index, build others on request, and keep in the index what is quickest at a recall.

    Args:
        index: folder of the index.
        settings: recall, levels, numbers of lists to try.
        queries: uint8[nq, nbits / 8] by level, from elsewhere; rows of the index ask at the levels that are not there.
        progress: called with a share done and a few words.

    Returns:
        What was measured; the first curve of a level is the one whose lists the index has now.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`, `level-unknown`, `busy`, `write-failed`, `bad-value` for an index
            with fewer rows than answers wanted.
    """
    with exclusive(index):
        opened = Snapshot(index, locked=True)
        for level in settings.levels:
            opened.check_level(level)
        curves: list[Curve] = []

        with next_generation(index, (opened.folder, opened.manifest)) as new:
            new.take_over(opened.manifest.files)
            segments = list(opened.manifest.segments)
            for number, level in enumerate(settings.levels):
                asked, share = _hold(opened, level, settings, queries.get(level)), number / len(settings.levels)
                matches: list[tuple[Curve, list[LevelRecord]]] = []
                for records in _candidates(new.folder, segments, level, settings):
                    part_of_level = len(matches) / (len(settings.nlists) + 1)
                    progress(share + part_of_level / len(settings.levels), f"{level}: {_nlist(records):,} lists")
                    sub = _opened(new.folder, segments, records)
                    matches.append((_measure(sub, level, asked, settings), records))
                matches.sort(key=lambda pair: pair[0].chosen.milliseconds)
                curves.extend(curve for curve, _ in matches)
                segments = with_level(segments, level, _found(*matches[0], settings.k))
            new.publish(replace(opened.manifest, segments=segments), "tune")
    return curves


def measure_lists(index: Snapshot, level: Level, sample: int = 1000, seed: int = 0) -> Aged:
    """Measure what has become of the lists of a level: how even they are, and what they find, asked by rows without themselves.

    Args:
        index: with lists at this level, and with more than k rows that have not been removed.
        level: which lists.
        sample: most queries.
        seed: of the sample.
    """
    records = [segment.record.levels[level] for segment in index.segments]
    listed = next(record for record in records if record.ivf is not None)
    recall, rows = 1.0, index.live_rows()
    if listed.nprobe is not None:
        asking = np.sort(np.random.default_rng(seed).permutation(rows)[:sample])
        every = SearchSettings(k_of(listed), exact=True, engine=Engine.FAISS)
        near = replace(every, exact=False, nprobe=listed.nprobe)
        exact, found = (
            index.level(level).search(index.codes(level, asking), effort, index.live_mask, asking)
            for effort in (every, near)
        )
        recall = _recall(found, exact)
    paths = [segment.folder / str(record.ivf) for segment, record in zip(index.segments, records, strict=True)]
    sizes = sum(lists_layout(path).sizes for path, record in zip(paths, records, strict=True) if record.ivf is not None)
    return Aged(index.manifest.live, imbalance_of(np.asarray(sizes)), recall)


def k_of(record: LevelRecord) -> int:
    """Return for how many nearest the recall of a level's lists counts."""
    return TuneSettings().k if record.tuned is None else record.tuned.k


def retrain(index: Path, levels: Mapping[Level, float | None], keep: int) -> list[Curve]:
    """Train the centroids of levels anew over all rows, and probe as many lists as what was found before takes.

    The number of lists grows with the square root of the rows, as it does in a build.

    Args:
        index: folder of the index.
        levels: that have lists, each with the recall that is to be reached; None: as many lists as usual are probed.
        keep: generations that stay on the disk.

    Returns:
        What was measured of the levels with a recall.
    """
    with exclusive(index):
        opened = Snapshot(index, locked=True)
        curves, segments = list[Curve](), list(opened.manifest.segments)
        with next_generation(index, (opened.folder, opened.manifest)) as new:
            new.take_over(opened.manifest.files)
            for level, recall in levels.items():
                old = next(record for segment in segments if (record := segment.levels[level]).ivf is not None)
                if not (entries := sum(part.flat.ntotal for part in opened.level(level).parts)):
                    continue
                more = math.log2(max(1, entries) / max(1, entries if old.trained is None else old.trained.rows))
                nlist = max(1, min(entries, (old.nlist or 1) << max(0, round(more / 2))))
                records = write_new_lists(new.folder, segments, level, nlist, opened.manifest.seed)
                if recall is not None and opened.manifest.live >= 3 * k_of(old):
                    settings = TuneSettings(recall, k_of(old), (level,), seed=opened.manifest.seed)
                    held = _hold(opened, level, settings, None)
                    curve = _measure(_opened(new.folder, segments, records), level, held, settings)
                    records = _found(curve, records, settings.k)
                    curves.append(curve)
                segments = with_level(segments, level, records)
            new.publish(replace(opened.manifest, segments=segments), "retrain", keep=keep)
    return curves


def with_level(segments: Sequence[SegmentRecord], level: Level, records: Sequence[LevelRecord]) -> list[SegmentRecord]:
    """Return segments with what is known of one level."""
    return [
        replace(segment, levels=segment.levels | {level: record})
        for segment, record in zip(segments, records, strict=True)
    ]


def read_queries(paths: Sequence[Path], index: Manifest) -> dict[Level, Codes]:
    """Return the codes of code files by level, none for no files.

    Raises:
        HashgrainError: `codes-missing`, `codes-damaged`, `codes-mismatch` for another model or other bits than the index has.
    """
    parts: dict[Level, list[Codes]] = {}
    for path in list_code_files(paths) if paths else []:
        with open_codes(path) as file:
            if file.header.fingerprint != index.fingerprint:
                raise HashgrainError(
                    Reason.CODES_MISMATCH,
                    f"{path} was made by model {file.header.fingerprint[:12]}, the index by {index.fingerprint[:12]}; encode the "
                    "queries with the index's model",
                )
            for level, nbits in file.header.bits.items():
                if index.bits.get(level, nbits) != nbits:
                    raise HashgrainError(
                        Reason.CODES_MISMATCH,
                        f"{path} has {nbits} bits at level {level}, the index has {index.bits[level]}",
                    )
                parts.setdefault(level, []).append(file.codes(level))
    return {level: np.concatenate(codes) for level, codes in parts.items()}


def _hold(index: Snapshot, level: Level, settings: TuneSettings, given: Codes | None) -> _Held:
    live = index.live_rows()
    counts = np.zeros(index.ntotal, dtype=np.bool_)
    counts[live] = True
    rng = np.random.default_rng(settings.seed)
    if given is None:
        asking = np.sort(rng.permutation(live)[: min(settings.sample, len(live) // 2)])
        counts[asking] = False
        codes = index.codes(level, asking)
    else:
        codes = given[np.sort(rng.permutation(len(given))[: settings.sample])]
    if counts.sum() < settings.k or not len(codes):
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"{len(codes):,} queries at level {level} search {counts.sum():,} rows of {index.path} for {settings.k}; give a "
            "smaller k, more rows, or queries",
        )
    rows = row_set(counts)
    return _Held(
        codes, rows, index.level(level).search(codes, SearchSettings(settings.k, exact=True, engine=Engine.SCAN), rows)
    )


def _candidates(
    folder: Path, segments: Sequence[SegmentRecord], level: Level, settings: TuneSettings
) -> Iterator[list[LevelRecord]]:
    """Yield the level of each segment with each number of lists, built if they are not there."""
    records = [segment.levels[level] for segment in segments]
    entries = sum(len(part.flat.codes) for part in _opened(folder, segments, records).parts)
    nlists = {min(nlist, entries) for nlist in settings.nlists}
    there = next((record.nlist for record in records if record.nlist is not None), None)
    if there is None and not nlists and entries:
        nlists = {usual_nlist(entries)}
    if there is not None:
        yield records
    for nlist in sorted(nlists - {there}):
        yield write_new_lists(folder, segments, level, nlist, settings.seed)


def _opened(folder: Path, segments: Sequence[SegmentRecord], records: Sequence[LevelRecord]) -> LevelIndex:
    """Open a level of a generation that is being written."""
    pairs = zip(segments, records, strict=True)
    parts = [LevelPart(folder / segment.name, record, segment.rows) for segment, record in pairs]
    return LevelIndex(parts, np.cumsum([0, *(segment.rows for segment in segments)]).tolist())


def _nlist(records: Sequence[LevelRecord]) -> int:
    return next((record.nlist for record in records if record.nlist is not None), 1)


def _measure(sub: LevelIndex, level: Level, held: _Held, settings: TuneSettings) -> Curve:
    points: list[Point] = []
    records = [part.record for part in sub.parts]
    nlist, nprobe, listed = _nlist(records), 1.0, sum(record.ivf is not None for record in records)
    exact = SearchSettings(settings.k, exact=True, engine=Engine.SCAN)
    while not points or (points[-1].recall < ENOUGH and points[-1].nprobe != nlist):
        lists = min(nlist, max(round(nprobe), (points[-1].nprobe or 0) + 1 if points else 1))
        matches = sub.probe(held.queries, exact, held.rows, [lists] * listed)
        effort = replace(exact, exact=False, nprobe=lists)
        points.append(Point(lists, _recall(matches, held.exact), _time(sub, held, effort)))
        nprobe *= STEP
    points.append(Point(None, 1.0, _time(sub, held, exact)))
    reached = [point for point in points if point.recall >= settings.recall]
    return Curve(level, nlist, points, min(reached, key=lambda point: point.milliseconds))


def _time(sub: LevelIndex, held: _Held, effort: SearchSettings) -> float:
    """Return milliseconds per query, all rows counting: leaving out the queries is not what is to be timed."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        sub.search(held.queries, effort, None)
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3 / len(held.queries)


def _recall(matches: list[Matches], exact: list[Matches]) -> float:
    pairs = zip(matches, exact, strict=True)
    return float(np.mean([(mine.distances <= truth.distances[-1]).sum() / len(truth.rows) for mine, truth in pairs]))


def _found(curve: Curve, records: Sequence[LevelRecord], k: int) -> list[LevelRecord]:
    """Return the records of a level that say what was found of its lists."""
    recalls = {point.nprobe: point.recall for point in curve.points if point.nprobe is not None}
    found = Tuned(k, recalls)
    return [
        record if record.ivf is None else replace(record, nprobe=curve.chosen.nprobe, tuned=found, aged=None)
        for record in records
    ]
