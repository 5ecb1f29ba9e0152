"""The one decode: image bytes to 8-bit sRGB, every limit checked before a decoder runs. Pillow and its kin only, no networks."""

import io
import logging
import re
import warnings
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin, UnidentifiedImageError, features
from PIL.ExifTags import Base

from encoder.errors import Reject
from encoder.images.decoding.colour import MOST_PROFILE_BYTES, profile_of, to_srgb
from encoder.images.decoding.containers import is_cut
from encoder.images.decoding.deep_grey import eight_bits
from encoder.images.decoding.other_decoders import MISSING, TooManyPixels, open_other
from encoder.images.limits import Limits
from encoder.images.region import WHOLE, Box, square_with
from encoder.images.samples import Sample
from encoder.images.signature import DECODED, HEAD_BYTES, image_format
from encoder.runtime.locks import ForkLock

MAX_SCANS = 100
"""libjpeg's own progressions have 10 scans, 18 for CMYK; each costs a pass over the whole picture, so thousands in a
small file are a bomb. Source: jpeg_simple_progression (jcparam.c); libtiff's limit for a JPEG inside a TIFF."""


class RejectedImage(Exception):
    """An image that has no code.

    Args:
        reject: why.
        detail: a few words more, kept to one short line.
    """

    def __init__(self, reject: Reject, detail: str) -> None:
        self.reject, self.detail = reject, " ".join(detail.split())[:200]
        super().__init__(f"{reject}: {self.detail}")


def decode(data: bytes, limits: Limits = Limits(), *, at_least: int | None = None) -> Image.Image:
    """Decode an image file to RGB, in sRGB, its orientation applied, its first frame if it has several.

    Any number of threads may call it at once. The outcome depends on the arguments alone.

    Args:
        data: the file.
        limits: held against its size and its header.
        at_least: a JPEG may come out at the smallest DCT scale (1, 1/2, 1/4, 1/8) whose short side has so many pixels.

    Raises:
        RejectedImage: with the reason; no other exception, whatever the bytes.
    """
    if not data:
        raise RejectedImage(Reject.EMPTY, "no bytes")
    if len(data) > limits.max_bytes:
        raise RejectedImage(Reject.TOO_LARGE, f"{len(data):,} bytes, limit {limits.max_bytes:,}")
    kind = image_format(data[:HEAD_BYTES])
    if kind not in DECODED:
        raise RejectedImage(Reject.UNKNOWN_FORMAT, f"{kind or 'no image'}: none of {', '.join(DECODED)}")
    if kind == "JPEG" and has_too_many_scans(data):
        raise RejectedImage(Reject.TOO_MANY_SCANS, f"more than {MAX_SCANS} scans")
    allow_pixels(limits)
    stream = io.BytesIO(data)
    try:
        image = _load(kind, data, stream, limits, at_least)
        return _upright(_rgb(image, profile_of(image, kind, data), data), image)
    except RejectedImage:
        raise
    except (Image.DecompressionBombError, TooManyPixels) as err:
        raise RejectedImage(Reject.TOO_MANY_PIXELS, f"more than {limits.max_pixels:,} pixels") from err
    except Exception as err:  # hostile bytes make decoders raise nearly anything, MemoryError included
        # Pillow's own words for an unreadable header hold a memory address, and a detail must not change between runs.
        unread = isinstance(err, UnidentifiedImageError)
        reject = Reject.TRUNCATED if _ends_early(kind, err, data, stream) else Reject.CORRUPT
        raise RejectedImage(reject, "the header cannot be read" if unread else f"{type(err).__name__}: {err}") from err


def render(image: Image.Image, limits: Limits = Limits()) -> Image.Image:
    """Return RGB of an image that somebody else opened, as `decode` renders it.

    Raises:
        RejectedImage: with the reason; no other exception.
    """
    if image.width * image.height > limits.max_pixels:
        raise RejectedImage(Reject.TOO_MANY_PIXELS, f"more than {limits.max_pixels:,} pixels")
    if not image.width * image.height:
        raise RejectedImage(Reject.EMPTY, "no pixels")
    try:
        image.load()
        return _upright(_rgb(image, profile_of(image, image.format)), image)
    except RejectedImage:
        raise
    except Exception as err:
        raise RejectedImage(Reject.CORRUPT, f"{type(err).__name__}: {err}") from err


