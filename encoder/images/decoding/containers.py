"""What lies in the containers of image files beside pixels, read without a decoder: chunks of a PNG, boxes of an ISO file."""

from collections.abc import Iterator
from typing import Final

MOST_BOXES: Final = 1000
"""Looked at; a picture has a handful outermost, and a hostile file of nothing but boxes millions."""


def png_chunk(png: bytes, name: bytes) -> bytes | None:
    """Return the content of the first chunk of a name that stands before the pixels.

    Source: PNG (third edition), 5.
    """
    at = 8
    while at + 8 <= len(png) and (found := png[at + 4 : at + 8]) not in {b"IDAT", b"IEND"}:
        size = int.from_bytes(png[at : at + 4])
        if found == name:
            return png[at + 8 : at + 8 + size]
        at += 12 + size
    return None


def code_points(boxed: bytes) -> tuple[int, int] | None:
    """Return the numbers of primaries and transfer that a HEIF or AVIF states (`nclx`), or None.

    The first such box counts. It stands in `meta`, which comes before the pixels.

    Source: ISO/IEC 23008-12 and 14496-12, 12.1.5.
    """
    for name, start, end in _boxes(boxed):
        if name == b"meta" and (at := boxed.find(b"colrnclx", start, end)) >= 0:
            return int.from_bytes(boxed[at + 8 : at + 10]), int.from_bytes(boxed[at + 10 : at + 12])
    return None


def is_cut(boxed: bytes) -> bool:
    """Whether a file of boxes (HEIF, AVIF, JPEG XL in its container) ends before a box does, or before its pixels.

    Source for JPEG XL, whose pixels may come in parts, the last of them marked: ISO/IEC 18181-2, 9.
    """
    boxes = list(_boxes(boxed))
    pixels = any(
        name in {b"mdat", b"jxlc"} or (name == b"jxlp" and boxed[start : start + 1] >= b"\x80")
        for name, start, _ in boxes
    )
    return boxes[-1][2] > len(boxed) or not pixels


def _boxes(boxed: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of each outermost box, which may end behind the file.

    Source: ISO/IEC 14496-12, 4.2.
    """
    at = 0
    for _ in range(MOST_BOXES):
        size, name, head = int.from_bytes(boxed[at : at + 4]), boxed[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(boxed[at + 8 : at + 16]), 16
        end = len(boxed) if size == 0 and len(name) == 4 else at + max(size, head)
        yield name, at + head, end
        if end >= len(boxed):
            return
        at = end
