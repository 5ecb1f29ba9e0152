"""Pictures in other colour spaces come out in sRGB; those in sRGB, and those with profiles of no use, keep their bytes."""

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pylibjxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from encoder.images.decoding.colour import MOST_PROFILE_BYTES, is_kept, to_srgb
from encoder.images.decoding.decode import decode, decode_square, render
from encoder.images.decoding.profiles import ADOBE_RGB, DISPLAY_P3, PROPHOTO, SRGB, ColourSpace, rgb_profile
from encoder.images.limits import Limits
from tests.support import phone_images
from tests.support.odd_images import RED, chunk, plain, png, saved
from tests.support.profiles import grey_profile, ink_profile

SPACES = {"Display P3": DISPLAY_P3, "Adobe RGB": ADOBE_RGB, "ProPhoto": PROPHOTO}
P3 = rgb_profile(DISPLAY_P3)
P3_RED = (184, 51, 48)
"""RED, in Display P3."""
INK_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def soft(size=(96, 64)) -> Image.Image:
    """Soft and not too saturated: the corner of a wide space falls between its 8-bit steps."""
    grid = np.random.default_rng(3).integers(30, 226, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)


def twin(picture: Image.Image, space: ColourSpace) -> Image.Image:
    """The same picture in another space."""
    source, target = [ImageCms.ImageCmsProfile(io.BytesIO(rgb_profile(each))) for each in (SRGB, space)]
    moved = ImageCms.ImageCmsTransform(source, target, "RGB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC).apply(
        picture
    )
    moved.info.clear()
    return moved


def far(first, second) -> float:
    return float(np.abs(np.asarray(first).astype(int) - np.asarray(second)).mean())


def untouched(data: bytes) -> bytes:
    """What came out before profiles were read."""
    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(
    ("format_", "options"),
    [
        ("JPEG", {"quality": 98, "subsampling": 0}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("TIFF", {"compression": "jpeg"}),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
    ],
)  # fmt: skip
def test_a_twin_in_another_space_is_its_original(space, format_, options):
    data = saved(twin(soft(), SPACES[space]), format_, icc_profile=rgb_profile(SPACES[space]), **options)
    assert far(twin(soft(), SPACES[space]), soft()) > 4
    assert far(decode(data), soft()) < 2


def test_a_twin_in_jpeg_xl_is_its_original():
    data = pylibjxl.encode(np.asarray(twin(soft(), DISPLAY_P3)), lossless=True, icc=P3)
    assert far(decode(data), soft()) < 2


def test_phones_state_their_space_by_profile_or_number():
    for data in (phone_images.HEIF_RED_P3, phone_images.HEIF_RED_P3_NUMBERED):
        assert far(decode(data), plain(colour=(218, 0, 26), size=(64, 48))) < 2


def test_an_avif_states_its_space_by_number():
    data = saved(plain(colour=P3_RED), "AVIF", quality=100, subsampling="4:4:4")
    at = data.index(b"colrnclx") + 8
    assert far(decode(data[:at] + struct.pack(">H", 12) + data[at + 2 :]), plain()) < 3
    assert far(decode(data), plain(colour=P3_RED)) < 3


def test_numbers_in_a_png_come_before_its_profile():
    rows = b"\0" + bytes(P3_RED)
    by_number = chunk(b"cICP", bytes([12, 13, 0, 1]))
    assert decode(png(1, 1, 8, 2, rows, by_number)).getpixel((0, 0)) == pytest.approx(RED, abs=2)
    profile = chunk(b"iCCP", b"ink\0\0" + zlib.compress(rgb_profile(PROPHOTO)))
    assert decode(png(1, 1, 8, 2, rows, by_number, profile)).getpixel((0, 0)) == pytest.approx(RED, abs=2)
    assert decode(png(1, 1, 8, 2, rows, chunk(b"cICP", bytes([1, 13, 0, 1])), profile)).getpixel((0, 0)) == P3_RED
    assert decode(png(1, 1, 8, 2, rows, chunk(b"cICP", bytes([9, 16, 0, 1])))).getpixel((0, 0)) == P3_RED
    assert decode(png(1, 1, 8, 2, rows, chunk(b"cICP", bytes(3)))).getpixel((0, 0)) == P3_RED


def test_gamma_and_primaries_of_a_png_are_ignored():
    primaries = chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))
    data = png(1, 1, 8, 2, b"\0" + bytes(RED), chunk(b"gAMA", struct.pack(">I", 55556)), primaries)
    assert decode(data).getpixel((0, 0)) == RED


@pytest.mark.parametrize(
    "profile", [INK_SRGB, rgb_profile(SRGB), rgb_profile(ColourSpace((0.6402, 0.33), (0.30, 0.60), (0.15, 0.06)))]
)
@pytest.mark.parametrize(("format_", "options"), [("JPEG", {"quality": 80}), ("PNG", {}), ("WEBP", {"quality": 80})])
def test_profiles_like_srgb_leave_every_byte(profile, format_, options):
    data = saved(soft(), format_, icc_profile=profile, **options)
    assert decode(data).tobytes() == untouched(data)
    assert is_kept(profile, "RGB")


