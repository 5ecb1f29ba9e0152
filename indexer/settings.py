"""Settings of building and searching, in plain data. No numpy, no faiss: `--help` is quick."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import index
from typing import SupportsIndex, cast

from encoder.enum_names import named, take_names
from encoder.errors import HashgrainError, Reason, shown
from encoder.images.roots import Roots
from encoder.levels import Level


class IndexKind(StrEnum):
    """How a level is searched."""

    AUTO = "auto"
    """flat below a measured size, else ivf."""
    FLAT = "flat"
    """Every code is compared: exact."""
    IVF = "ivf"
    """The nearest lists are probed; the flat codes stay beside it, for exact answers and codes by row."""


class Engine(StrEnum):
    """Who compares codes; the answers are the same."""

    AUTO = "auto"
    """FAISS until the scan is worth loading and has been loaded, in the background."""
    SCAN = "scan"
    """Our own kernels over FAISS's memory."""
    FAISS = "faiss"
    """FAISS's own search."""
    GPU = "gpu"
    """FAISS's flat search on a GPU, for the k nearest of all rows to many queries; what it cannot answer, the scan does."""


class ServeEngine(StrEnum):
    """Who holds an index that is served."""

    LOCAL = "local"
    """The process that answers."""
    RAY = "ray"
    """Processes of a Ray cluster, a slice each."""


class Dedupe(StrEnum):
    """Whether rows with one code share an entry."""

    AUTO = "auto"
    """Where that halves what is searched."""
    ON = "on"
    OFF = "off"


class OnDuplicate(StrEnum):
    """What to do with a key that an earlier row has."""

    ERROR = "error"
    FIRST = "first"
    """Keep the first row, leave the later ones out, and count them."""
    REPLACE = "replace"
    """Keep the last row: it takes the place of the earlier ones, which are counted."""


class Verify(StrEnum):
    """How much of a file is proven to be what its builder wrote before it is mapped first."""

    QUICK = "quick"
    """Small files by their SHA-256, large ones by their size alone."""
    FULL = "full"
    """Every file by its SHA-256."""
    OFF = "off"
    """Sizes alone."""


class Retrain(StrEnum):
    """When a compaction trains the centroids of inverted lists anew."""

    AUTO = "auto"
    """Where the lists have become too uneven or too few."""
    NEVER = "never"
    NOW = "now"


class BitOrder(StrEnum):
    """Which bit of a byte is the first one of eight."""

    LITTLE = "little"
    """The lowest: FAISS's, and `numpy.packbits(..., bitorder="little")`."""
    BIG = "big"
    """The highest: what `numpy.packbits` does when it is not told."""


class ExportForm(StrEnum):
    """What files an export is."""

    NPY = "npy"
    """LEVEL.npy, uint8[rows, nbits / 8], with keys.txt and labels.parquet."""
    FAISS = "faiss"
    """LEVEL.faiss, an IndexBinaryFlat, with the same."""
    PARQUET = "parquet"
    """rows.parquet, with everything."""


class ExportTo(StrEnum):
    """Where an export goes."""

    FILES = "files"
    """A folder of files, in one of their forms."""
    LANCE = "lance"
    """A Lance dataset."""
    MILVUS = "milvus"
    """A collection of a Milvus server."""


_MOST_FALSE = 1e15
"""Beyond any number of rows."""
SEGMENT_ROWS = 1 << 24
"""Rows of a segment at most, when nobody says otherwise: what writing one takes in memory and on the disk is bounded by it."""
KEEP = 8
"""Generations that stay on disk after a change, the newest included: what can be rolled back to."""


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """How to build."""

    kind: IndexKind = IndexKind.AUTO
    levels: tuple[Level, ...] | None = None
    """None: all that the code files have."""
    nlist: int | None = None
    """Inverted lists, which AUTO then makes at any number of rows; None: about the square root of the rows, a power of two."""
    dedupe: Dedupe = Dedupe.AUTO
    on_duplicate: OnDuplicate = OnDuplicate.ERROR
    allow_damaged: bool = False
    """Take code files of shards that were not whole."""
    overwrite: bool = False
    seed: int = 0
    segment_rows: int = SEGMENT_ROWS
    """Rows of a segment at most; more become several."""

    def __post_init__(self) -> None:
        take_names(self)
        object.__setattr__(self, "segment_rows", whole("segment_rows", self.segment_rows, 1))
        if self.nlist is not None and self.nlist < 1:
            raise _bad("nlist", self.nlist, "a whole number from 1 on")
        if self.nlist is not None and self.kind is IndexKind.FLAT:
            raise _bad("nlist", self.nlist, "left out: kind flat has no inverted lists")