def square(image: Image.Image, size: int, box: Box | None = None) -> npt.NDArray[np.uint8]:
    """Return uint8[size, size, 3]: the centre square, or another one, resized with Pillow's antialiased bilinear filter.

    One step, so that a picture of 1 x N pixels never becomes one of size x (N * size).
    """
    box = square_with(WHOLE, image.size) if box is None else box
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def decode_square(data: bytes, size: int, limits: Limits) -> npt.NDArray[np.uint8]:
    """Return uint8[size, size, 3], what a network sees of an image file.

    Raises:
        RejectedImage: with the reason.
    """
    return square(decode(data, limits, at_least=size), size)


def square_or_reject(data: bytes, size: int, limits: Limits) -> npt.NDArray[np.uint8] | RejectedImage:
    """Return what `decode_square` returns, or raises."""
    try:
        return decode_square(data, size, limits)
    except RejectedImage as err:
        err.__cause__ = err.__context__ = None  # their frames hold the picture, and whoever keeps the error, in a cycle
        return err.with_traceback(None)


def decode_readable(
    samples: Iterable[Sample], size: int, limits: Limits = Limits()
) -> tuple[list[Sample], npt.NDArray[np.uint8]]:
    """Decode the samples that can be and leave out the others, which `encode` names one by one.

    Returns:
        Those that can be, and uint8[n, size, size, 3], what a network sees of each.
    """
    readable, pictures = list[Sample](), list[npt.NDArray[np.uint8]]()
    for sample in samples:
        picture = None if sample.reject else square_or_reject(sample.data, size, limits)
        if isinstance(picture, np.ndarray):
            readable.append(sample)
            pictures.append(picture)
    return readable, np.stack(pictures) if pictures else np.empty((0, size, size, 3), np.uint8)


def allow_pixels(limits: Limits) -> None:
    """Let Pillow open what `limits` allow, without a word; `decode` calls it, and calling it again costs nothing.

    Pillow's limit and Python's warning filters belong to the process and so to all threads: the limit is only ever
    raised, the filter only ever added, both under a lock. (`warnings.catch_warnings` would take the filter from under
    other threads.) The limit stays, at twice its number, as an outer wall around what Pillow allocates for a header.
    Its warnings (large pictures, broken EXIF, malformed animations) would be noise here, and where warnings are
    errors they would decide which images have codes. What libtiff writes to stderr from C, a line for a damaged
    compressed TIFF, is out of reach.
    """
    with _PILLOW:
        Image.MAX_IMAGE_PIXELS = max(limits.max_pixels, Image.MAX_IMAGE_PIXELS or 0)
        PngImagePlugin.MAX_TEXT_CHUNK = max(MOST_PROFILE_BYTES, PngImagePlugin.MAX_TEXT_CHUNK)
        if warnings.filters[:1] != [_NO_WARNINGS]:
            warnings.filterwarnings("ignore", module="PIL[.]")
            logging.getLogger("PIL").setLevel(logging.CRITICAL)


def _load(kind: str, data: bytes, stream: io.BytesIO, limits: Limits, at_least: int | None) -> Image.Image:
    if kind in MISSING:
        try:
            return open_other(kind, data, limits.max_pixels)
        except ImportError as err:
            raise RejectedImage(
                Reject.UNSUPPORTED, f"{kind} is decoded by the package {MISSING[kind]}; install it"
            ) from err
    if kind == "AVIF" and not features.check("avif"):
        raise RejectedImage(Reject.UNSUPPORTED, "AVIF is decoded by a Pillow that was built with libavif; install one")
    image = Image.open(stream, formats=(kind,))
    if image.width * image.height > limits.max_pixels:
        raise Image.DecompressionBombError
    if kind == "TIFF" and _is_raw(image):
        raise RejectedImage(Reject.UNSUPPORTED, "raw file of a camera, whose first picture is a thumbnail; develop it")
    if at_least is not None:
        image.draft("RGB", (at_least, at_least))
    image.load()
    return image


