"""What an image may be, in plain data, checked before its pixels are decoded; and the version of the decode."""

from dataclasses import dataclass
from typing import Final

DECODE_VERSION: Final = 2
"""Version of the one decode. Codes that another one made are not taken over. 1: no colour profiles, grey by its high byte."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an image may be, checked before its pixels are decoded."""

    max_bytes: int = 64 << 20
    max_pixels: int = 89_478_485
    """Source: Pillow's own default, a quarter of a gigabyte of RGB."""
