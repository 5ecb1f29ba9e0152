"""Image formats, colours and endings of names."""

import io
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, features

from encoder.errors import Reject
from encoder.images.decoding.profiles import ADOBE_RGB, DISPLAY_P3, PROPHOTO, SRGB, ColourSpace, rgb_profile
from tests.support import phone_images
from tests.support.inputs.case import Group, Steps, put
from tests.support.odd_images import chunk, png, saved
from tests.support.pictures import picture

FORMATS = Group("Image formats")
LARGE = (96, 72)
"""Of the drawn photos, in pixels."""


def photo() -> Image.Image:
    """A soft photo whose halves differ, so that a turned one is another."""
    return picture(3, 96).crop((0, 0, *LARGE))


def as_file(format_: str, image: Image.Image | None = None, **options: Any) -> bytes:
    return saved(image or photo(), format_, **options)


def jpeg(image: Image.Image | None = None, **options: Any) -> bytes:
    return as_file("JPEG", image, quality=98, subsampling=0, **options)


def in_space(space: ColourSpace) -> bytes:
    """The photo in another colour space, as a JPEG with its profile."""
    source, target = [ImageCms.ImageCmsProfile(io.BytesIO(rgb_profile(each))) for each in (SRGB, space)]
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    twin = ImageCms.ImageCmsTransform(source, target, "RGB", "RGB", intent).apply(photo())
    return jpeg(twin, icc_profile=rgb_profile(space))