def _is_raw(tiff: Image.Image) -> bool:
    """Tell a DNG, NEF or ARW: a DNG says so, the others hold their picture beside a first one that is marked as reduced."""
    tags = getattr(tiff, "tag_v2", {})
    reduced = tags.get(Base.NewSubfileType, 0)
    return Base.DNGVersion in tags or (isinstance(reduced, int) and reduced & 1 == 1 and Base.SubIFDs in tags)


def has_too_many_scans(jpeg: bytes) -> bool:
    """Count scans from marker to marker, as a decoder does.

    Neither a thumbnail in a segment nor a video behind the end counts, and a file with few such bytes needs no walk.
    """
    if jpeg.count(b"\xff\xda") <= MAX_SCANS:
        return False
    scans = at = 0
    while (marker := _JPEG_MARKER.search(jpeg, at)) and marker[0] != b"\xff\xd9" and scans <= MAX_SCANS:
        scans += marker[0] == b"\xff\xda"
        at = marker.end() + int.from_bytes(jpeg[marker.end() : marker.end() + 2])
    return scans > MAX_SCANS


def _ends_early(kind: str, err: Exception, data: bytes, stream: io.BytesIO) -> bool:
    """Tell a file that was cut from one that was damaged; a bare codestream of JPEG XL does not tell, and counts as damaged."""
    if kind == "WEBP":  # its decoder does not tell, but the container states its size
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if kind in {"HEIF", "AVIF", "JXL"}:  # neither do theirs
        return not data.startswith(b"\xff\x0a") and is_cut(data)
    if isinstance(err, UnidentifiedImageError) or str(err) == "cannot load this image":
        return stream.tell() >= len(data)  # where a parser stands that ran out of bytes before it came to pixels
    return "truncated" in str(err).lower()


def _rgb(image: Image.Image, profile: bytes | None, data: bytes = b"") -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return to_srgb(image, profile)
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = eight_bits(image, data)
    if image.mode not in _RENDERED:
        raise RejectedImage(Reject.UNSUPPORTED, f"pixels of mode {image.mode}")
    if not image.has_transparency_data:
        return to_srgb(image if image.mode in {"L", "CMYK"} else image.convert("RGB"), profile).convert("RGB")
    if image.mode == "La":  # Pillow has no way from here to RGBA
        image = image.convert("LA")
    over = image.convert("RGBA")
    opaque = over.getchannel("R") if image.mode in {"L", "LA"} else over.convert("RGB")
    white = Image.new("RGB", over.size, "white")
    white.paste(to_srgb(opaque, profile).convert("RGB"), mask=over.getchannel("A"))
    return white


def _upright(rgb: Image.Image, original: Image.Image) -> Image.Image:
    """Apply the orientation of the original; broken EXIF means none."""
    if original.format in MISSING:  # opened by a caller, with a plugin whose decoder has turned it
        return rgb
    try:
        turn = _TURNS.get(original.getexif().get(Base.Orientation, 1))
    except Exception:  # noqa: BLE001  EXIF is a format of its own, with as many ways to be broken
        return rgb
    return rgb if turn is None else rgb.transpose(turn)


_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""Not stuffing, fill or a marker without a segment (TEM, RST, SOI). Source: ITU-T T.81, table B.1."""
_NO_WARNINGS = ("ignore", None, Warning, re.compile("PIL[.]"), 0)
"""An entry of `warnings.filters`, as `warnings.filterwarnings` writes it."""
_PILLOW = ForkLock()
_RENDERED = frozenset({"1", "L", "P", "RGB", "CMYK", "YCbCr", "LA", "PA", "RGBA", "La", "RGBa"})
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
