"""A part of a picture that a query is about."""

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Final

from encoder.errors import HashgrainError, Reason

LEAST_SIDE: Final = 1 / 32
"""Of a region, as a share of the picture's side: about one place of the last feature map of a 1,024 px picture."""


class RegionMode(StrEnum):
    """How a part of a picture becomes a code."""

    ATTENTION = "attention"
    """The whole picture passes the network; only places inside the region are pooled, so that it is seen in its surroundings."""
    CROP = "crop"
    """The region is cut out and encoded by itself, at its full resolution."""


@dataclass(frozen=True, slots=True)
class Region:
    """A box in an upright picture, in shares of its width and height.

    Raises:
        HashgrainError: `bad-value` for a box that is not inside the picture, or less than 1/32 of a side.
    """

    x: float
    """Of its left side, 0..1."""
    y: float
    """Of its top, 0..1."""
    width: float
    height: float

    def __post_init__(self) -> None:
        for low, side, name in ((self.x, self.width, "width"), (self.y, self.height, "height")):
            inside = isfinite(low) and isfinite(side) and low >= 0 and side >= LEAST_SIDE and low + side <= 1 + 1e-6
            if not inside:
                raise HashgrainError(
                    Reason.BAD_VALUE,
                    f"region {self}: its {name} is not inside the picture; give x,y,width,height as shares of the upright "
                    f"picture, 0 to 1, each side at least {LEAST_SIDE:g}",
                )

    def __str__(self) -> str:
        return ",".join(f"{value:g}" for value in (self.x, self.y, self.width, self.height))

    @classmethod
    def parse(cls, text: str) -> "Region":
        """Return the region of `x,y,width,height`."""
        try:
            x, y, width, height = map(float, text.split(","))
        except ValueError:
            raise HashgrainError(
                Reason.BAD_VALUE, f"region {text!r}; expected x,y,width,height as shares of the picture, 0 to 1"
            ) from None
        return cls(x, y, width, height)
