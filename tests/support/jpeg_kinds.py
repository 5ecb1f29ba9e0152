"""JPEG files of every kind that the routing tells apart, with the way that each goes."""

import io
import struct
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from encoder.images.decoding.jpeg_header import Way
from encoder.images.decoding.profiles import ADOBE_RGB, DISPLAY_P3, SRGB, rgb_profile


@dataclass(frozen=True)
class JpegKind:
    name: str
    """Unique."""
    data: bytes
    way: Way
    orientation: int = 1
    """Of a file that goes to nvJPEG."""


def photo(width: int, height: int, seed: int = 0, mode: str = "RGB", **options: Any) -> bytes:
    """A JPEG with soft shapes and sharp edges, as photos have."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8))
    picture = small.resize((width, height), Image.Resampling.BICUBIC).filter(ImageFilter.UnsharpMask(3)).convert(mode)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", **{"quality": 92, **options})
    return stream.getvalue()


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">HH", marker, len(content) + 2) + content


def after_start(jpeg: bytes, *segments: bytes) -> bytes:
    """The file with segments before all of its own."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def at_marker(jpeg: bytes, marker: int) -> int:
    """Where the first segment of a marker begins."""
    at = 2
    while struct.unpack_from(">H", jpeg, at)[0] != marker:
        at += 2 + struct.unpack_from(">H", jpeg, at + 2)[0]
    return at


def before(jpeg: bytes, marker: int, *segments: bytes) -> bytes:
    at = at_marker(jpeg, marker)
    return jpeg[:at] + b"".join(segments) + jpeg[at:]


def without(jpeg: bytes, marker: int) -> bytes:
    at = at_marker(jpeg, marker)
    return jpeg[:at] + jpeg[at + 2 + struct.unpack_from(">H", jpeg, at + 2)[0] :]


def changed(jpeg: bytes, marker: int, offset: int, new: bytes) -> bytes:
    """The file with bytes of a segment's content replaced, counted from behind its length."""
    at = at_marker(jpeg, marker) + 4 + offset
    return jpeg[:at] + new + jpeg[at + len(new) :]


