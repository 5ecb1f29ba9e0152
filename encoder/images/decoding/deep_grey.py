"""Grey of more than 8 bits per sample, brought to 8: the high bits of the depth that the samples use."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from encoder.images.decoding.containers import png_chunk

_DEPTHS = (8, 10, 12, 14, 16, 24, 32)
"""Bits per sample of cameras, scanners and files."""
_MAX_SAMPLE_VALUE = 281
"""Source: TIFF 6.0, MaxSampleValue."""


def eight_bits(image: Image.Image, data: bytes = b"") -> Image.Image:
    """Return an image of mode L, or LA where one sample stands for transparency, of one of mode I or I;16.

    Samples lose all but the 8 highest bits of their depth. The depth is what the file states: BitsPerSample of a TIFF if
    that is not 16 or 32, else its MaxSampleValue; sBIT of a PNG. Where it states none, or a sample does not fit, the depth
    is the smallest of 8, 10, 12, 14, 16, 24 and 32 bits that holds the highest sample. So 12 bits that were written as 16
    are a picture, and 16 bits that are used come out by their high byte. Where samples are below zero, the lowest counts
    as zero. White-is-zero is turned.

    Args:
        image: as Pillow opened it.
        data: its file, where there is one.
    """
    samples = np.asarray(image)
    lowest = min(0, int(samples.min()))
    highest = int(samples.max()) - lowest
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    depth = _stated(tags, data) or 0
    if highest.bit_length() > depth:
        depth = next(each for each in _DEPTHS if highest.bit_length() <= each)
    counted = samples.astype(np.int64) - lowest if lowest else samples
    grey = (counted >> max(depth - 8, 0)).astype(np.uint8)
    if tags.get(Base.PhotometricInterpretation) == 0:
        grey = 255 - grey
    rendered = Image.fromarray(grey)
    if "transparency" in image.info:
        rendered.putalpha(Image.fromarray((samples != image.info["transparency"]).astype(np.uint8) * np.uint8(255)))
    return rendered


def _stated(tags: Mapping[int, Any], data: bytes) -> int | None:
    """Return the bits that samples have by their file, or None."""
    if data.startswith(b"\x89PNG"):
        return (png_chunk(data, b"sBIT") or b"\0")[0]
    bits = tags.get(Base.BitsPerSample, (16,))
    if bits not in {(16,), (32,)}:
        return int(bits[0])
    stated = tags.get(_MAX_SAMPLE_VALUE)
    value = stated[0] if isinstance(stated, tuple) and stated else stated
    return value.bit_length() if isinstance(value, int) and value > 0 else None
