"""What building and searching can be told, in plain data. No numpy, no faiss: `--help` is quick."""

from dataclasses import dataclass
from enum import StrEnum

from encoder.errors import HashgrainError, Reason
from encoder.levels import Level


class IndexKind(StrEnum):
    """How a level is searched."""

    AUTO = "auto"
    """flat below a measured size, else ivf."""
    FLAT = "flat"
    """Every code is looked at: exact."""
    IVF = "ivf"
    """The nearest lists are looked at; the flat codes stay beside it, for exact answers and codes by row."""


class OnDuplicate(StrEnum):
    """What to do with a key that an earlier row has."""

    ERROR = "error"
    FIRST = "first"
    """Keep the first row, leave the later ones out, and count them."""


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """How to build."""

    kind: IndexKind = IndexKind.AUTO
    levels: tuple[Level, ...] = tuple(Level)
    nlist: int | None = None
    """Inverted lists; None: about the square root of the rows, a power of two."""
    on_duplicate: OnDuplicate = OnDuplicate.ERROR
    allow_damaged: bool = False
    """Take code files of shards that were not whole."""
    overwrite: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """What to look for, and how hard."""

    k: int | None = 10
    """Most rows a query returns; None: no limit (with a radius)."""
    radius: int | None = None
    """Largest distance in bits, inclusive; None: no limit."""
    nprobe: int | None = None
    """Lists to probe; None: the index's own choice."""
    exact: bool = False
    """Look at every code even where there is an IVF."""

    def __post_init__(self) -> None:
        if self.k is None and self.radius is None:
            raise HashgrainError(Reason.BAD_VALUE, "a search needs k or a radius")
        for name, value, least in (("k", self.k, 1), ("radius", self.radius, 0), ("nprobe", self.nprobe, 1)):
            if value is not None and value < least:
                raise HashgrainError(Reason.BAD_VALUE, f"{name} is {value}; it must be at least {least}")