def broken_profiles():
    yield "short", b"x"
    yield "zeros", bytes(500)
    yield "noise", np.random.default_rng(0).bytes(900)
    yield "noise with a head", P3[:128] + np.random.default_rng(0).bytes(900)
    yield "cut", P3[:300]
    yield "of another space", ink_profile()
    yield "of grey", grey_profile(1.0)
    colours = P3.index(b"XYZ \0\0\0\0", 260)
    yield "without colours", P3[:colours] + (b"XYZ \0\0\0\0" + bytes(12)) * 3 + P3[colours + 60 :]
    yield "too large", P3 + bytes(MOST_PROFILE_BYTES)


@pytest.mark.parametrize(
    ("name", "profile"), list(broken_profiles()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_broken_profile_changes_nothing(name, profile):
    for format_ in ("PNG", "JPEG", "WEBP", "TIFF"):
        if format_ == "TIFF" or len(profile) < 100_000:
            data = saved(soft(), format_, icc_profile=profile)
            assert decode(data).tobytes() == untouched(data)


def test_a_profile_of_a_png_that_is_large_or_too_large_costs_no_picture():
    large = P3 + bytes(2 << 20)
    data = saved(twin(soft(), DISPLAY_P3), "PNG", icc_profile=large)
    assert decode(data).size == (96, 64)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(["RGB", "L", "CMYK"]),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=6)), max_size=6),
)
def test_hostile_profiles_are_used_or_ignored(mode, edits):
    profile = bytearray({"RGB": P3, "L": grey_profile(1.8), "CMYK": ink_profile()}[mode])
    for at, new in edits:
        profile[at % len(profile) : at % len(profile) + len(new)] = new
    picture = soft((8, 8)).convert(mode)
    assert to_srgb(picture, bytes(profile)).size == (8, 8)
    assert decode(saved(picture, "JPEG", icc_profile=bytes(profile))).mode == "RGB"


def test_ink_goes_through_its_profile_and_is_inverted_once():
    """Adobe writes no ink as 255; Pillow turns that, and the table is asked for what is on the paper."""
    for format_, options in (("JPEG", {"quality": 100}), ("TIFF", {})):
        for inks, seen in (
            ((0, 0, 255, 0), (255, 203, 88)),
            ((0, 0, 0, 255), (27, 27, 27)),
            ((0, 0, 0, 0), (255, 255, 255)),
        ):
            data = saved(plain("CMYK", inks), format_, icc_profile=ink_profile(), **options)
            assert decode(data).getpixel((9, 9)) == pytest.approx(seen, abs=4)
            bare = saved(plain("CMYK", inks), format_, **options)
            assert decode(bare).tobytes() == untouched(bare)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_goes_through_its_curve(mode):
    data = saved(plain("L", 128).convert(mode), "PNG", icc_profile=grey_profile(1.0))
    assert decode(data).getpixel((9, 9)) == pytest.approx((188,) * 3, abs=1)
    assert decode(saved(plain("L", 128), "JPEG", icc_profile=P3)).getpixel((9, 9)) == pytest.approx((128,) * 3, abs=1)


def test_deep_grey_goes_through_its_curve():
    data = saved(Image.fromarray(np.full((9, 9), 0x8000, np.uint16)), "PNG", icc_profile=grey_profile(1.0))
    assert decode(data).getpixel((0, 0)) == pytest.approx((188,) * 3, abs=1)


def test_palettes_and_alpha_are_converted_before_they_lie_on_white():
    palette = plain(colour=P3_RED).quantize(4)
    assert far(decode(saved(palette, "PNG", icc_profile=P3)), plain()) < 2
    half = plain("RGBA", (*P3_RED, 127))
    assert decode(saved(half, "PNG", icc_profile=P3)).getpixel((0, 0)) == pytest.approx((228, 143, 148), abs=2)


def test_a_jpeg_is_made_small_while_it_is_decoded_whatever_its_space():
    data = saved(twin(soft((400, 300)), DISPLAY_P3), "JPEG", quality=95, icc_profile=P3)
    assert decode(data, at_least=70).size == (100, 75)
    plain_data = saved(soft((400, 300)), "JPEG", quality=95)
    assert far(decode_square(data, 64, Limits()), decode_square(plain_data, 64, Limits())) < 2


def test_what_was_converted_is_not_converted_again():
    data = saved(twin(soft(), PROPHOTO), "PNG", icc_profile=rgb_profile(PROPHOTO))
    once = decode(data)
    assert render(once).tobytes() == once.tobytes()
    assert render(Image.open(io.BytesIO(data))).tobytes() == once.tobytes()
    assert render(Image.open(io.BytesIO(data)).convert("RGBA")).tobytes() == once.tobytes()


def test_threads_may_share_a_way():
    files = [saved(twin(soft(), space), "PNG", icc_profile=rgb_profile(space)) for space in SPACES.values()] * 20
    alone = [decode(data).tobytes() for data in files]
    with ThreadPoolExecutor(4) as pool:
        assert [image.tobytes() for image in pool.map(decode, files)] == alone
