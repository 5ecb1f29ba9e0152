"""HEIF and JPEG XL: what is missing is named, nothing is left behind in Pillow, and decoders that crash are kept from it."""

import io
import subprocess
import sys

import pytest
from PIL import Image

from encoder.errors import Reject
from encoder.images.decoding.decode import RejectedImage, decode
from encoder.images.decoding.other_decoders import MISSING, TooManyPixels, open_other
from encoder.images.limits import Limits
from tests.support import phone_images

FILES = {"HEIF": phone_images.HEIF_RED, "JXL": phone_images.JXL_RED_THEN_OTHERS}


@pytest.mark.parametrize(("kind", "module"), [("HEIF", "_pi_heif"), ("JXL", "pylibjxl")])
def test_a_missing_package_is_named(monkeypatch, kind, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RejectedImage) as caught:
        decode(FILES[kind])
    assert caught.value.reject is Reject.UNSUPPORTED
    assert caught.value.detail == f"{kind} is decoded by the package {MISSING[kind]}; install it"


@pytest.mark.parametrize("kind", FILES)
def test_the_limit_is_the_largest_that_passes(kind):
    assert open_other(kind, FILES[kind], 64 * 48).size == (64, 48)
    with pytest.raises(TooManyPixels):
        open_other(kind, FILES[kind], 64 * 48 - 1)
    with pytest.raises(RejectedImage, match="too-many-pixels: more than 3,071 pixels"):
        decode(FILES[kind], Limits(max_pixels=64 * 48 - 1))


def test_packages_are_loaded_when_needed_and_pillow_opens_what_it_did():
    code = """
import io, sys
from PIL import Image
from encoder.images.decoding.decode import decode
from tests.support import phone_images
assert not {"_pi_heif", "pi_heif", "pylibjxl"} & set(sys.modules)
for data in (phone_images.HEIF_RED, phone_images.JXL_RED_THEN_OTHERS):
    decode(data)
    try:
        Image.open(io.BytesIO(data))
    except Image.UnidentifiedImageError:
        print("unknown")
assert not {"HEIF", "JXL"} & set(Image.OPEN)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=".")
    assert done.stdout == "unknown\nunknown\n"


def test_a_damaged_entry_of_metadata_costs_no_picture_and_no_process():
    """pi_heif 1.4.0 follows a null pointer over an entry that has no type."""
    data = phone_images.HEIF_SOFT_TURNED
    entry = data.index(b"Exif\0", data.index(b"iinf"))
    damaged = data[:entry] + b"&I\x9a\xc8" + data[entry + 4 :]
    assert decode(damaged).size == (48, 64)


def test_the_picture_marked_as_primary_is_taken():
    data = phone_images.HEIF_RED_THEN_BLUE
    at = data.index(b"pitm") + 9
    other = data[:at] + b"\2" + data[at + 1 :]
    assert decode(data).getpixel((9, 9)) == pytest.approx((200, 30, 40), abs=3)
    assert decode(other).getpixel((9, 9)) == pytest.approx((0, 0, 255), abs=6)


def test_what_a_plugin_opened_is_not_turned_again():
    from encoder.images.decoding.decode import render

    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.new("RGB", (40, 30)).save(stream, "PNG", exif=exif)
    image = Image.open(stream)
    assert render(image).size == (30, 40)
    image.format = "JXL"
    assert render(image).size == (40, 30)
