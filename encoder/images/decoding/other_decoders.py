"""Formats that Pillow leaves to other packages: HEIF and JPEG XL, each opened by a package that is loaded when first needed.

Nothing is registered with Pillow, so that what a program that uses Pillow can open does not depend on what came before.
"""

from PIL import Image

MISSING = {"HEIF": "pi-heif", "JXL": "pylibjxl"}
"""The package by format."""


class TooManyPixels(Exception):
    """A header states more than the limit."""


def open_other(kind: str, data: bytes, max_pixels: int) -> Image.Image:
    """Return the first picture, or the one marked as primary, upright, of mode L, LA, RGB, RGBA or RGBa with 8 bits per sample.

    Both formats turn pictures by properties of their own, and so do their decoders; EXIF repeats that turn and is left out.

    Args:
        kind: `HEIF` or `JXL`.
        data: the file.
        max_pixels: held against the header, before pixels are decoded.

    Raises:
        TooManyPixels: by the header.
        ModuleNotFoundError: the package is not installed.
        Exception: whatever a decoder raises over hostile bytes.
    """
    return {"HEIF": _open_heif, "JXL": _open_jxl}[kind](data, max_pixels)


def _open_heif(data: bytes, max_pixels: int) -> Image.Image:
    """Ask the extension module itself: `pi_heif` reads metadata first, and a damaged entry there ends the process (1.4.0)."""
    import _pi_heif

    # one thread, to 8 bits, not BGR, keep strides, (16 bits are moot), any decoder, libheif's own limits on
    pictures = [
        found for found in _pi_heif.load_file(data, 1, True, False, False, True, "", False) if found is not None
    ]
    picture = next((found for found in pictures if found.primary), pictures[0])
    (size, mode), profile = picture.size_mode, picture.color_profile
    _allow(size, max_pixels)
    pixels = picture.data
    if picture.size_mode != (size, mode):
        raise ValueError(f"pixels of {picture.size_mode}, header of {(size, mode)}")
    image = Image.frombytes(mode, size, pixels, "raw", mode, picture.stride)
    image.info = {"icc_profile": profile["data"]} if profile and profile["type"] in {"rICC", "prof"} else {}
    return image


def _open_jxl(data: bytes, max_pixels: int) -> Image.Image:
    import pylibjxl

    header = pylibjxl.probe(data)
    _allow((header["width"], header["height"]), max_pixels)
    with pylibjxl.JXL(threads=1, pool_size=1) as decoder:
        pixels, beside = decoder.decode(data, metadata=True)
        if header["have_animation"]:  # whose last frame comes with metadata, and the first without
            pixels = decoder.decode(data)
    image = Image.fromarray(pixels)
    image.info = {"icc_profile": beside["icc"]} if "icc" in beside else {}
    return image


def _allow(size: tuple[int, int], max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise TooManyPixels