def exif(*entries: tuple[int, int, int, int], order: str = "<") -> bytes:
    """An EXIF segment: entries of tag, type, count and the four bytes of their value as a number."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    body = b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
    return segment(
        SEGMENT_1, b"Exif\0\0" + mark + struct.pack(order + "IH", 8, len(entries)) + body + struct.pack("<I", 0)
    )


def orientation(value: int, order: str = "<") -> tuple[int, int, int, int]:
    return (0x0112, 3, 1, value if order == "<" else value << 16)


def xmp(text: bytes) -> bytes:
    return segment(SEGMENT_1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta " + text + b"/>")


SOF0, DHT, SOS, DQT, DRI, SEGMENT_0, SEGMENT_1, SEGMENT_2, SEGMENT_13, SEGMENT_14 = (
    0xFFC0, 0xFFC4, 0xFFDA, 0xFFDB, 0xFFDD, 0xFFE0, 0xFFE1, 0xFFE2, 0xFFED, 0xFFEE,
)  # fmt: skip


@cache
def jpeg_kinds() -> tuple[JpegKind, ...]:
    plain, grey = photo(90, 80), photo(90, 80, mode="L")
    bare = without(plain, SEGMENT_0)
    turned = [exif(orientation(each)) for each in range(9)]
    mpo = io.BytesIO()
    Image.open(io.BytesIO(plain)).save(mpo, "MPO", save_all=True, append_images=[Image.open(io.BytesIO(photo(60, 50)))])
    camera = Image.Exif()
    camera.update(
        {0x010F: "A maker", 0x0110: "A model of some length", 0x0112: 6, 0x011A: 72.0, 0x0128: 2, 0x0131: "1.0"}
    )
    adobe = b"Adobe\0\x64\0\0\0\0"
    profiles = {name: rgb_profile(space) for name, space in (("srgb", SRGB), ("p3", DISPLAY_P3), ("adobe", ADOBE_RGB))}
    photoshop = b"Photoshop 3.0\0" + b"8BIM\x03\xed\0\0" + struct.pack(">I", 16) + bytes(16) + b"8BIM\x04\x04\x03abc"
    halves = [
        segment(
            SEGMENT_2,
            b"ICC_PROFILE\0" + bytes([part, 2]) + profiles["p3"][200 * (part - 1) :][: 200 if part == 1 else None],
        )
        for part in (2, 1)
    ]
    kinds: dict[str, tuple[bytes, Way | int]] = {
        "plain": (plain, 1),
        "grey": (grey, 1),
        "444": (photo(90, 80, subsampling=0), 1),
        "422": (photo(90, 80, subsampling=1), 1),
        "one-pixel": (photo(1, 1), 1),
        "restarts": (photo(90, 80, restart_marker_blocks=1), 1),
        "optimised": (photo(90, 80, optimize=True), 1),
        "comment": (photo(90, 80, comment=b"\xff\xda" * 200), 1),
        "no-jfif": (bare, 1),
        "ids-from-zero": (changed(changed(bare, SOF0, 6, b"\0"), SOS, 1, b"\0"), 1),
        "adobe-ycbcr": (before(bare, DQT, segment(SEGMENT_14, adobe + b"\1")), 1),
        "zeros-behind": (plain + bytes(9), 1),
        "video-behind": (plain + b"\0\0\0\x18ftypmp42" + b"\xff\xda\xff\xd9" * 300, 1),
        "fill-before-end": (plain[:-2] + b"\xff\xff\xd9", 1),
        "mpo": (mpo.getvalue(), 1),
        "mpo-of-three": (_mpo_of_three(mpo.getvalue()), 1),
        "photoshop": (after_start(plain, segment(SEGMENT_13, photoshop + struct.pack(">I", 0))), 1),
        "srgb": (photo(90, 80, icc_profile=profiles["srgb"]), 1),
        "profile-lacks-parts": (after_start(plain, halves[0]), 1),
        "xmp-6": (after_start(plain, xmp(b'tiff:Orientation="6"')), 6),
        "xmp-9": (after_start(plain, xmp(b"<tiff:Orientation>9<")), 1),
        "xmp-last-counts": (after_start(plain, xmp(b'tiff:Orientation="6"'), xmp(b'tiff:Orientation="3"')), 3),
        "exif-before-xmp": (after_start(plain, turned[8], xmp(b'tiff:Orientation="6"')), 8),
        "exif-without-then-xmp": (after_start(plain, exif((0x0131, 2, 4, 0)), xmp(b'tiff:Orientation="6"')), 6),
        "big-endian-7": (after_start(plain, exif(orientation(7, ">"), order=">")), 7),
        "camera": (photo(90, 80, exif=camera), 6),
        "orientation-unknown": (after_start(plain, exif(orientation(77))), 1),
        **{f"orientation-{each}": (after_start(plain, turned[each]), max(each, 1)) for each in range(9)},
        "empty": (b"", Way.NOT_JPEG),
        "png": (_png(), Way.NOT_JPEG),
        "progressive": (photo(90, 80, progressive=True), Way.PROGRESSIVE),
        "progressive-grey": (photo(90, 80, mode="L", progressive=True), Way.PROGRESSIVE),
        "cmyk": (photo(90, 80, mode="CMYK"), Way.COLOUR),
        "p3": (photo(90, 80, icc_profile=profiles["p3"]), Way.COLOUR),
        "adobe-rgb-profile": (photo(90, 80, icc_profile=profiles["adobe"]), Way.COLOUR),
        "p3-in-two-parts-swapped": (after_start(plain, *halves), Way.COLOUR),
        "adobe-rgb": (before(bare, DQT, segment(SEGMENT_14, adobe + b"\0")), Way.COLOUR),
        "rgb-by-names": (_named_rgb(bare), Way.COLOUR),
        "440": (changed(photo(90, 80, subsampling=1), SOF0, 7, b"\x12"), Way.ODD),
        "grey-2x2": (changed(grey, SOF0, 7, b"\x22"), Way.ODD),
        "sof1": (plain.replace(b"\xff\xc0", b"\xff\xc1", 1), Way.ODD),
        "arithmetic": (plain.replace(b"\xff\xc0", b"\xff\xc9", 1), Way.ODD),
        "twelve-bits": (changed(plain, SOF0, 0, b"\x0c"), Way.ODD),
        "two-frames": (before(plain, DHT, plain[at_marker(plain, SOF0) : at_marker(plain, DHT)]), Way.ODD),
        "no-frame": (without(plain, SOF0), Way.ODD),
        "no-height": (changed(plain, SOF0, 1, b"\0\0"), Way.ODD),
        "height-by-dnl": (changed(plain, SOF0, 1, b"\0\0")[:-2] + segment(0xFFDC, b"\0\x50") + b"\xff\xd9", Way.ODD),
        "scan-of-one-component": (_scan_of_one(plain), Way.ODD),
        "second-scan": (plain[:-2] + plain[at_marker(plain, SOS) :], Way.ODD),
        "bomb-of-scans": (plain[:-2] + plain[at_marker(plain, SOS) : -2] * 200 + b"\xff\xd9", Way.ODD),
        "spectral-part": (changed(plain, SOS, 8, b"\x20"), Way.ODD),
        "16-bit-tables": (_wide_tables(plain), Way.ODD),
        "tables-cut": (changed(plain, DQT, -2, b"\0\x42"), Way.ODD),
        "cut": (plain[:-300], Way.ODD),
        "end-cut": (plain[:-2], Way.ODD),
        "header-cut": (plain[: at_marker(plain, SOF0) + 7], Way.ODD),
        "marker-in-scan": (plain[:-100] + b"\xff\xc4\0\4" + plain[-96:], Way.ODD),
        "junk-before-marker": (before(plain, SOF0, b"\0"), Way.ODD),
        "fill-before-marker": (before(plain, SOF0, b"\xff"), Way.ODD),
        "two-exifs": (after_start(plain, turned[6], turned[3]), Way.ODD),
        "orientation-twice": (after_start(plain, exif(orientation(6), orientation(3))), Way.ODD),
        "orientation-long": (after_start(plain, exif((0x0112, 4, 1, 6))), Way.ODD),
        "entry-outside": (after_start(plain, exif((0x010F, 2, 60000, 99), orientation(6))), Way.ODD),
        "directory-outside": (after_start(plain, segment(SEGMENT_1, b"Exif\0\0II*\0\0\1\0\0")), Way.ODD),
        "exif-no-tiff": (after_start(plain, segment(SEGMENT_1, b"Exif\0\0nothing known")), Way.ODD),
        "big-tiff": (after_start(plain, segment(SEGMENT_1, b"Exif\0\0II+\0\x08\0\0\0" + bytes(16))), Way.ODD),
        "resolution-is-text": (after_start(bare, exif((0x011A, 2, 1, 0), (0x0128, 3, 1, 2))), Way.ODD),
        "short-jfif": (after_start(bare, segment(SEGMENT_0, b"JFIF\0")), Way.ODD),
        "short-adobe": (after_start(plain, segment(SEGMENT_14, b"Adobe\0")), Way.ODD),
        "photoshop-cut": (after_start(plain, segment(SEGMENT_13, b"Photoshop 3.0\x008BIM\x03\xed")), Way.ODD),
        "profile-behind-frame": (before(plain, SOS, *halves), Way.ODD),
    }
    return tuple(
        JpegKind(name, data, way if isinstance(way, Way) else Way.NVJPEG, 1 if isinstance(way, Way) else way)
        for name, (data, way) in kinds.items()
    )


def _png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (9, 9)).save(stream, "PNG")
    return stream.getvalue()


def _named_rgb(jpeg: bytes) -> bytes:
    for place, name in enumerate(b"RGB"):
        jpeg = changed(changed(jpeg, SOF0, 6 + 3 * place, bytes([name])), SOS, 1 + 2 * place, bytes([name]))
    return jpeg


def _scan_of_one(jpeg: bytes) -> bytes:
    at = at_marker(jpeg, SOS)
    return jpeg[:at] + segment(SOS, b"\1\1\0\0\x3f\0") + jpeg[at + 14 :]


def _wide_tables(jpeg: bytes) -> bytes:
    at = at_marker(jpeg, DQT)
    narrow = jpeg[at + 5 : at + 69]
    return jpeg[:at] + segment(DQT, b"\x10" + b"".join(bytes([0, each]) for each in narrow)) + jpeg[at + 69 :]


def _mpo_of_three(mpo: bytes) -> bytes:
    """Its directory says that there are three pictures, and lists two."""
    at = mpo.index(b"\1\xb0\4\0\1\0\0\0") + 8
    return mpo[:at] + b"\3" + mpo[at + 1 :]
