"""A part of a picture that a query is about."""

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Final, TypeAlias

from encoder.errors import HashgrainError, Reason

LEAST_SIDE: Final = 1 / 32
"""Of a region, as a share of the picture's side: about one place of the last feature map of a 1,024 px picture."""

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom."""


class RegionMode(StrEnum):
    """How a part of a picture becomes a code."""

    ATTENTION = "attention"
    """The whole picture passes the network; only places inside the region are pooled, so that it is seen in its surroundings."""
    CROP = "crop"
    """The region is cut out and encoded by itself, at its full resolution."""


DEFAULT_MODE: Final = RegionMode.CROP
"""Finds a thing among others, and has the better mean on real photos: docs/RESULTS.md, "Regions"."""


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

    def pixels(self, size: tuple[int, int]) -> Box:
        """Return the region in pixels of a picture of (width, height)."""
        across, down = size
        right, bottom = min(self.x + self.width, 1), min(self.y + self.height, 1)
        return self.x * across, self.y * down, right * across, bottom * down


WHOLE: Final = Region(0, 0, 1, 1)


def square_with(region: Region, size: tuple[int, int]) -> Box:
    """Return the square of the picture's short side that has the region in it, in pixels, as near to the centre as can be.

    A region that is longer than that side has the square in it instead.
    """
    left, top, right, bottom = region.pixels(size)
    side = min(size)
    across, down = (
        min(max(_clipped((length - side) / 2, high - side, low), 0), length - side)
        for length, low, high in zip(size, (left, top), (right, bottom), strict=True)
    )
    return across, down, across + side, down + side


def square_around(region: Region, size: tuple[int, int]) -> Box:
    """Return the smallest square around the region, moved into the picture, in pixels; at most of the picture's short side."""
    left, top, right, bottom = region.pixels(size)
    side = min(max(right - left, bottom - top), *size)
    across, down = (
        min(max(low + (high - low - side) / 2, 0), length - side)
        for length, low, high in zip(size, (left, top), (right, bottom), strict=True)
    )
    return across, down, across + side, down + side


def inside(region: Region, size: tuple[int, int], square: Box) -> Box:
    """Return the part of the region that lies in a square of the picture, in shares of the square's side."""
    left, top, right, _ = square
    corners = zip(region.pixels(size), (left, top, left, top), strict=True)
    x, y, end, bottom = (min(max((at - low) / (right - left), 0), 1) for at, low in corners)
    return x, y, end, bottom


def _clipped(value: float, one: float, other: float) -> float:
    """Return the number nearest to a value between two others."""
    return min(max(value, min(one, other)), max(one, other))