def deep_grey(bits: int, *extra: bytes) -> bytes:
    """The photo in grey as a PNG of 16 bits of which only the lowest `bits` are used."""
    samples = (np.asarray(photo().convert("L")).astype(np.uint16) << (bits - 8)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    return png(*LARGE, 16, 0, rows, *extra)


def turned() -> bytes:
    """The photo stored lying, with EXIF's word on how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpeg(photo().transpose(Image.Transpose.ROTATE_90), exif=exif)


def animated(format_: str) -> bytes:
    options: dict[str, Any] = {"lossless": True} if format_ == "WEBP" else {}
    return as_file(format_, save_all=True, append_images=[picture(9, 96).crop((0, 0, *LARGE))], **options)


def like_the_jpeg(title: str, others: Mapping[str, bytes], **options: Any) -> None:
    """Add files that show the photo, beside itself as a JPEG."""
    files = {"photo.jpg": jpeg(), **others}
    FORMATS.photos(title, files, rows=len(files), same=("photo.jpg", *others), **options)


like_the_jpeg(
    "JPEG, PNG, WebP, BMP and TIFF of one photo, in a folder",
    {
        "photo.png": as_file("PNG"),
        "photo.webp": as_file("WEBP", lossless=True),
        "photo.bmp": as_file("BMP"),
        "photo.tif": as_file("TIFF"),
    },
)
FORMATS.photos("GIF", {"photo.gif": as_file("GIF")}, keys=["photo.gif"])
like_the_jpeg(
    "Endings that say JPEG otherwise: `.jfif`, `.jpe`, `.jpg_large`, `.JPEG`",
    {name: jpeg() for name in ("a.jfif", "b.jpe", "c.jpg_large", "d.JPEG")},
)
like_the_jpeg(
    "Endings that are wrong: a PNG called `.jpg`, a JPEG called `.HEIC`",
    {"really-png.jpg": as_file("PNG"), "really-jpeg.HEIC": jpeg()},
)
like_the_jpeg("No ending, and one that nobody knows", {"4f2a": jpeg(), "photo.original": jpeg()})


def no_avif(_: Path) -> str | None:
    return None if features.check("avif") else "Pillow without AVIF"


def no_jxl(_: Path) -> str | None:
    return None if find_spec("pylibjxl") else "pylibjxl is not installed"


@FORMATS.case("HEIC of a phone, as `.heic` and `.HEIC`; one of them stored lying, as phones do")
def heic(here: Path) -> Steps:
    put(here / "photos", {"a.heic": phone_images.HEIF_SOFT, "B.HEIC": phone_images.HEIF_SOFT})
    put(here / "photos", {"lying.heic": phone_images.HEIF_SOFT_TURNED})
    outcome = yield "encode photos"
    outcome.check(rows=3, same=("a.heic", "B.HEIC"))


@FORMATS.case("AVIF", no_avif)
def avif(here: Path) -> Steps:
    put(here / "photos", {"photo.jpg": jpeg(), "photo.avif": as_file("AVIF", quality=98, subsampling="4:4:4")})
    outcome = yield "encode photos"
    outcome.check(rows=2)
    outcome.same_codes("photo.jpg", "photo.avif", most=6)


@FORMATS.case("JPEG XL (extra `jxl`)", no_jxl)
def jpeg_xl(here: Path) -> Steps:
    import pylibjxl

    put(here / "photos", {"photo.jpg": jpeg(), "photo.jxl": pylibjxl.encode(np.asarray(photo()), lossless=True)})
    outcome = yield "encode photos"
    outcome.check(rows=2, same=("photo.jpg", "photo.jxl"))


like_the_jpeg(
    "JPEG in Display P3 (as phones save it), Adobe RGB and ProPhoto, each with its profile, beside sRGB",
    {"p3.jpg": in_space(DISPLAY_P3), "adobe.jpg": in_space(ADOBE_RGB), "prophoto.jpg": in_space(PROPHOTO)},
)
like_the_jpeg("A colour profile that is broken", {"broken-profile.jpg": jpeg(icc_profile=b"no profile" * 20)})
FORMATS.photos(
    "CMYK, as JPEG and TIFF",
    {
        "cmyk.tif": as_file("TIFF", photo().convert("CMYK")),
        "cmyk.jpg": as_file("JPEG", photo().convert("CMYK"), quality=98),
    },
    rows=2,
    same=("cmyk.tif", "cmyk.jpg"),
)
FORMATS.photos(
    "Grey of 8 bits, and of 10, 12 and 16 bits in a PNG of 16; one says so (`sBIT`)",
    {
        "8.png": as_file("PNG", photo().convert("L")),
        "10.png": deep_grey(10),
        "12.png": deep_grey(12),
        "12-says-so.png": deep_grey(12, chunk(b"sBIT", b"\x0c")),
        "16.png": deep_grey(16),
    },
    rows=5,
    same=("8.png", "10.png", "12.png", "12-says-so.png", "16.png"),
)
like_the_jpeg("Stored lying, to be turned by EXIF", {"lying.jpg": turned()})
like_the_jpeg(
    "Animated PNG and WebP, a TIFF of several pages, beside their first picture",
    {"moves.png": animated("PNG"), "moves.webp": animated("WEBP"), "pages.tif": animated("TIFF")},
)
FORMATS.photos(
    "Animated GIF, beside its first picture",
    {"still.gif": as_file("GIF"), "moves.gif": animated("GIF")},
    rows=2,
    same=("still.gif", "moves.gif"),
)
like_the_jpeg(
    "Palette, and alpha that hides nothing",
    {
        "palette.png": as_file("PNG", photo().quantize(256)),
        "alpha.png": as_file("PNG", photo().convert("RGBA")),
    },
)
FORMATS.photos(
    "One pixel; 2,000 x 1 pixels",
    {
        "one.png": as_file("PNG", Image.new("RGB", (1, 1), (200, 30, 40))),
        "row.png": as_file("PNG", Image.new("RGB", (2000, 1), (200, 30, 40))),
    },
    rows=2,
)
FORMATS.photos(
    "Camera raw: CR3, RAF, RW2",
    {
        "photo.jpg": jpeg(),
        "a.cr3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(200),
        "b.raf": b"FUJIFILMCCD-RAW 0201" + bytes(200),
        "c.rw2": b"IIU\0\x18\0\0\0" + bytes(200),
    },
    rows=1,
    rejects=dict.fromkeys(("a.cr3", "b.raf", "c.rw2"), Reject.UNKNOWN_FORMAT),
)
FORMATS.photos(
    "PSD, SVG, EPS, JPEG 2000, icon",
    {
        "photo.jpg": jpeg(),
        "a.psd": b"8BPS\0\1" + bytes(200),
        "b.svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "c.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "d.jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(200),
        "e.ico": as_file("ICO", Image.new("RGB", (16, 16))),
    },
    rows=1,
    rejects=dict.fromkeys(("a.psd", "b.svg", "c.eps", "d.jp2", "e.ico"), Reject.UNKNOWN_FORMAT),
)
FORMATS.photos(
    "TIFF of floating-point numbers, as scientists have it",
    {"photo.jpg": jpeg(), "float.tif": as_file("TIFF", Image.fromarray(np.ones((30, 40), np.float32)))},
    rows=1,
    rejects={"float.tif": Reject.UNSUPPORTED},
)
