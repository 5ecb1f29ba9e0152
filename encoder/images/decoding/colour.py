"""Colours of other spaces brought to sRGB, so that a picture has one code whatever space it was saved in."""

import io
from functools import cache, lru_cache
from typing import Final

import numpy as np
from PIL import Image, ImageCms

from encoder.images.decoding.containers import code_points, png_chunk
from encoder.images.decoding.profiles import numbered_profile

MOST_PROFILE_BYTES: Final = 4 << 20
"""The profiles of printing presses have up to 3 MB; a larger one is ignored."""
NEAR: Final = 3
"""Steps of 255 by which a profile may move a colour and still count as sRGB: the makers of its many copies round differently,
and a JPEG at quality 90 moves colours by more."""
_SPACES: Final = {"RGB": b"RGB ", "L": b"GRAY", "CMYK": b"CMYK"}


def profile_of(image: Image.Image, kind: str | None, data: bytes = b"") -> bytes | None:
    """Return the ICC profile by which an image's samples are to be read, or None: then they are sRGB, grey or ink as they are.

    Code points of a PNG come before its profile, those of HEIF and AVIF behind it, as their specifications have it. What a PNG
    says of gamma and primaries without either (gAMA, cHRM) is ignored: tools write it unasked, and nearly always for sRGB.

    Args:
        image: as its decoder opened it.
        kind: its format, None where nobody knows.
        data: its file, where there is one.
    """
    found: bytes | None = image.info.get("icc_profile")
    if kind == "PNG" and (chunk := png_chunk(data, b"cICP")):
        return numbered_profile(chunk[0], chunk[1]) if len(chunk) == 4 else found
    if not found and kind in {"HEIF", "AVIF"} and (points := code_points(data)):
        return numbered_profile(*points)
    return found


def is_kept(profile: bytes | None, mode: str) -> bool:
    """Whether samples of a mode (`RGB`, `L` or `CMYK`) are left as they are: by a profile that is sRGB or that is of no use."""
    return not profile or _transform(profile, mode) is None


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return an image of mode RGB, L or CMYK in sRGB; the same image if its profile says no other, is broken or of another space.

    Relative colorimetric with black point compensation: what sRGB can show stays what it is and ink's black becomes black,
    as in browsers. The perceptual way differs from that only for printers' profiles, and there by their makers' taste.
    """
    transform = _transform(profile, image.mode) if profile else None
    return transform.apply(image) if transform else image


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the way to sRGB, or None where samples stay as they are. Any number of threads may apply it at once."""
    if len(profile) > MOST_PROFILE_BYTES or profile[16:20] != _SPACES.get(mode) or profile[36:40] != b"acsp":
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.ImageCmsTransform(
            source,
            _srgb(),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        moved = np.asarray(transform.apply(_colours(mode))).astype(int)
    except Exception:  # noqa: BLE001  a stranger's profile: LittleCMS says little of what is wrong with one
        return None
    kept = np.asarray(_colours(mode).convert("RGB")).astype(int)
    white = moved[kept.min(axis=2) == 255]
    if white.min() < 200:  # no device shows white as a colour
        return None
    return None if mode != "CMYK" and np.abs(moved - kept).max() <= NEAR else transform


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@cache
def _colours(mode: str) -> Image.Image:
    """Return all greys, or 16 x 16 x 16 colours, or white paper."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    if mode == "CMYK":
        return Image.new("CMYK", (1, 1))
    axis = np.arange(0, 256, 17, dtype=np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(64, 64, 3))
