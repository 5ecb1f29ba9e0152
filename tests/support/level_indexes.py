"""Levels of an index without the rest of it: codes in, a searchable level out."""

import numpy as np

from encoder.levels import Level
from indexer.engines.faiss_file import read_centroids
from indexer.search.level_index import LevelIndex
from indexer.settings import IndexKind
from indexer.storage.level_writer import LevelRows, SharedLists, write_level
from indexer.storage.segment import LevelPart


def sub_index(folder, segments, builds, level=Level.FINE, *, together=False):
    """Write uint8[n, code_size] for each segment, each with its own settings, and open the level over all of them.

    `together`: those with lists have the centroids of the first one, as segments that were added have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts, shared = [], None
    for number, (codes, build) in enumerate(zip(segments, builds, strict=True)):
        for left in folder.glob(f"{level}-{number}.*"):  # of an example before
            left.unlink()
        rows = LevelRows(len(codes), 8 * codes.shape[1], [codes])
        with_lists = None if build.kind is IndexKind.FLAT else shared
        record = write_level(folder / f"{level}-{number}", rows, build, lambda *_: None, with_lists)
        parts.append(LevelPart(folder, record, len(codes)))
        if together and record.ivf is not None:
            shared = SharedLists(read_centroids(folder / record.ivf), record)
    return LevelIndex(parts, np.cumsum([0, *map(len, segments)]).tolist())