@dataclass(frozen=True, slots=True)
class CompactSettings:
    """How to rewrite segments."""

    all: bool = False
    """Join everything that may be joined; else only what is due."""
    segment_rows: int = SEGMENT_ROWS
    """Rows of a segment at most."""
    max_bytes: int | None = None
    """Bytes that one step may write; None: what the disk has."""
    retrain: Retrain = Retrain.AUTO
    keep: int = KEEP

    def __post_init__(self) -> None:
        take_names(self)
        for name in ("segment_rows", "keep", "max_bytes"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, whole(name, value, 1))


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """How to make an index what a folder of code files says now."""

    keep_gone: bool = False
    """Keep the rows of shards that are gone while the folder that they stood in is there."""
    allow_damaged: bool = False
    """Take code files of shards that were not whole."""
    dry_run: bool = False
    """Only say what would change."""
    on_duplicate: OnDuplicate = OnDuplicate.ERROR
    """What to do with a key that several code files have; not `replace`: which row counts would depend on what came when."""
    compact: bool = True
    """Join segments after it where that is due."""
    keep: int = KEEP

    def __post_init__(self) -> None:
        take_names(self)
        if self.on_duplicate is OnDuplicate.REPLACE:
            raise _bad("on_duplicate", self.on_duplicate, "error or first")
        object.__setattr__(self, "keep", whole("keep", self.keep, 1))


@dataclass(frozen=True, slots=True)
class Trust:
    """What of an index is believed, which may be a stranger's."""

    verify: Verify = Verify.QUICK
    images_under: Sequence[str | os.PathLike[str]] | None = None
    """Folders that pictures may be read from; None: those of the shards, where this user built the index, else none."""
    allow_url: Sequence[str] = ()
    """Schemes (`https`) at which pictures may be read."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "verify", named(Verify, self.verify, "verify"))
        for name in ("images_under", "allow_url"):
            given: object = getattr(self, name)
            if isinstance(given, str | os.PathLike):
                raise _bad(name, given, "a list of them")
            object.__setattr__(self, name, None if given is None else tuple(cast("Sequence[str]", given)))

    @property
    def roots(self) -> Roots | None:
        """Return the places that the user named; None where none was."""
        if self.images_under is None and not self.allow_url:
            return None
        return Roots.named(self.images_under or (), self.allow_url)


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """What to search for, and with how much effort."""

    k: int | None = 10
    """Most rows a query returns; None: no limit (with a radius)."""
    radius: int | None = None
    """Largest distance in bits, inclusive; None: no limit."""
    where: str | None = None
    """Filter that rows must pass, see docs/FILTERS.md; None: all that have not been removed."""
    nprobe: int | None = None
    """Lists to probe; None: the index's own choice."""
    recall: float | None = None
    """Share of the nearest rows that are to be found, 0..1: as many lists are probed as that took when the index was tuned. For
    more rows than the k it was tuned for, and for all within a radius, every code is compared."""
    exact: bool = False
    """Compare every code even where there is an IVF."""
    engine: Engine = Engine.AUTO

    def __post_init__(self) -> None:
        take_names(self)
        if self.k is None and self.radius is None:
            raise HashgrainError(Reason.BAD_VALUE, "a search needs k or a radius")
        for name, least in (
            ("k", 1),
            ("radius", 0),
            ("nprobe", 1),
        ):  # numpy's integers become Python's: FAISS takes no others
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, whole(name, value, least))
        if self.recall is not None and not 0 < self.recall <= 1:
            raise _bad("recall", self.recall, "more than 0, at most 1")
        if len(effort := self.effort) > 1:
            raise _bad_effort(effort, "one of recall, nprobe and exact")

    @property
    def effort(self) -> dict[str, object]:
        """Return the settings of effort that were given, by name."""
        effort = {"recall": self.recall, "nprobe": self.nprobe, "exact": self.exact or None}
        return {name: value for name, value in effort.items() if value is not None}


@dataclass(frozen=True, slots=True)
class TuneSettings:
    """How to find out how many lists to probe."""

    recall: float = 0.95
    """Share of the k nearest rows that are to be found."""
    k: int = 10
    levels: tuple[Level, ...] = tuple(Level)
    nlists: tuple[int, ...] = ()
    """Numbers of lists to try beside the one there is."""
    sample: int = 1000
    """Most queries."""
    seed: int = 0

    def __post_init__(self) -> None:
        take_names(self)
        SearchSettings(self.k, recall=self.recall)
        for name, values in (("nlists", self.nlists), ("sample", (self.sample,))):
            if values and min(values) < 1:
                raise _bad(name, values, "whole numbers from 1 on")


@dataclass(frozen=True, slots=True)
class LevelSettings:
    """What to search for at one level."""

    level: Level = Level.FUSED
    search: SearchSettings = field(default_factory=SearchSettings)
    rerank: int | None = None
    """Rows that are found by distance and then ordered by the query's logits; None: distance alone."""
    explain: bool = False
    """Report the distance at every level."""
    exclude_self: bool = False
    """A query that is a row of the index does not find itself."""
    max_false: float | None = None
    """Nothing beyond the cut-off of so many expected unrelated images per query; None: however far."""

    def __post_init__(self) -> None:
        take_names(self)
        _check_max_false(self.max_false)
        if self.rerank is not None and self.search.k is not None and self.rerank < self.search.k:
            raise _bad("rerank", self.rerank, f"at least the {self.search.k} hits that are requested")


