"""The kinds of images there are, each by bytes that begin it, and what is none."""

import subprocess
import sys

import pytest
from PIL import Image

from encoder.images.signature import DECODED, HEAD_BYTES, image_format
from tests.support.odd_images import plain, saved


def boxed(*brands: bytes) -> bytes:
    return (
        (16 + 4 * len(brands[1:])).to_bytes(4) + b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:]) + b"\0\0\1\0meta"
    )


WRITTEN = {
    "JPEG": "JPEG", "PNG": "PNG", "WEBP": "WEBP", "BMP": "BMP", "TIFF": "TIFF", "GIF": "GIF", "AVIF": "AVIF",
    "JPEG2000": "JPEG 2000", "ICO": "ICO", "EPS": "EPS", "PPM": "PNM", "DDS": "DDS", "MPO": "JPEG", "QOI": "QOI",
}  # fmt: skip
"""What Pillow writes, and what it is told as."""
HEADS = {
    "HEIF": [
        *(boxed(brand) for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")),
        boxed(b"mif1", b"mif1", b"heic"), boxed(b"msf1", b"msf1", b"hevc"), boxed(b"mif1"),
        boxed(b"heic", b"mif1", b"heic", b"avif"),
    ],
    "AVIF": [boxed(b"avif", b"mif1"), boxed(b"avis", b"msf1"), boxed(b"mif1", b"avif", b"miaf"), boxed(b"mif1", b"mif1", b"avif")],
    "CR3": [boxed(b"crx ", b"isom")],
    "JXL": [b"\xff\x0a\xfa\x7f", b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl "],
    "JPEG 2000": [b"\xff\x4f\xff\x51\0\x2f"],
    "JPEG XR": [b"II\xbc\x01\x20\0\0\0"],
    "TIFF": [b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0"],
    "CR2": [b"II*\0\x10\0\0\0CR\x02\0"],
    "PSD": [b"8BPS\0\1" + bytes(6), b"8BPS\0\2" + bytes(6)],
    "SVG": [
        b'<svg xmlns="http://www.w3.org/2000/svg"/>', b"\xef\xbb\xbf <svg>",
        b'<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n<!-- Created with Inkscape -->\n\n<svg\n   width="9"',
        b'<?xml version="1.0"?>\n<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN"',
    ],
    "EPS": [b"\xc5\xd0\xd3\xc6" + bytes(26)],
    "PNM": [b"P5\n# written by hand\n2 2\n255\n", b"P7\nWIDTH 2\n", b"Pf\n2 2\n-1.0\n"],
    "DICOM": [bytes(128) + b"DICM\2\0"],
    "FITS": [b"SIMPLE  =                    T / conforms"],
    "RAF": [b"FUJIFILMCCD-RAW 0201"],
    "RW2": [b"IIU\0\x18\0\0\0"],
    "ORF": [b"IIRO\x08\0\0\0"],
}  # fmt: skip


@pytest.mark.parametrize("format_", WRITTEN)
def test_what_pillow_writes_is_told_by_its_head(format_):
    options = {"save_all": True, "append_images": [plain()]} if format_ == "MPO" else {}
    data = saved(plain(size=(32, 32)), format_, **options)
    assert image_format(data) == image_format(data[:HEAD_BYTES]) == WRITTEN[format_]
    if WRITTEN[format_] in DECODED:
        assert image_format(data[:32]) == WRITTEN[format_]


@pytest.mark.parametrize(("kind", "head"), [(kind, head) for kind, heads in HEADS.items() for head in heads])
def test_a_kind_is_told_by_its_head(kind, head):
    assert image_format(head) == image_format(head + bytes(500)) == kind


@pytest.mark.parametrize(
    "head",
    [
        b"", b"\xff", b"BM", b"BMW makes cars and motorcycles, not pictures.", b"RIFF\x24\0\0\0WAVEfmt ", b"%PDF-1.7",
        b"%!PS-Adobe-3.0\n%%Pages: 9", b"<!doctype html><svg>", b'<?xml version="1.0"?><rss/>', b"PK\3\4", b"\x1f\x8b\x08",
        b"\0\1\0\0\0\x0c", bytes(300), b"P4 and P5 are processors", b"GIF88a", b"<svgfoo>", b"IIS in the logs", b'{"fine": 3}',
        boxed(b"isom", b"avc1", b"mp41"), boxed(b"qt  "), boxed(b"M4A "), boxed(b"mp42", b"heic"),
        b"\0\0\1\0\1\0\x10\x10\0\7\1\0\x20\0", b"\0\0\1\xba\x44",
    ],
)  # fmt: skip
def test_what_nobody_calls_an_image_is_none(head):
    assert image_format(head) is None


def test_a_brand_counts_only_inside_its_box():
    assert image_format(boxed(b"mif1") + b"avif") == "HEIF"


def test_all_that_is_decoded_is_known_to_pillow_or_named():
    Image.init()
    assert set(DECODED) - set(Image.OPEN) <= {"HEIF", "JXL"}


def test_asking_loads_no_decoder():
    code = "import sys, encoder.images.signature as s; s.image_format(b''); print([m for m in ('PIL', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=".")
    assert done.stdout == "[]\n"
