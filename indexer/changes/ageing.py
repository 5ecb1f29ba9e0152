"""Lists that age: rows come that their centroids were not trained on. When they are measured again, and when they are worn."""

from collections.abc import Mapping
from typing import Final

from encoder.levels import Level
from encoder.plural import plural
from indexer.storage.manifest import LevelRecord, Manifest

MEASURED_AGAIN: Final = 1.5
"""Rows, as a multiple of those when lists were last measured or trained, at which they are measured again."""
LEAST_ROWS: Final = 1000
"""Rows below which nothing is measured: the answer would be chance."""
RECALL_LOST: Final = 0.01
"""Recall below that of tuning at which lists are worn: more than what a thousand queries miss by chance."""
UNEVEN: Final = 2.0
"""Imbalance, as a multiple of that at training, at which lists are worn: twice the codes are compared."""
GROWN: Final = 16
"""Rows, as a multiple of those at training, at which there are too few lists: a query compares many."""


def to_measure(manifest: Manifest) -> list[Level]:
    """Return the levels whose lists are to be measured again."""
    live = manifest.live
    return [
        level
        for level, record in lists_of(manifest).items()
        if live
        >= max(LEAST_ROWS, MEASURED_AGAIN * max(_trained_over(manifest, record), _measured_over(manifest, level)))
    ]


def worn(manifest: Manifest) -> dict[Level, str]:
    """Return the levels whose centroids are to be trained anew, each with the reason, for a person."""
    found = {}
    for level, record in lists_of(manifest).items():
        aged, rows = manifest.segments[0].levels[level].aged, _trained_over(manifest, record)
        tuned, before = recall_of(record), None if record.trained is None else record.trained.imbalance
        if aged is not None and tuned is not None and aged.recall < tuned - RECALL_LOST:
            found[level] = f"recall {aged.recall:.3f} with {plural(aged.rows, 'row')}, {tuned:.3f} when they were tuned"
        elif aged is not None and before and aged.imbalance > UNEVEN * before:
            found[level] = (
                f"imbalance {aged.imbalance:.1f} with {plural(aged.rows, 'row')}, {before:.1f} when they were trained"
            )
        elif rows and manifest.live > GROWN * rows:
            found[level] = f"trained over {plural(rows, 'row')}, there are {manifest.live:,}"
    return found


def recall_of(record: LevelRecord) -> float | None:
    """Return the recall that was measured of as many lists as are probed; None: it was not."""
    if record.tuned is None or record.nprobe is None:
        return None
    return record.tuned.recalls.get(record.nprobe)


def lists_of(manifest: Manifest) -> Mapping[Level, LevelRecord]:
    """Return the levels of an index that have lists, each as the first segment with lists has it."""
    found: dict[Level, LevelRecord] = {}
    for segment in manifest.segments:
        for level, record in segment.levels.items():
            if record.ivf is not None:
                found.setdefault(level, record)
    return found


def _trained_over(manifest: Manifest, record: LevelRecord) -> int:
    return manifest.segments[0].rows if record.trained is None else record.trained.rows


def _measured_over(manifest: Manifest, level: Level) -> int:
    aged = manifest.segments[0].levels[level].aged
    return 0 if aged is None else aged.rows
