"""What an image may be, in plain data, checked before its pixels are decoded."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What an image may be, checked before its pixels are decoded."""

    max_bytes: int = 64 << 20
    max_pixels: int = 89_478_485
    """Source: Pillow's own default, a quarter of a gigabyte of RGB."""
