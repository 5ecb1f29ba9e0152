"""How near a match has to be so that it is not chance: cut-offs that were measured."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CutOff:
    """The distance beyond which rows are not called similar."""

    radius: int
    """Bits, inclusive; -1 where not even equal codes are rare enough."""
    max_false: float
    """Unrelated images that come within it, per query, at this index's size."""
