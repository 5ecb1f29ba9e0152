"""The one decode: image bytes to 8-bit RGB, with every limit checked before a decoder runs. Pillow only."""

import io
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from encoder.errors import Reject

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""Allowed by content, whatever a file is called: Pillow also opens EPS, which runs Ghostscript."""
MAX_SCANS = 100
"""Progressive JPEG encoders write about 10 scans; thousands of them in a small file are a bomb."""
KNOWN_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")
"""How files of the accepted formats begin."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an image may be, checked before its pixels are decoded."""

    max_bytes: int = 64 << 20
    max_pixels: int = 89_478_485
    """Source: Pillow's own default, a quarter of a gigabyte of RGB."""


class RejectedImage(Exception):
    """An image that has no code.

    Args:
        reject: why.
        detail: a few words more.
    """

    def __init__(self, reject: Reject, detail: str) -> None:
        super().__init__(f"{reject}: {detail}")
        self.reject, self.detail = reject, detail


def allow_pixels(limits: Limits) -> None:
    """Let Pillow open what `limits` allow; once per process, before threads decode.

    Pillow warns above its own limit and refuses above twice that, before `decode` can look. The refusal stays as an outer
    wall; the warning is silenced, since every image is held against `limits` right after its header is read.
    """
    Image.MAX_IMAGE_PIXELS = max(limits.max_pixels, Limits().max_pixels)
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def decode(data: bytes, limits: Limits = Limits(), *, at_least: int | None = None) -> Image.Image:
    """Decode an image file to RGB, its EXIF orientation applied, its first frame if it has several.

    Args:
        data: the file.
        limits: checked by size and header.
        at_least: a JPEG may come out at the smallest DCT scale (1, 1/2, 1/4, 1/8) whose short side has so many pixels.

    Raises:
        RejectedImage: with the reason.
    """
    if not data:
        raise RejectedImage(Reject.EMPTY, "no bytes")
    if len(data) > limits.max_bytes:
        raise RejectedImage(Reject.TOO_LARGE, f"{len(data):,} bytes, limit {limits.max_bytes:,}")
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > MAX_SCANS:
        raise RejectedImage(Reject.TOO_MANY_SCANS, f"more than {MAX_SCANS} scans")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_pixels(image, limits)
            if at_least is not None:
                image.draft("RGB", (at_least, at_least))
            image.load()
            return _upright(_rgb(image), image)
    except RejectedImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as err:
        raise RejectedImage(Reject.TOO_MANY_PIXELS, str(err)) from err
    except UnidentifiedImageError as err:
        if data.startswith(KNOWN_STARTS):
            raise RejectedImage(Reject.CORRUPT, "the header cannot be read") from err
        raise RejectedImage(Reject.UNKNOWN_FORMAT, f"none of {', '.join(FORMATS)}") from err
    except Exception as err:
        reject = Reject.TRUNCATED if "truncated" in str(err).lower() else Reject.CORRUPT
        raise RejectedImage(reject, f"{type(err).__name__}: {err}"[:200]) from err


def _check_pixels(image: Image.Image, limits: Limits) -> None:
    if image.width * image.height > limits.max_pixels:
        size = f"{image.width} x {image.height} pixels, limit {limits.max_pixels:,}"
        raise RejectedImage(Reject.TOO_MANY_PIXELS, size)


def square(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """Return uint8[size, size, 3]: the centre square, resized with Pillow's antialiased bilinear filter.

    One step, so that a picture of 1 x N pixels never becomes one of size x (N * size).
    """
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def decode_square(data: bytes, size: int, limits: Limits) -> npt.NDArray[np.uint8]:
    """Return uint8[size, size, 3], what a network sees of an image file.

    Raises:
        RejectedImage: with the reason.
    """
    return square(decode(data, limits, at_least=size), size)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "I":
        return Image.fromarray((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode not in {"1", "L", "P", "RGB", "CMYK", "YCbCr", "LA", "PA", "RGBA", "La", "RGBa"}:
        raise RejectedImage(Reject.UNSUPPORTED, f"pixels of mode {image.mode}")
    if "transparency" not in image.info and image.mode in {"1", "L", "P", "CMYK", "YCbCr"}:
        return image.convert("RGB")
    colour = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour).convert("RGB")


def _upright(rgb: Image.Image, original: Image.Image) -> Image.Image:
    """Apply the orientation of the original; broken EXIF means none."""
    try:
        turn = _TURNS.get(original.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  EXIF is a format of its own, with as many ways to be broken
        return rgb
    return rgb if turn is None else rgb.transpose(turn)


_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Source: EXIF 2.32, tag 0x0112."""
