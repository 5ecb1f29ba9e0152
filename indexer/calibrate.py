"""How near unrelated images come by chance, level by level: measured on rows of the index, and kept in it.

Rows ask for all others. What is unrelated is told by a label, where there is one. Where there is none, the bulk of all distances
is that of unrelated images, and what lies nearer than the tail of a curve through the bulk are relatives, not chance.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import lgamma
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from encoder.runtime.cores import worker_count
from encoder.runtime.publish import exclusive
from indexer.cutoffs import Calibrated
from indexer.filters.expression import label_fields
from indexer.matches import Rows
from indexer.row_mask import set_of
from indexer.search.histogram import Counts, distances, histogram
from indexer.settings import CalibrateSettings
from indexer.snapshot import Snapshot
from indexer.storage.generation import next_generation
from indexer.storage.manifest import read_current

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
    index: Path, settings: CalibrateSettings, progress: Callable[[float, str], None] = lambda *_: None
) -> dict[Level, Calibrated]:
    """Measure the distances between unrelated images, and keep the finding in the index, as a generation.

    Args:
        index: folder of the index.
        settings: levels, and labels that tell what is unrelated.
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
            found[level] = measure(opened, level, settings, advance)
        first, *others = opened.manifest.segments
        records = {level: replace(record, calibrated=found.get(level)) for level, record in first.levels.items()}
        segments = [replace(first, levels=records), *others]
        with next_generation(index, (opened.folder, opened.manifest)) as new:
            new.publish(replace(opened.manifest, segments=segments), "calibrate", keep=settings.keep)
    return found


def _advance(progress: Callable[[float, str], None], before: float, of_all: float, what: str, share: float) -> None:
    progress(before + share * of_all, what)


def measure(
    index: Snapshot,
    level: Level,
    settings: CalibrateSettings,
    progress: Callable[[float], None] = lambda _: None,
) -> Calibrated:
    """Measure one level, as `calibrate`."""
    label = settings.labels.get(level)
    groups = np.zeros(index.ntotal, dtype=np.int64) if label is None else _groups(index, label)
    rows = index.live_rows()
    rows = rows[groups[rows] >= 0]
    if len(rows) < 2:
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"{index.path} has {len(rows):,} rows to compare at level {level}; cut-offs need at least two",
        )
    asking = np.sort(np.random.default_rng(settings.seed).permutation(rows)[: settings.sample])
    eligible, every = set_of(index.ntotal, rows), index.level(level)
    members = {group: rows[groups[rows] == group] for group in np.unique(groups[asking]).tolist()} if label else {}

    def ask(row: int) -> tuple[Counts, Counts]:
        """Return how many rows are at each distance, and how many of the same label, both without the row itself."""
        code = every.codes_at(np.array([row]))[0]
        counts, same = histogram(every, code, eligible), np.zeros(every.nbits + 1, dtype=np.int64)
        if label is not None:
            of_label = distances(every.codes_at(members[groups[row]]), code)
            same = np.bincount(of_label, minlength=len(counts))
            same[0] -= 1
        counts[0] -= 1
        return counts, same

    counts, same = (np.zeros(every.nbits + 1, dtype=np.int64) for _ in range(2))
    with ThreadPoolExecutor(worker_count()) as pool:
        for done, (of_row, of_label) in enumerate(pool.map(ask, asking.tolist())):
            counts, same = counts + of_row, same + of_label
            progress(done / len(asking))
    how = "what chance leaves over" if label is None else f"another {label}"
    unrelated = unrelated_shares(counts - same, mixed=label is None)
    precision = np.divide(same.cumsum(), counts.cumsum(), out=np.ones(len(counts)), where=counts.cumsum() > 0)
    return Calibrated(
        index.manifest.live, len(asking), how, _rounded(unrelated), _rounded(precision) if label is not None else ()
    )


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
