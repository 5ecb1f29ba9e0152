"""One generation of an index as those see it who ask: whether its rows are held here or elsewhere is not theirs to know."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from encoder.bits import Bits, Codes
from encoder.errors import HashgrainError, Reason, shown
from encoder.images.labels.values import Labels
from encoder.images.limits import Limits
from encoder.levels import Level
from encoder.runtime.files import read_regular
from indexer.cutoffs import CutOff, cut_off
from indexer.matches import Matches, Rows
from indexer.search.bit_weights import WeightedCode
from indexer.search.combine import Ranked
from indexer.search.histogram import Counts
from indexer.settings import CombineSettings, SearchSettings, Trust
from indexer.storage.current import POINTER, POINTER_BYTES
from indexer.storage.manifest import Manifest
from indexer.storage.pictures import Pictures, Place, manifest_digest

NOWHERE = -1
"""The row of a key that there is not."""


class Detail(NamedTuple):
    """What a person wants to know of a row."""

    key: str
    shard: str
    """Path of the shard that its image is in."""
    labels: Labels


class Described(NamedTuple):
    """Rows as a person knows them, in columns."""

    keys: list[str]
    labels: list[Labels]
    shards: list[str]
    """Paths of the shards that their images are in."""


class Opened(ABC):
    """One generation of an index, opened. Safe for concurrent searches from several threads.

    Args:
        path: folder of the index.
        folder: of the generation.
        manifest: what it says of itself.
        pointer: what the pointer held when it was the current one.
        trust: what of it is believed.
        limits: what an image may be that is read back, where the user said so.
    """

    def __init__(
        self, path: Path, folder: Path, manifest: Manifest, pointer: bytes, trust: Trust, limits: Limits | None
    ) -> None:
        self.path, self.folder, self.manifest, self.trust = path, folder, manifest, trust
        self._pointer, self._limits = pointer, limits

    @property
    def generation(self) -> str:
        """Name of the generation."""
        return self.folder.name

    @property
    def pointer(self) -> bytes:
        """What the pointer held when the generation was the current one."""
        return self._pointer

    @property
    def is_current(self) -> bool:
        """Whether no newer generation has taken its place, nor another index; reads the pointer, a file of one line."""
        return pointer_of(self.path) == self._pointer

    @property
    def ntotal(self) -> int:
        """Number of rows, removed ones too: rows keep their numbers."""
        return self.manifest.rows

    @property
    @abstractmethod
    def unverified(self) -> dict[str, int]:
        """Files in use that were checked by their size alone, with their bytes."""

    @abstractmethod
    def newest(self) -> "Opened":
        """Return the generation that took this one's place, opened; what both have of this one is not opened again.

        Raises:
            HashgrainError: `index-missing`, `index-damaged`.
        """

    def missed(self) -> AbstractContextManager[set[int]]:
        """Return a block and the slices that do not answer within it: none, where rows are not held in slices."""
        return nullcontext(set())

    def check_level(self, level: Level) -> None:
        """Raise `level-unknown` when the index has no such level."""
        if level not in self.manifest.bits:
            has = ", ".join(self.manifest.bits)
            raise HashgrainError(
                Reason.LEVEL_UNKNOWN, f"level {level} is not in {self.path} (has: {has}); search one of those"
            )

    @abstractmethod
    def search(
        self, level: Level, queries: Codes, settings: SearchSettings, exclude: Rows | None = None
    ) -> list[Matches]:
        """Return the rows nearest to each query, ordered by (distance, row).

        Args:
            level: which code.
            queries: uint8[nq, nbits / 8], lowest bit first.
            settings: k, radius and effort.
            exclude: int64[nq], a row that each query leaves out, -1 for none: itself, where it is a row.

        Returns:
            One `Matches` per query. Without an IVF, or with `exact`, exactly the k smallest (distance, row) within the radius.

        Raises:
            HashgrainError: `level-unknown`, `bad-value` for queries of another size or a filter that cannot be read.
        """

    @abstractmethod
    def combine(
        self, queries: Mapping[Level, Codes], settings: CombineSettings, exclude: Rows | None = None
    ) -> list[Ranked]:
        """Return the best rows for each query over several levels.

        Args:
            queries: uint8[nq, nbits / 8] for each level of the settings, the same images in the same order.
            settings: which levels, and how they become one order.
            exclude: as in `search`.

        Raises:
            HashgrainError: `level-unknown`, `bad-value`.
        """

    @abstractmethod
    def search_by_bits(self, query: Mapping[Level, WeightedCode], settings: SearchSettings, without: Rows) -> Ranked:
        """Return the rows of the smallest weighted distance to a query, over all rows.

        Args:
            query: a code and a weight per bit, at one or several levels.
            settings: k, filter and engine; with a radius, of the plain distance to the code, one level.
            without: int64[n], rows that are left out.

        Raises:
            HashgrainError: `bad-value`.
        """

    @abstractmethod
    def eligible(self, where: str | None) -> int:
        """Return how many rows have not been removed and pass a filter; None: all pass.

        Raises:
            HashgrainError: `bad-value` for a filter that cannot be read.
        """

    @abstractmethod
    def contains(self, where: str | None, rows: Rows) -> Bits:
        """Return bool[len(rows)]: which of some rows have not been removed and pass a filter; None: all pass.

        Raises:
            HashgrainError: `bad-value` for a filter that cannot be read.
        """

    @abstractmethod
    def live_rows(self, most: int | None = None) -> Rows:
        """Return int64[n], the rows that have not been removed; the first `most` of them, None: all."""

    @abstractmethod
    def is_live(self, row: int) -> bool:
        """Whether there is a row of this number that has not been removed."""

    def cutoff(self, level: Level, max_false: float) -> CutOff:
        """Return the distance within which so many unrelated images are expected per query, at this index's size.

        Raises:
            HashgrainError: `level-unknown`; `bad-value` where the level was not calibrated.
        """
        self.check_level(level)
        calibrated = self.manifest.segments[0].levels[level].calibrated
        if calibrated is None:
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"max_false is {max_false}, but level {level} of {self.path} was not calibrated; calibrate the index first",
            )
        return cut_off(calibrated, max_false, self.manifest.live)

    @abstractmethod
    def histogram(self, level: Level, code: Codes, where: str | None = None) -> Counts:
        """Count the eligible rows at each distance.

        Args:
            level: which code is compared.
            code: uint8[nbits / 8], lowest bit first.
            where: filter that rows must pass; None: none.

        Returns:
            int64[nbits + 1], rows at 0, 1, ... nbits bits.

        Raises:
            HashgrainError: `level-unknown`, `bad-value` for a code of another size or a filter that cannot be read.
        """

    @abstractmethod
    def find_each(self, keys: Sequence[str]) -> Rows:
        """Return int64[len(keys)], the row of each key that has not been removed; `NOWHERE` for keys that there are not."""

    def find(self, key: str) -> int:
        """Return the row of a key that has not been removed.

        Raises:
            HashgrainError: `key-unknown`.
        """
        row = int(self.find_each([key])[0])
        if row == NOWHERE:
            raise HashgrainError(
                Reason.KEY_UNKNOWN,
                f"key {key!r} is not among the {self.manifest.live:,} of {self.path}; keys are spelled as in the shards",
            )
        return row

    @abstractmethod
    def codes(self, level: Level, rows: Rows) -> Codes:
        """Return uint8[len(rows), nbits / 8], the codes of rows int64[m]."""

    @abstractmethod
    def details(self, rows: Sequence[int]) -> list[Detail]:
        """Return what a person wants to know of rows."""

    @abstractmethod
    def describe(self, rows: Rows) -> Described:
        """Return what a person wants to know of int64[n] rows, column by column: of many, in less time than one by one."""

    def key(self, row: int) -> str:
        """Return the key of a row."""
        return self.details([row])[0].key

    def labels(self, row: int) -> Labels:
        """Return the labels of a row."""
        return self.details([row])[0].labels

    def shard(self, row: int) -> str:
        """Return the path of the shard that a row's image is in."""
        return self.details([row])[0].shard

    @abstractmethod
    def place(self, row: int) -> Place:
        """Return where a row's image file is."""

    def image(self, row: int) -> bytes:
        """Read a row's image file back from its shard.

        Raises:
            HashgrainError: `shard-missing`, `shard-damaged` when it is no longer there; `not-allowed` where it may not be read.
        """
        return self.image_reader(row)()

    def image_reader(self, row: int) -> Callable[[], bytes]:
        """Return what reads a row's image file back, without this index: the row's place is in it."""
        return partial(self._pictures.read, self.place(row))

    @cached_property
    def _pictures(self) -> Pictures:
        digest = manifest_digest(self._pointer)
        return Pictures(self.path, digest, self.manifest.limits, self.trust.roots, self._limits)

    def _checked(self, level: Level, queries: Codes) -> Codes:
        """Return queries as they are searched, contiguous in rows."""
        self.check_level(level)
        nbits = self.manifest.bits[level]
        given: object = queries
        if not isinstance(given, np.ndarray) or given.shape[1:] != (nbits // 8,) or given.dtype != np.uint8:
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"queries are {shown(given)}; level {level} takes codes, uint8[n, {nbits // 8}], lowest bit first",
            )
        return np.ascontiguousarray(queries)

    def _checked_levels(self, queries: Mapping[Level, Codes], settings: CombineSettings) -> dict[Level, Codes]:
        """Return queries at the levels of the settings as they are searched."""
        for level in settings.levels:
            if level not in queries or len(queries[level]) != len(queries[settings.levels[0]]):
                raise HashgrainError(
                    Reason.BAD_VALUE,
                    f"queries have {', '.join(f'{len(codes)} codes at {name}' for name, codes in queries.items()) or 'no codes'}; "
                    f"give as many at each of {', '.join(settings.levels)}",
                )
        return {level: self._checked(level, queries[level]) for level in settings.levels}


def pointer_of(path: Path) -> bytes:
    """Return what the pointer of an index folder holds; nothing where it cannot be read."""
    try:
        return read_regular(path / POINTER, POINTER_BYTES, links=False)
    except (OSError, ValueError):
        return b""
