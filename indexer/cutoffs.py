"""How near a match has to be so that it is not chance: cut-offs that were measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True, slots=True)
class CutOff:
    """The distance beyond which rows are not called similar."""

    radius: int
    """Bits, inclusive; -1 where not even equal codes are rare enough."""
    max_false: float
    """Unrelated images that come within it, per query, at this index's size: at most so many are expected."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What was measured of the distances at a level between images that have nothing to do with each other."""

    rows: int
    """Rows of the index then."""
    sample: int
    """Rows that asked."""
    how: str
    """What unrelated meant, in words: another label, or what chance leaves over."""
    unrelated: tuple[float, ...]
    """Share of pairs of unrelated images within 0, 1, ... nbits bits."""
    precision: tuple[float, ...] = ()
    """Share of pairs within so many bits that have the same label, 1 where no pair is; none without labels."""


def expected_false(of: Calibrated, radius: int, rows: int) -> float:
    """Return how many unrelated images come within a radius in bits, per query, in an index of so many rows.

    The share of pairs does not change as an index grows, so it holds for an index that has grown since.
    """
    return 0.0 if radius < 0 else of.unrelated[min(radius, len(of.unrelated) - 1)] * rows


def radius_for(of: Calibrated, max_false: float, rows: int) -> int | None:
    """Return the largest radius in bits within which so many unrelated images are expected at most; None: not even equal codes."""
    within = [radius for radius in range(len(of.unrelated)) if expected_false(of, radius, rows) <= max_false]
    return within[-1] if within else None


def cut_off(of: Calibrated, max_false: float, rows: int) -> CutOff:
    """Return the cut-off of so many expected unrelated images per query in an index of so many rows."""
    radius = radius_for(of, max_false, rows)
    return CutOff(-1 if radius is None else radius, max_false)


def parse_calibrated(content: Mapping[str, Any], nbits: int) -> Calibrated:
    """Make it of JSON that anybody may have written.

    Raises:
        ValueError: shares that cannot be those of a level of so many bits.
    """
    rows, sample, how = content["rows"], content["sample"], content["how"]
    unrelated, precision = (tuple(map(float, content[name])) for name in ("unrelated", "precision"))
    shares = (*unrelated, *precision)
    if (
        len(unrelated) != nbits + 1
        or len(precision) not in {0, nbits + 1}
        or not all(0 <= share <= 1 for share in shares)
    ):
        raise ValueError(f"cut-offs of {len(unrelated)} and {len(precision)} shares for {nbits} bits")
    if any(after < before for before, after in pairwise(unrelated)):
        raise ValueError("cut-offs of shares that fall")
    return Calibrated(rows, sample, how, unrelated, precision)
