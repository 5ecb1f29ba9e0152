"""What a query wants of the codes it is compared with, whoever compares."""

from dataclasses import dataclass

from indexer.rowset import RowSet


@dataclass(frozen=True, slots=True)
class Terms:
    """k or a radius, or both."""

    k: int | None
    """Most rows; None: all within the radius."""
    radius: int | None = None
    """Largest distance in bits, inclusive; None: any."""
    rows: RowSet | None = None
    """The rows that count; None: all."""
