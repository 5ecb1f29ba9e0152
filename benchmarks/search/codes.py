"""Codes and queries that are the same whenever they are made again.

Clustered codes are like learned ones: a row is one of rows / 100 random centres with each bit flipped with probability 0.1.
Uniform codes are random bits, the case where no inverted list can help. Queries are rows with 5 % of the bits flipped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes, pack
from indexer.engines.faiss_cpu import FlatIndex, assign, train, write_lists
from indexer.engines.faiss_file import write_flat
from indexer.search.level_index import LevelIndex
from indexer.storage.manifest import LevelRecord
from indexer.storage.segment import LevelPart

BLOCK = 1_000_000
PER_CENTRE = 100
ROW_FLIPS, QUERY_FLIPS = 26, 13
"""Of 256: the probability that a bit of a row differs from its centre, and of a query from its row."""


class Spread(StrEnum):
    """How codes lie in Hamming space."""

    CLUSTERED = "clustered"
    UNIFORM = "uniform"


@dataclass(frozen=True)
class Codebase:
    """Codes, the lists over them, and queries; files are made in `folder` once."""

    folder: Path
    spread: Spread
    rows: int
    nbits: int

    def __str__(self) -> str:
        return f"{self.spread}, {self.rows:,} codes, {self.nbits} bits"

    @cached_property
    def flat(self) -> FlatIndex:
        """Every code."""
        path = self.path("flat")
        if not path.exists():
            half = path.with_suffix(".half")
            half.unlink(missing_ok=True)
            write_flat(half, self.nbits, self.rows, self.blocks())
            half.rename(path)
        return FlatIndex(path)

    def lists(self, nlist: int) -> LevelRecord:
        """Return the record of a level with that many inverted lists, which are built if they are not there."""
        path = self.path(f"ivf{nlist}")
        if not path.exists():
            half = path.with_suffix(".half")
            half.unlink(missing_ok=True)
            codes, centroids = self.flat.codes, train(self.flat.codes, nlist, 0)
            write_lists(half, codes, assign(codes, centroids), centroids)
            half.rename(path)
        return LevelRecord(self.nbits, self.path("flat").name, path.name, nlist, None)

    def level(self, nlist: int | None = None) -> LevelIndex:
        """Return a level as `indexer` searches it."""
        self.flat  # noqa: B018 - made before it is looked for
        record = self.lists(nlist) if nlist else LevelRecord(self.nbits, self.path("flat").name, None, None, None)
        return LevelIndex([LevelPart(self.folder, record, self.rows)], [0, self.rows])

    def queries(self, count: int) -> Codes:
        """Return uint8[count, nbits / 8]."""
        rng = np.random.default_rng([1, self.rows, self.nbits])
        rows = rng.integers(0, self.rows, count)
        return self.flat.codes[rows] ^ _flips(rng, (count, self.nbits // 8), QUERY_FLIPS)

    def path(self, kind: str) -> Path:
        """Return where `flat` or `ivf4096` is kept."""
        return self.folder / f"{self.spread}-{self.rows}-{self.nbits}.{kind}"

    def blocks(self) -> Iterator[Codes]:
        """Yield the codes, block after block."""
        rng = np.random.default_rng([0, self.rows, self.nbits])
        size = self.nbits // 8
        centres = rng.integers(0, 256, (max(1, self.rows // PER_CENTRE), size), dtype=np.uint8)
        for start in range(0, self.rows, BLOCK):
            count = min(BLOCK, self.rows - start)
            if self.spread is Spread.UNIFORM:
                yield rng.integers(0, 256, (count, size), dtype=np.uint8)
            else:
                yield centres[rng.integers(0, len(centres), count)] ^ _flips(rng, (count, size), ROW_FLIPS)


def _flips(rng: np.random.Generator, shape: tuple[int, int], share: int) -> npt.NDArray[np.uint8]:
    """Return uint8[shape], each bit set with probability share / 256."""
    return pack(rng.integers(0, 256, (shape[0], 8 * shape[1]), dtype=np.uint8) < share)
