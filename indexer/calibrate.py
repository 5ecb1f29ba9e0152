"""How near unrelated images come by chance, level by level: measured on rows of the index, and kept in it.

Rows ask for all others, or images from elsewhere do, which are all unrelated. Of rows a label tells what is unrelated. Where there
is none, the bulk of all distances is that of unrelated images, and what lies nearer than the tail of a curve through the bulk are
relatives, not chance.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import lgamma
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from encoder.runtime.cores import worker_count
from encoder.runtime.publish import exclusive
from indexer.cutoffs import Calibrated
from indexer.filters.expression import label_fields
from indexer.matches import Rows
from indexer.row_mask import RowSet, set_of
from indexer.search.histogram import Counts, distances, histogram
from indexer.search.level_index import LevelIndex
from indexer.settings import CalibrateSettings
from indexer.snapshot import Snapshot
from indexer.storage.current import read_current
from indexer.storage.generation import next_generation

Shares = npt.NDArray[np.float64]
"""float64[nbits + 1]: share of pairs within 0, 1, ... nbits bits."""

BULK: Final = (0.001, 0.5)
"""Quantiles of the distances between which the curve is fitted: below are relatives, above nobody looks."""
RELATIVES: Final = 3.0
"""Times as many pairs as the curve has, from which on most of them are relatives."""
ENOUGH: Final = 10
"""Pairs below which a count is too small to be trusted."""
UNSEEN: Final = 3.0
"""Pairs that may be expected where none was seen: the rule of three, 95 %."""


def calibrate(
    index: Path,
    settings: CalibrateSettings,
    elsewhere: Mapping[Level, Codes] = MappingProxyType({}),
    progress: Callable[[float, str], None] = lambda *_: None,
) -> dict[Level, Calibrated]:
    """Measure the distances between unrelated images, and keep the finding in the index, as a generation.

    Args:
        index: folder of the index.
        settings: levels, and labels that tell what is unrelated.
        elsewhere: uint8[n, nbits / 8] by level, of images that have nothing to do with the index: at these levels they ask.
        progress: called with a share done and a few words.

    Returns:
        What was measured.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`, `level-unknown`, `busy`, `write-failed`; `bad-value` for a label that is
            not there, or fewer than two rows to compare.
    """
    read_current(index)  # where there is none, no folder is made
    with exclusive(index):
        opened = Snapshot(index, locked=True)
        levels = settings.levels or tuple(opened.manifest.bits)
        found = {}
        for number, level in enumerate(levels):
            opened.check_level(level)
            advance = partial(_advance, progress, number / len(levels), 1 / len(levels), str(level))
            found[level] = measure(opened, level, settings, elsewhere.get(level), advance)
        first, *others = opened.manifest.segments
        records = {level: replace(record, calibrated=found.get(level)) for level, record in first.levels.items()}
        segments = [replace(first, levels=records), *others]
        with next_generation(index, (opened.folder, opened.manifest)) as new:
            new.publish(replace(opened.manifest, segments=segments), "calibrate", keep=settings.keep)
    return found


def _advance(progress: Callable[[float, str], None], before: float, of_all: float, what: str, share: float) -> None:
    progress(before + share * of_all, what)


class _Pairs(NamedTuple):
    """How far apart those that asked and the rows of the index are."""

    asked: int
    counts: Counts
    same: Counts
    """Those of `counts` that have one label."""


def measure(
    index: Snapshot,
    level: Level,
    settings: CalibrateSettings,
    elsewhere: Codes | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Calibrated:
    """Measure one level, as `calibrate`."""
    label, precision = settings.labels.get(level), None
    if elsewhere is None or label is not None:
        pairs = _own_pairs(index, level, settings, progress)
        within, right = pairs.counts.cumsum(), pairs.same.cumsum()
        precision = np.divide(right, within, out=np.ones(len(within)), where=within > 0)
        how = "what chance leaves over" if label is None else f"another {label}"
    if elsewhere is not None:
        pairs, how = _pairs_elsewhere(index, level, elsewhere, settings, progress), "images from elsewhere"
    mixed = elsewhere is None and label is None
    unrelated = unrelated_shares(pairs.counts - pairs.same, mixed=mixed)
    shares = () if label is None or precision is None else _rounded(precision)
    return Calibrated(index.manifest.live, pairs.asked, how, _rounded(unrelated), shares)


def _own_pairs(index: Snapshot, level: Level, settings: CalibrateSettings, progress: Callable[[float], None]) -> _Pairs:
    """Let rows ask for all others; those without the label that counts are left out."""
    label = settings.labels.get(level)
    groups = np.zeros(index.ntotal, dtype=np.int64) if label is None else _groups(index, label)
    rows = index.live_rows()
    rows = rows[groups[rows] >= 0]
    if len(rows) < 2:
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"{index.path} has {len(rows):,} rows to compare at level {level}; cut-offs need at least two",
        )
    asking = _some(len(rows), settings)
    eligible, every = set_of(index.ntotal, rows), index.level(level)
    codes = every.codes_at(rows[asking])
    same = np.zeros(every.nbits + 1, dtype=np.int64)
    if label is not None:
        of_asking = groups[rows[asking]]
        members = {group: every.codes_at(rows[groups[rows] == group]) for group in np.unique(of_asking).tolist()}
        for code, group in zip(codes, of_asking.tolist(), strict=True):
            same += np.bincount(distances(members[group], code), minlength=len(same))
        same[0] -= len(asking)  # themselves
    counts = _counted(every, codes, eligible, progress)
    counts[0] -= len(asking)
    return _Pairs(len(asking), counts, same)


def _pairs_elsewhere(
    index: Snapshot, level: Level, codes: Codes, settings: CalibrateSettings, progress: Callable[[float], None]
) -> _Pairs:
    """Let images ask that have nothing to do with the index."""
    every, asking = index.level(level), _some(len(codes), settings)
    counts = _counted(every, codes[asking], index.live_mask, progress)
    return _Pairs(len(asking), counts, np.zeros_like(counts))


def _some(of: int, settings: CalibrateSettings) -> Rows:
    """Return int64[at most `sample`], some numbers below `of`."""
    return np.sort(np.random.default_rng(settings.seed).permutation(of)[: settings.sample])


def _counted(level: LevelIndex, codes: Codes, rows: RowSet | None, progress: Callable[[float], None]) -> Counts:
    """Count the rows at each distance from several codes together, on all cores."""
    counts = np.zeros(level.nbits + 1, dtype=np.int64)
    with ThreadPoolExecutor(worker_count()) as pool:
        for done, of_code in enumerate(pool.map(lambda code: histogram(level, code, rows), codes)):
            counts += of_code
            progress(done / len(codes))
    return counts


def unrelated_shares(counts: Counts, *, mixed: bool) -> Shares:
    """Return the share of pairs of unrelated images within each distance.

    Where pairs are too few, or too many to be chance, a curve goes on from the first distance where neither is so: a binomial
    whose bits depend on each other, log p(r) = log C(n, r) + a + b r + c r^2, fitted to the bulk by least squares.

    Args:
        counts: int64[nbits + 1], pairs at each distance.
        mixed: relatives are among them.

    Source: of the curve Altham, Two generalizations of the binomial distribution, Applied Statistics 27, 1978: the
    multiplicative one.
    """
    nbits, pairs = len(counts) - 1, max(1, int(counts.sum()))
    within = counts.cumsum()
    seen = within / pairs
    low, high = (int(np.searchsorted(seen, quantile)) for quantile in BULK)
    bulk = low + np.flatnonzero(counts[low : high + 1])
    if len(bulk) < 4:  # three would be met whatever they are
        return seen
    choices = np.array([lgamma(nbits + 1) - lgamma(r + 1) - lgamma(nbits - r + 1) for r in range(nbits + 1)])
    heights = np.log(counts[bulk] / pairs) - choices[bulk]
    fitted = choices + np.polyval(np.polyfit(bulk, heights, 2, w=np.sqrt(counts[bulk])), np.arange(nbits + 1))
    curve = np.exp(np.minimum.accumulate(fitted[low::-1])[::-1]).cumsum()  # up to low, and falling towards 0
    trusted = within[: low + 1] >= ENOUGH
    if mixed:
        trusted &= seen[: low + 1] <= RELATIVES * curve
    doubted = np.flatnonzero(~trusted)
    last = min(low, int(doubted[-1]) + 1) if len(doubted) else 0
    smooth = seen.copy()
    smooth[:last] = np.minimum(curve[:last] * (seen[last] / curve[last]), np.maximum(seen[:last], UNSEEN / pairs))
    return np.minimum(np.maximum.accumulate(smooth), 1.0)


def _groups(index: Snapshot, label: str) -> Rows:
    """Return int64[ntotal], a number for the value of a label in each row; -1 where there is none."""
    name, has = label.removeprefix("label."), label_fields(segment.record for segment in index.segments)
    if name not in has:
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"label {label!r} is not in {index.path} (has: {', '.join(has) or 'none'}); give one of those",
        )
    numbers: dict[object, int] = {}
    groups = np.full(index.ntotal, -1, dtype=np.int64)
    bounds = np.cumsum([0, *(segment.record.rows for segment in index.segments)]).tolist()
    for segment, (start, stop) in zip(index.segments, pairwise(bounds), strict=True):
        if (column := segment.table.label_column(name)) is not None:
            values = column.as_kind(has[name]).to_list()
            groups[start:stop] = [-1 if value is None else numbers.setdefault(value, len(numbers)) for value in values]
    return groups


def _rounded(shares: Shares) -> tuple[float, ...]:
    """Return shares of few digits, as they are kept."""
    return tuple(float(f"{share:.4g}") for share in shares.tolist())