class Combine(StrEnum):
    """How several levels become one order."""

    CASCADE = "cascade"
    """Candidates by the first level, narrowed by each next one, in the order of the last."""
    SUM = "sum"
    """By the weighted sum of distances, each as a share of its bits; exact over all rows."""
    RRF = "rrf"
    """By the sum of weight / (60 + rank) over the levels, each with its own nearest rows: reciprocal rank fusion."""


@dataclass(frozen=True, slots=True)
class CombineSettings:
    """What to search for at several levels."""

    how: Combine
    levels: tuple[Level, ...]
    """In the order of a cascade."""
    search: SearchSettings = field(default_factory=SearchSettings)
    """k, and how each level is searched; its radius has no meaning here."""
    weights: tuple[int, ...] = ()
    """Of each level for sum and rrf; none: 1 each. Whole numbers, so that sums are exact."""
    budgets: tuple[int, ...] = ()
    """Rows that each level of a cascade but the last leaves over; none: 10 times as many at each step up from k."""
    radii: tuple[int, ...] = ()
    """Largest distance at each level of a cascade, in bits: then every row within all of them is found, exactly."""
    exclude_self: bool = False
    """A query that is a row of the index does not find itself."""
    max_false: float | None = None
    """Nothing beyond the cut-off of so many expected unrelated images per query, at the last level of a cascade."""

    def __post_init__(self) -> None:
        take_names(self)
        _check_max_false(self.max_false)
        if self.max_false is not None and self.how is not Combine.CASCADE:
            raise _bad(
                "max_false", self.max_false, f"left out: {self.how} orders rows by no distance that has a cut-off"
            )
        if not self.levels or len(set(self.levels)) < len(self.levels):
            raise _bad("levels", ",".join(self.levels), "one or more different levels")
        if self.search.k is None or self.search.radius is not None:
            raise _bad("radius", self.search.radius, "left out when levels are combined; a cascade has radii")
        for name, values, count, least, hows in (
            ("weights", self.weights, len(self.levels), 1, {Combine.SUM, Combine.RRF}),
            ("budgets", self.budgets, len(self.levels) - 1, 1, {Combine.CASCADE}),
            ("radii", self.radii, len(self.levels), 0, {Combine.CASCADE}),
        ):
            if values and self.how not in hows:
                raise _bad(name, values, f"left out: {self.how} has none")
            if values and (len(values) != count or min(values) < least):
                raise _bad(
                    name, values, f"{count} whole numbers from {least} on, for the levels {','.join(self.levels)}"
                )
        effort = self.search.effort
        if effort and self.how is Combine.SUM:
            raise _bad_effort(effort, "left out: a sum compares every row")
        if self.radii and effort.keys() - {"exact"}:
            raise _bad_effort(effort, "left out: radii are found exactly")
        if self.budgets and self.radii:
            raise _bad("budgets", self.budgets, "left out where there are radii: those alone decide")


@dataclass(frozen=True, slots=True)
class CalibrateSettings:
    """How to measure which distances chance brings."""

    levels: tuple[Level, ...] | None = None
    """None: all that the index has."""
    labels: Mapping[Level, str] = field(default_factory=dict)
    """Label by level whose values tell unrelated images apart; the levels left out go by what chance leaves over."""
    sample: int = 1000
    """Most rows that ask."""
    seed: int = 0
    keep: int = KEEP

    def __post_init__(self) -> None:
        take_names(self)
        for name, least in (("sample", 1), ("keep", 1)):
            object.__setattr__(self, name, whole(name, getattr(self, name), least))


def _check_max_false(value: float | None) -> None:
    given: object = value
    if value is None or (isinstance(given, int | float) and 0 < value < _MOST_FALSE):
        return
    raise _bad("max_false", shown(given), "unrelated images per query, a number above 0 (0.01)")


def whole(name: str, value: SupportsIndex, least: int) -> int:
    """Return a whole number of any kind as an int.

    Raises:
        HashgrainError: `bad-value` for anything else, or less than `least`.
    """
    try:
        number = index(value)
    except TypeError:
        raise _bad(name, shown(value), f"a whole number from {least} on") from None
    if number < least:
        raise HashgrainError(Reason.BAD_VALUE, f"{name} is {number}; it must be at least {least}")
    return number


def _bad_effort(effort: Mapping[str, object], expected: str) -> HashgrainError:
    return _bad(" and ".join(effort), ", ".join(map(str, effort.values())), expected)


def _bad(name: str, value: object, expected: str) -> HashgrainError:
    return HashgrainError(Reason.BAD_VALUE, f"{name}: {value}; expected {expected}")
