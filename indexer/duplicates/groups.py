"""Near-duplicates of an index: groups of rows, largest first, each with what a person or a program decides by."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.errors import HashgrainError, Reason
from encoder.images.labels.values import as_json
from encoder.levels import Level, parse_level
from indexer.duplicates.join import Advance, groups_of
from indexer.matches import Distances, Rows
from indexer.row_mask import mask_of
from indexer.settings import whole
from indexer.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class DuplicateSettings:
    """What counts as a near-duplicate."""

    level: Level = Level.FINE
    radius: int = 0
    """In bits, inclusive."""
    where: str | None = None
    """Filter that rows must pass."""
    strict: bool = False
    """Every row of a group is within the radius of its first one; else of some row of it, and a chain may lead far."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", parse_level(self.level))
        object.__setattr__(self, "radius", whole("radius", self.radius, 0))


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Rows that are near-duplicates."""

    rows: Rows
    """int64[n], ascending: the first stands for all."""
    distances: Distances
    """int32[n], bits to the first."""

    def as_dict(self, snapshot: Snapshot, number: int) -> dict[str, Any]:
        """Return what JSON can say of it."""
        rows = [
            {
                "key": snapshot.key(row),
                "row": row,
                "distance": distance,
                "shard": snapshot.shard(row),
                "labels": as_json(snapshot.labels(row)),
            }
            for row, distance in zip(self.rows.tolist(), self.distances.tolist(), strict=True)
        ]
        return {"group": number, "size": len(rows), "rows": rows}


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What a search for near-duplicates came to."""

    groups: tuple[Group, ...]
    """Largest first, then by their first row."""
    rows: int
    """Rows that were compared."""

    @property
    def extra(self) -> int:
        """Rows that would go if one of each group stayed."""
        return sum(len(group.rows) - 1 for group in self.groups)


def find_duplicates(snapshot: Snapshot, settings: DuplicateSettings, advance: Advance = lambda _: None) -> Duplicates:
    """Compare the codes of all rows with one another. Exact; takes about 40 bytes of memory per row.

    Raises:
        HashgrainError: `level-unknown`, `bad-value` for a filter that cannot be read, or a radius of as many bits as a code has.
    """
    snapshot.check_level(settings.level)
    if settings.radius >= (nbits := snapshot.manifest.bits[settings.level]):
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"radius {settings.radius} of {nbits} bits at {settings.level} joins all rows; expected a few bits",
        )
    passing = snapshot.passing(settings.where)
    rows = np.arange(snapshot.ntotal) if passing is None else np.flatnonzero(mask_of(passing, 0, snapshot.ntotal))
    codes = snapshot.codes(settings.level, rows)
    owners = groups_of(codes, settings.radius, advance)
    found = list(_balls(codes, owners, settings.radius) if settings.strict else _runs(owners))
    found.sort(key=lambda members: (-len(members), members[0]))
    groups = [Group(rows[members], _distances(codes, members)) for members in found]
    return Duplicates(tuple(groups), len(rows))


def _runs(owners: Rows) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the members of each group of two or more, ascending."""
    sizes = np.bincount(owners, minlength=len(owners))
    several = np.flatnonzero(sizes[owners] > 1)
    order = several[np.argsort(owners[several], kind="stable")]
    bounds = np.flatnonzero(np.diff(owners[order])) + 1
    yield from (members for members in np.split(order, bounds) if len(members))


def _balls(codes: Codes, owners: Rows, radius: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield what each group falls into: its first member with all within the radius of it, then the same of those left over."""
    for members in _runs(owners):
        left = members
        while len(left) > 1:
            near = _distances(codes, left) <= radius
            if near.sum() > 1:
                yield left[near]
            left = left[~near]


def _distances(codes: Codes, members: npt.NDArray[np.int64]) -> Distances:
    """Return int32[n], bits between each of some codes and the first of them."""
    differences = codes[members] ^ codes[members[0]]
    distances: Distances = np.bitwise_count(differences).sum(axis=1, dtype=np.int32)
    return distances
