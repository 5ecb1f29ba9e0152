"""New inverted lists over all segments of an index, which share their centroids."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from encoder.bits import Codes
from encoder.levels import Level
from indexer.engines.faiss_cpu import TRAIN_PER_LIST, assign, train, write_lists
from indexer.storage.level_writer import digest_of, imbalance_of, usual_nprobe
from indexer.storage.manifest import LevelRecord, SegmentRecord, Trained
from indexer.storage.segment import LevelPart


def write_new_lists(
    folder: Path, segments: Sequence[SegmentRecord], level: Level, nlist: int, seed: int
) -> list[LevelRecord]:
    """Train centroids over the codes of all segments, and write the lists of each beside what it has.

    The files are named after the centroids: none takes the name of one that an earlier generation shares.

    Args:
        folder: of a generation that is being written, with the files of its segments.
        segments: of the index.
        level: which codes.
        nlist: number of lists, at most that of the codes.
        seed: of the sample and of k-means.

    Returns:
        The level's record in each segment, of which nothing has been measured.
    """
    parts = [LevelPart(folder / segment.name, segment.levels[level], segment.rows) for segment in segments]
    flats = [part.flat.codes for part in parts]
    entries = sum(map(len, flats))
    centroids = train(_sample(flats, TRAIN_PER_LIST * nlist, seed), nlist, seed)
    digest, sizes = digest_of(centroids), np.zeros(nlist, dtype=np.int64)
    name = f"{level}.ivf-{digest[:12]}.faiss"
    for segment, codes in zip(segments, flats, strict=True):
        nearest = assign(codes, centroids)
        sizes += np.bincount(nearest, minlength=nlist)
        write_lists(folder / segment.name / name, codes, nearest, centroids)
    trained = Trained(digest, entries, imbalance_of(sizes))
    return [
        replace(part.record, ivf=name, nlist=nlist, nprobe=usual_nprobe(nlist), tuned=None, trained=trained, aged=None)
        for part in parts
    ]


def _sample(flats: Sequence[Codes], count: int, seed: int) -> Codes:
    """Return at most so many codes, in their order."""
    bounds = np.cumsum([0, *map(len, flats)])
    chosen = np.sort(np.random.default_rng(seed).permutation(int(bounds[-1]))[:count])
    cuts = np.searchsorted(chosen, bounds)
    return np.concatenate(
        [
            codes[chosen[start:stop] - base]
            for codes, base, (start, stop) in zip(flats, bounds[:-1], pairwise(cuts.tolist()), strict=True)
        ]
    )
