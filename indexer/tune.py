"""How many lists to probe: recall and time are measured on held-out queries, and the finding is kept in the index.

Queries are rows of the index, or codes from elsewhere. Query rows do not count as answers, so that no query finds itself.
Recall@k is the share of the k answers that are no farther than the k-th exact one, which is fair to ties.
"""

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
from indexer.engines.faiss_cpu import write_ivf
from indexer.matches import Matches
from indexer.row_mask import RowSet, row_set
from indexer.search.level_index import LevelIndex
from indexer.settings import Engine, SearchSettings, TuneSettings
from indexer.snapshot import Snapshot
from indexer.storage.generation import next_generation
from indexer.storage.level_writer import usual_nlist
from indexer.storage.manifest import LevelRecord, Manifest, Tuned
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
            of several segments or with fewer rows than answers wanted.
    """
    with exclusive(index):
        opened = Snapshot(index, locked=True)
        for level in settings.levels:
            opened.check_level(level)
        if len(opened.segments) > 1:
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"{index} has {len(opened.segments)} segments, tuning needs one; build the index again from all code files",
            )
        curves: list[Curve] = []

        with next_generation(index, (opened.folder, opened.manifest)) as new:
            new.take_over(opened.manifest.files)
            [segment] = opened.manifest.segments
            levels = dict(segment.levels)
            for number, level in enumerate(settings.levels):
                asked, share = _hold(opened, level, settings, queries.get(level)), number / len(settings.levels)
                matches: list[tuple[Curve, LevelRecord]] = []
                for record in _candidates(new.folder / segment.name, level, levels[level], segment.rows, settings):
                    part_of_level = len(matches) / (len(settings.nlists) + 1)
                    progress(share + part_of_level / len(settings.levels), f"{level}: {record.nlist:,} lists")
                    part = LevelPart(new.folder / segment.name, record, segment.rows)
                    matches.append((_measure(LevelIndex([part], [0, segment.rows]), level, asked, settings), record))
                matches.sort(key=lambda pair: pair[0].chosen.milliseconds)
                curves.extend(curve for curve, _ in matches)
                levels[level] = _keep(new.folder / segment.name, matches, settings.k)
            new.publish(replace(opened.manifest, segments=[replace(segment, levels=levels)]), "tune")
    return curves


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
    folder: Path, level: Level, record: LevelRecord, rows: int, settings: TuneSettings
) -> Iterator[LevelRecord]:
    """Yield the level with each number of lists, built if it is not there."""
    flat = LevelPart(folder, record, rows).flat
    nlists = {min(nlist, flat.ntotal) for nlist in settings.nlists}
    if record.nlist is None and not nlists and flat.ntotal:
        nlists = {usual_nlist(flat.ntotal)}
    if record.nlist is not None:
        yield record
    for nlist in sorted(nlists - {record.nlist}):
        name = f"{level}.ivf{nlist}.faiss"
        write_ivf(folder / name, flat, nlist, settings.seed, lambda *_: None)
        yield replace(record, ivf=name, nlist=nlist, trained=None)


def _measure(sub: LevelIndex, level: Level, held: _Held, settings: TuneSettings) -> Curve:
    points: list[Point] = []
    nlist, nprobe = sub.parts[0].record.nlist or 1, 1.0
    exact = SearchSettings(settings.k, exact=True, engine=Engine.SCAN)
    while not points or (points[-1].recall < ENOUGH and points[-1].nprobe != nlist):
        lists = min(nlist, max(round(nprobe), (points[-1].nprobe or 0) + 1 if points else 1))
        matches = sub.probe(held.queries, exact, held.rows, [lists])
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


def _keep(folder: Path, matches: list[tuple[Curve, LevelRecord]], k: int) -> LevelRecord:
    """Remove all lists but those of the first curve, and return the record that says what was found of them."""
    (curve, record), *others = matches
    for _, other in others:
        (folder / str(other.ivf)).unlink()
    recalls = {point.nprobe: point.recall for point in curve.points if point.nprobe is not None}
    return replace(record, nprobe=curve.chosen.nprobe, tuned=Tuned(k, recalls))
