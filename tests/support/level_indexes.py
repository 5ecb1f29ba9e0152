"""Levels of an index without the rest of it: codes in, a searchable level out."""

import numpy as np

from encoder.levels import Level
from indexer.search.level_index import LevelIndex
from indexer.storage.level_writer import LevelRows, write_level
from indexer.storage.segment import LevelPart


def sub_index(folder, segments, builds, level=Level.FINE):
    """Write uint8[n, code_size] for each segment, each with its own settings, and open the level over all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for number, (codes, build) in enumerate(zip(segments, builds, strict=True)):
        for left in folder.glob(f"{level}-{number}.*"):  # of an example before
            left.unlink()
        rows = LevelRows(len(codes), 8 * codes.shape[1], [codes])
        record = write_level(folder / f"{level}-{number}", rows, build, lambda *_: None)
        parts.append(LevelPart(folder, record, len(codes)))
    return LevelIndex(parts, np.cumsum([0, *map(len, segments)]).tolist())
