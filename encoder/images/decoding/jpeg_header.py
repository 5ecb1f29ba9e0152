"""What the header of a JPEG says, and by that which way its pixels go; the file's own bytes, no decoder."""

from dataclasses import dataclass
from enum import StrEnum

from encoder.images.limits import Limits


class Way(StrEnum):
    """How an image file went to its pixels. All ways but the first are the one decode, on the CPU; the name is the reason."""

    NVJPEG = "nvjpeg"
    NOT_JPEG = "not-jpeg"
    PROGRESSIVE = "progressive"
    COLOUR = "colour"
    """Another colour space than sRGB, four components, or colours that are not YCbCr."""
    ODD = "odd"
    """A JPEG that nothing certain can be said of: cut, damaged, beyond the limits, or rare."""
    REFUSED = "refused"
    """nvJPEG failed on it."""
    NO_DECODER = "no-decoder"
    """There is no hardware decoder, or it failed on whatever it was given."""


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What is known of a JPEG that may go to nvJPEG: baseline, one scan, eight bits, grey or YCbCr, in sRGB."""

    width: int
    height: int
    """Both as stored, before the orientation is applied."""
    orientation: int
    """1 to 8. Source: EXIF 2.32, tag 0x0112."""
    end: int
    """Bytes of the picture, up to and with its end-of-image marker; what lies behind is no part of it."""


def read_header(data: bytes, limits: Limits) -> JpegHeader | Way:
    """Return what the header says of a JPEG that may go to nvJPEG, or why another file may not.

    Only certainty goes to nvJPEG. Whatever is wrong with a file, the one decode says it.

    Args:
        data: an image file of any format.
        limits: what an image may be.
    """
    raise NotImplementedError
