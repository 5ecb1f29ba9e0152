import gc
import os
import re
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pylibjxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from encoder.errors import Reject
from encoder.images.decoding.decode import (
    RejectedImage,
    decode,
    decode_readable,
    decode_square,
    square,
    square_or_reject,
)
from encoder.images.decoding.profiles import DISPLAY_P3, rgb_profile
from encoder.images.limits import Limits
from encoder.images.names import IMAGE_SUFFIXES
from encoder.images.samples import Sample
from tests.support import phone_images
from tests.support.odd_images import (
    GREY,
    RED,
    WHITE,
    OddImage,
    chunk,
    frames,
    noise,
    odd_images,
    plain,
    png,
    saved,
    tiff,
)
from tests.support.profiles import ink_profile

LIMITS = Limits(max_bytes=60_000)
"""The largest image of the corpus is over it."""
PINK = (228, 143, 148)
"""RED at alpha 127 of 255, over white."""
BGR = bytes(RED[::-1])


def rare_images() -> Iterator[OddImage]:
    """Kinds that hardly ever come, beside those of `odd_images`."""
    jpeg = saved(plain(), "JPEG", quality=95)
    yield OddImage("ycck.jpg", ycck(), RED)
    yield OddImage("video-behind-the-end.jpg", jpeg + b"\xff\xda\x00\x08" * 999, RED)
    yield OddImage("scans-in-a-comment.jpg", with_segment(jpeg, 0xFE, b"\xff\xda" * 999), RED)
    yield OddImage("broken-mpf.jpg", with_segment(jpeg, 0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff nonsense"), RED)
    yield OddImage("exif-cut.jpg", with_segment(jpeg, 0xE1, b"Exif\0\0II*\0\x08\0"), RED)
    yield OddImage("without-end.png", saved(plain(), "PNG")[:-12], RED)
    yield OddImage("animation-without-frames.png", png(1, 1, 8, 2, b"\0" + bytes(RED), chunk(b"acTL", bytes(8))), RED)
    yield OddImage("palette-half-clear.png", saved(plain().quantize(4), "PNG", transparency=b"\x7f"), PINK)
    yield OddImage("grey-clear.png", saved(plain("L", 128), "PNG", transparency=128), WHITE)
    yield OddImage("two-bit.png", png(4, 1, 2, 0, b"\0\x55"), (85, 85, 85))
    yield OddImage("grey-16-bit-clear.png", png(1, 1, 16, 0, b"\0\x12\x34", chunk(b"tRNS", b"\x12\x34")), WHITE)
    yield OddImage("grey-alpha-16-bit.png", png(1, 1, 16, 4, b"\0\x12\x34\0\0"), WHITE)
    yield OddImage("clear.gif", saved(plain().quantize(4), "GIF", transparency=0), WHITE)
    yield OddImage("grey.gif", saved(plain("L", 128), "GIF"), GREY)
    palette = bytes(4) + BGR + b"\0"
    yield OddImage("four-bit.bmp", bmp((2, 1), 4, b"\x11\0\0\0", palette), RED)
    yield OddImage("run-length.bmp", bmp((4, 1), 8, b"\x04\x01\0\x01", palette, compression=1), RED)
    yield OddImage("five-bits-a-colour.bmp", bmp((2, 1), 16, b"\0\x7c" * 2), (255, 0, 0))
    yield OddImage("thirty-two-bit.bmp", bmp((1, 1), 32, BGR + b"\0"), RED)
    yield OddImage("top-down.bmp", bmp((1, -1), 24, BGR + b"\0"), RED)
    yield OddImage("seven-bit.bmp", bmp((4, 4), 7, bytes(99)), Reject.CORRUPT)
    yield OddImage("words-like-a-bitmap.bmp", b"BMW makes cars and motorcycles, not pictures.", Reject.UNKNOWN_FORMAT)
    yield OddImage("jpeg-inside.tif", saved(plain(), "TIFF", compression="jpeg"), RED)
    yield OddImage("fax.tif", saved(plain("1", 1), "TIFF", compression="group4"), WHITE)
    yield OddImage("big.tif", saved(plain(), "TIFF", big_tiff=True), RED)
    yield OddImage("palette.tif", saved(plain().quantize(4), "TIFF"), RED)
    yield OddImage("rgba.tif", saved(plain("RGBA", (*RED, 127)), "TIFF"), PINK)
    yield OddImage("palette-alpha.tif", saved(plain("PA", (0, 0)), "TIFF"), WHITE)
    yield OddImage("ycbcr.tif", saved(plain().convert("YCbCr"), "TIFF"), RED)
    yield OddImage("grey-premultiplied.tif", tiff((1, 1), (8, 8), 1, b"\x3c\x7f", {338: 1}), (188, 188, 188))
    yield OddImage("rgb-16-bit.tif", tiff((1, 1), (16,) * 3, 2, b"".join(bytes((77, value)) for value in RED)), RED)
    yield OddImage("grey-32-bit.tif", saved(plain("I", 0x80FF), "TIFF"), GREY)
    yield OddImage("grey-32-bit-above-16.tif", saved(plain("I", 9_000_000), "TIFF"), (137, 137, 137))
    yield OddImage("grey-32-bit-negative.tif", saved(plain("I", -7), "TIFF"), (0, 0, 0))
    yield OddImage("grey-12-bit.tif", tiff((2, 1), (12,), 1, b"\x80\x08\0"), GREY)
    yield OddImage("grey-12-bit-dark.tif", tiff((2, 1), (12,), 1, b"\x08\x00\x80"), (8, 8, 8))
    yield OddImage("grey-16-bit-white-at-zero.tif", tiff((1, 1), (16,), 0, b"\0\xf0"), (15, 15, 15))
    yield OddImage("camera.tif", tiff((1, 1), (8,) * 3, 2, bytes(RED), {254: 1, 330: 8}), Reject.UNSUPPORTED)
    yield OddImage("digital-negative.tif", tiff((1, 1), (8,) * 3, 2, bytes(RED), {50706: 1}), Reject.UNSUPPORTED)
    yield OddImage("thumbnail-of-none.tif", tiff((1, 1), (8,) * 3, 2, bytes(RED), {254: 1}), RED)
    yield OddImage("nine-samples.tif", tiff((1, 1), (8,) * 3, 2, bytes(99), {277: 9}), Reject.CORRUPT)
    yield OddImage("cut-lzw.tif", saved(noise(), "TIFF", compression="tiff_lzw")[:-500], Reject.TRUNCATED)
    yield OddImage("sound.webp", b"RIFF\x24\0\0\0WAVEfmt " + bytes(30), Reject.UNKNOWN_FORMAT)
    yield OddImage("video.jpg", b"\0\0\0\x18ftypisom" + bytes(30), Reject.UNKNOWN_FORMAT)
    yield OddImage("phone.jpg", phone_images.HEIF_RED, RED)
    yield OddImage("phone-10-bit.jpg", phone_images.HEIF_RED_10_BIT, RED)
    yield OddImage("phone-alpha.jpg", phone_images.HEIF_HALF_RED, PINK)
    yield OddImage("phone-grey.jpg", phone_images.HEIF_GREY, GREY)
    yield OddImage("phone-burst.jpg", phone_images.HEIF_RED_THEN_BLUE, RED)
    yield OddImage("phone-header-alone.jpg", b"\0\0\0\x18ftypheic" + bytes(16), Reject.TRUNCATED)
    yield OddImage("phone-lying.jpg", sized(phone_images.HEIF_RED, 16, 16), Reject.CORRUPT)
    yield OddImage("plain-av1.jpg", saved(plain(), "AVIF", quality=95), RED)
    yield OddImage("alpha-av1.jpg", saved(plain("RGBA", (*RED, 127)), "AVIF", quality=95), PINK)
    yield OddImage("grey-av1.jpg", saved(plain("L", 128), "AVIF", quality=95), GREY)
    yield OddImage("animated-av1.jpg", frames("AVIF"), RED)
    yield OddImage("bomb-av1.jpg", sized(saved(plain(), "AVIF"), 9_460, 9_460), Reject.TOO_MANY_PIXELS)
    yield OddImage("plain-xl.jpg", jxl(plain()), RED)
    yield OddImage("alpha-xl.jpg", jxl(plain("RGBA", (*RED, 127))), PINK)
    yield OddImage("grey-xl.jpg", jxl(plain("L", 128)), GREY)
    yield OddImage("animated-xl.jpg", phone_images.JXL_RED_THEN_OTHERS, RED)
    yield OddImage("bomb-xl.jpg", phone_images.jxl_header(30_000) + bytes(99), Reject.TOO_MANY_PIXELS)
    yield OddImage("bomb-just-over-xl.jpg", phone_images.jxl_header(9_460), Reject.TOO_MANY_PIXELS)
    yield OddImage("header-alone-xl.jpg", phone_images.jxl_header(99), Reject.CORRUPT)
    frame = jpeg.index(b"\xff\xc0")
    yield OddImage("twelve-bits.jpg", jpeg[: frame + 4] + b"\x0c" + jpeg[frame + 5 :], Reject.CORRUPT)
    yield OddImage("nonsense-in-header.jpg", jpeg[:2] + b"\xff\x02\x00\x04 nonsense" + jpeg[2:], Reject.CORRUPT)
    yield OddImage("cut-at-end.jpg", jpeg[:-2], Reject.TRUNCATED)
    header_crc = bytearray(saved(plain(), "PNG"))
    header_crc[29] ^= 1
    yield OddImage("wrong-header-crc.png", bytes(header_crc), Reject.CORRUPT)
    yield OddImage("no-picture.gif", b"GIF89a\1\0\1\0\0\0\0;" + bytes(9), Reject.CORRUPT)
    canvas = struct.pack("<II", 10, 0) + (16_383).to_bytes(3, "little") * 2
    yield OddImage("bomb.webp", riff(b"VP8X" + canvas), Reject.TOO_MANY_PIXELS)
    yield OddImage(
        "bomb-lossless.webp", riff(b"VP8L" + struct.pack("<IBI", 5, 0x2F, (1 << 28) - 1)), Reject.TOO_MANY_PIXELS
    )
    yield OddImage("bomb.tif", tiff((30_000, 30_000), (8,) * 3, 2, b""), Reject.TOO_MANY_PIXELS)
    yield OddImage("bomb-just-over.tif", tiff((9_460, 9_460), (8,) * 3, 2, b""), Reject.TOO_MANY_PIXELS)
    control = (
        b"!\xf9\4\x08\0\0\0\0"  # the first frame is to be disposed of, for which Pillow fills a frame while it opens
    )
    picture = b"," + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\x02\0;"
    disposed = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + control + picture
    yield OddImage("bomb-disposed.gif", disposed, Reject.TOO_MANY_PIXELS)


def jxl(picture: Image.Image, **options) -> bytes:
    return pylibjxl.encode(np.asarray(picture), **options)


def sized(boxed: bytes, width: int, height: int) -> bytes:
    """A HEIF or AVIF whose header states another size."""
    at = boxed.index(b"ispe") + 8
    return boxed[:at] + struct.pack(">II", width, height) + boxed[at + 8 :]


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    return jpeg[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


def ycck() -> bytes:
    """A JPEG as Photoshop writes it: Adobe's inverted CMYK, its first three channels turned into YCbCr."""
    complement = plain(colour=tuple(255 - channel for channel in RED)).convert("YCbCr")
    bands = [band.point(lambda value: 255 - value) for band in complement.split()]
    jpeg = saved(Image.merge("CMYK", [*bands, plain("L", 0)]), "JPEG", quality=95, subsampling=0)
    transform = jpeg.index(b"Adobe") + 11
    return jpeg[:transform] + b"\2" + jpeg[transform + 1 :]


def bmp(size, bits: int, pixels: bytes, palette: bytes = b"", compression: int = 0) -> bytes:
    offset = 14 + 40 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, *size, 1, bits, compression, len(pixels), 0, 0, len(palette) // 4, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + header + palette + pixels


def riff(content: bytes) -> bytes:
    content = content.ljust(40, b"\0")
    return b"RIFF" + struct.pack("<I", 4 + len(content)) + b"WEBP" + content


IMAGES = [*odd_images(), *rare_images()]
REJECTED = [odd for odd in IMAGES if isinstance(odd.expected, Reject)]
BOMBS = [odd for odd in IMAGES if odd.expected in {Reject.TOO_MANY_PIXELS, Reject.TOO_MANY_SCANS}]
CORPUS = pytest.mark.parametrize("odd", IMAGES, ids=lambda odd: odd.name)
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a picture is stored so that its EXIF orientation turns it back: 6 and 8 are each other's inverses."""


def stored(picture: Image.Image, orientation: int, format_: str, **options) -> bytes:
    turn = TURNS[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(picture if turn is None else picture.transpose(turn), format_, exif=exif, **options)


def outcome(data: bytes, limits: Limits = LIMITS) -> bytes | tuple[Reject, str]:
    try:
        return decode_square(data, 16, limits).tobytes()
    except RejectedImage as err:
        return err.reject, err.detail


def reason(data: bytes, limits: Limits = LIMITS) -> Reject | None:
    found = outcome(data, limits)
    return None if isinstance(found, bytes) else found[0]


def test_the_corpus_is_large_named_once_and_has_every_reject_of_the_decoder():
    assert len(IMAGES) >= 100
    assert len({odd.name for odd in IMAGES}) == len(IMAGES)
    assert all(odd.name[odd.name.rindex(".") :] in IMAGE_SUFFIXES for odd in IMAGES)
    assert {odd.expected for odd in REJECTED} == {
        Reject.EMPTY, Reject.TOO_LARGE, Reject.TOO_MANY_PIXELS, Reject.TOO_MANY_SCANS, Reject.UNKNOWN_FORMAT,
        Reject.UNSUPPORTED, Reject.TRUNCATED, Reject.CORRUPT,
    }  # fmt: skip


@CORPUS
def test_an_odd_image_has_its_colour_or_its_reason(odd: OddImage):
    if isinstance(odd.expected, Reject):
        assert reason(odd.data) is odd.expected
    else:
        image = decode(odd.data, LIMITS)
        assert image.mode == "RGB"
        assert np.abs(np.asarray(image).astype(int) - odd.expected).max() <= 6
        pixels = decode_square(odd.data, 32, LIMITS)
        assert pixels.shape == (32, 32, 3)
        assert pixels.dtype == np.uint8
        assert np.abs(pixels.astype(int) - odd.expected).max() <= 6


def test_threads_find_what_one_thread_finds():
    files = [odd.data for odd in IMAGES] * 3
    alone = [outcome(data) for data in files]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(outcome, files)) == alone


@pytest.mark.parametrize("action", ["error", "always", "ignore"])
def test_warning_filters_change_nothing_and_nothing_warns(action):
    expected = [outcome(odd.data) for odd in IMAGES]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        assert [outcome(odd.data) for odd in IMAGES] == expected
    assert not caught


WHOLE_CORPUS = """
import resource
from tests.unit.encoder.images.decoding.test_decode import BOMBS, IMAGES, outcome

for odd in IMAGES:
    if odd not in BOMBS:
        outcome(odd.data)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for odd in BOMBS:
    outcome(odd.data)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_nothing_is_printed_and_bombs_take_no_memory():
    """In a process of its own: pytest has filters, log handlers and a peak of memory already."""
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", WHOLE_CORPUS],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert not done.stderr
    assert int(done.stdout) < 20 * 1024  # KiB; the smallest bomb has 89 million pixels


@pytest.mark.parametrize("odd", BOMBS, ids=lambda odd: odd.name)
def test_a_bomb_is_refused_at_once(odd: OddImage):
    start = time.process_time()
    assert reason(odd.data) is odd.expected
    assert time.process_time() - start < 0.2


@pytest.mark.parametrize(("format_", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
@pytest.mark.parametrize("orientation", TURNS)
def test_all_orientations_of_a_picture_have_the_same_pixels(format_, options, orientation):
    data = stored(noise(), orientation, format_, **options)
    np.testing.assert_array_equal(np.asarray(decode(data)), np.asarray(noise()))
    np.testing.assert_array_equal(decode_square(data, 16, LIMITS), square(noise(), 16))


@pytest.mark.parametrize("orientation", TURNS)
def test_an_avif_of_each_orientation_is_turned_once(orientation):
    picture = noise((4, 3)).resize((64, 48), Image.Resampling.BICUBIC)
    data = stored(picture, orientation, "AVIF", quality=95, subsampling="4:4:4")
    assert np.abs(np.asarray(decode(data)).astype(int) - np.asarray(picture)).mean() < 2


@pytest.mark.parametrize("orientation", TURNS)
def test_a_jpeg_inside_jpeg_xl_is_turned_once(orientation):
    """Its codestream and its EXIF both say how."""
    picture = noise((4, 3)).resize((64, 48), Image.Resampling.BICUBIC)
    data = pylibjxl.jpeg_to_jxl(stored(picture, orientation, "JPEG", quality=95))
    assert np.abs(np.asarray(decode(data)).astype(int) - np.asarray(picture)).mean() < 3


def test_a_heif_that_lies_on_its_side_is_turned_once():
    """By its property; its EXIF says the same turn again."""
    upright = np.asarray(decode(phone_images.HEIF_SOFT).transpose(Image.Transpose.ROTATE_270))
    turned = np.asarray(decode(phone_images.HEIF_SOFT_TURNED))
    assert turned.shape == (64, 48, 3)
    assert np.abs(turned.astype(int) - upright).mean() < 5


@pytest.mark.parametrize("orientation", TURNS)
def test_a_jpeg_decoded_small_is_turned_too(orientation):
    picture = noise((4, 3)).resize((400, 300), Image.Resampling.BICUBIC)
    data = stored(picture, orientation, "JPEG", quality=95)
    assert decode(data, at_least=70).size == (100, 75)
    assert np.abs(decode_square(data, 70, LIMITS).astype(int) - square(picture, 70)).mean() < 3


@pytest.mark.parametrize("size", [(800, 600), (600, 800), (801, 599), (799, 4000), (64, 64), (63, 5000)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_is_large_enough(size, mode):
    data = saved(Image.new(mode, size), "JPEG")
    for at_least in (32, 64, 75, 100, 599, 600, 601):
        got = decode(data, at_least=at_least)
        scales = [scale for scale in (8, 4, 2, 1) if min(size) // scale >= at_least] or [1]
        assert got.size == tuple(-(-side // scales[0]) for side in size)
        assert min(got.size) >= min(at_least, *size)


def test_other_formats_are_decoded_whole():
    assert decode(saved(plain(size=(400, 300)), "PNG"), at_least=10).size == (400, 300)


def test_what_cannot_be_decoded_is_left_out():
    good, bad, rejected = (Sample(at, str(at), content=saved(noise(), "PNG")) for at in range(3))
    bad.data = b"no image"
    rejected.reject = Reject.LINK
    readable, pictures = decode_readable([bad, good, rejected], 16)
    assert readable == [good]
    np.testing.assert_array_equal(pictures, [square(noise(), 16)])
    assert decode_readable([good], 16, Limits(max_pixels=9))[0] == []
    readable, pictures = decode_readable([bad, rejected], 16)
    assert (readable, pictures.shape) == ([], (0, 16, 16, 3))


def test_a_reject_keeps_neither_its_picture_nor_whoever_asked_for_it():
    cut = saved(noise((640, 480)), "JPEG")[:-999]
    gc.collect()
    rejects = [square_or_reject(data, 16, LIMITS) for data in [cut, b"no image", b""]]
    for reject in rejects:
        assert isinstance(reject, RejectedImage)
        assert (reject.__traceback__, reject.__cause__, reject.__context__) == (None, None, None)
    del reject, rejects
    assert gc.collect() == 0


def test_the_square_is_the_centre_of_the_picture():
    picture = plain(colour=(255, 255, 255), size=(70, 30))
    picture.paste((10, 20, 30), (20, 0, 50, 30))
    for image in (picture, picture.transpose(Image.Transpose.ROTATE_90)):
        assert (square(image, 30) == (10, 20, 30)).all()


def test_a_square_of_the_right_size_is_left_alone():
    picture = noise((32, 32))
    np.testing.assert_array_equal(square(picture, 32), np.asarray(picture))


def test_shrinking_averages_all_pixels():
    """Antialiased: a bilinear look at four neighbours would give black or white, as the checks fall."""
    checks = np.indices((512, 512)).sum(axis=0) % 2 * 255
    image = Image.fromarray(checks.astype(np.uint8)).convert("RGB")
    assert np.abs(square(image, 16).astype(int) - 127.5).max() <= 2


@pytest.mark.parametrize("size", [(1, 1_000_000), (1_000_000, 1)])
def test_a_thread_of_pixels_is_never_blown_up(size):
    assert square(plain(size=size), 512).shape == (512, 512, 3)


def test_16_bit_grey_is_its_high_byte():
    samples = np.arange(0, 1 << 16, 16, dtype=np.uint16).reshape(64, 64)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    big = tiff((64, 64), (16,), 1, samples.astype(">u2").tobytes(), order=">")
    little = tiff((64, 64), (16,), 1, samples.astype("<u2").tobytes())
    for data in (png(64, 64, 16, 0, rows), big, little):
        np.testing.assert_array_equal(np.asarray(decode(data)), np.repeat(samples[..., None] >> 8, 3, axis=2))


@pytest.mark.parametrize("alpha", [0, 1, 127, 254, 255])
def test_alpha_is_over_white(alpha):
    picture = noise().convert("RGBA")
    picture.putalpha(alpha)
    share = alpha / 255
    expected = np.asarray(noise()) * share + 255 * (1 - share)
    assert np.abs(np.asarray(decode(saved(picture, "PNG"))) - expected).max() <= 1


def test_a_limit_is_the_largest_that_passes():
    data = saved(plain(), "PNG")
    assert decode(data, Limits(max_bytes=len(data), max_pixels=1200)).size == (40, 30)
    assert reason(data, Limits(max_bytes=len(data) - 1)) is Reject.TOO_LARGE
    assert outcome(data, Limits(max_pixels=1199)) == (Reject.TOO_MANY_PIXELS, "more than 1,199 pixels")


@pytest.mark.parametrize("wall", [1, 700, None])
@pytest.mark.parametrize("format_", ["PNG", "GIF", "WEBP", "TIFF"])
def test_pillows_own_limit_decides_nothing(monkeypatch, wall, format_):
    """A picture of 1,200 pixels: a limit of 1 would refuse it, one of 700 warn of it, None is none."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", wall)
    assert decode(saved(plain(), format_), Limits(max_pixels=1200)).size == (40, 30)


def repeated_scan(before: bytes, scans: int) -> bytes:
    """A progressive JPEG with `scans` scans, the last one repeated behind `before`."""
    jpeg = saved(plain(), "JPEG", progressive=True)
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + (before + last) * (scans - jpeg.count(b"\xff\xda")) + jpeg[-2:]


def test_100_scans_are_too_few_for_a_bomb_and_101_are_not():
    assert reason(repeated_scan(b"", 100)) is not Reject.TOO_MANY_SCANS
    assert reason(repeated_scan(b"", 101)) is Reject.TOO_MANY_SCANS


def test_scans_cannot_hide_behind_a_false_end():
    comment_with_end_marks = b"\xff\xfe\x00\x06\xff\xd9\xff\xd9"
    assert reason(repeated_scan(comment_with_end_marks, 200)) is Reject.TOO_MANY_SCANS


CUT = {format_: saved(noise((12, 10)), format_) for format_ in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")}
CUT |= {"HEIF": phone_images.HEIF_SOFT_TURNED, "JXL": pylibjxl.jpeg_to_jxl(CUT["JPEG"])}


@pytest.mark.parametrize("format_", CUT)
def test_a_cut_file_is_truncated_wherever_it_is_cut(format_):
    data = CUT[format_]
    whole = outcome(data)
    for end in range(len(data)):
        if outcome(data[:end]) == whole:
            assert end > len(data) - 24, end  # end marks and checksums carry no pixels
        else:
            before_any_magic = {Reject.EMPTY, Reject.UNKNOWN_FORMAT} if end < 18 else set()
            assert reason(data[:end]) in {Reject.TRUNCATED} | before_any_magic, end


def test_a_cut_codestream_of_jpeg_xl_is_refused_wherever_it_is_cut():
    data = jxl(noise((12, 10)))
    for end in range(2, len(data) - 1):
        assert reason(data[:end]) is Reject.CORRUPT


def test_a_detail_is_one_short_line_that_no_run_changes():
    details = [str(outcome(odd.data)[1]) for odd in REJECTED]
    for detail in (*details, RejectedImage(Reject.CORRUPT, "two\nlines \t" + "x" * 999).detail):
        assert detail == " ".join(detail.split())
        assert 0 < len(detail) <= 200
        assert not re.search("0x[0-9a-f]{6}", detail)


SEEDS = {
    "JPEG": stored(noise(), 6, "JPEG"),
    "progressive": saved(noise(), "JPEG", progressive=True),
    "PNG": stored(noise(), 6, "PNG"),
    "APNG": saved(noise(), "PNG", save_all=True, append_images=[plain(size=(64, 48))]),
    "WebP": stored(noise(), 6, "WEBP"),
    "GIF": saved(noise(), "GIF", save_all=True, append_images=[plain(size=(64, 48))]),
    "BMP": saved(noise(), "BMP"),
    "TIFF": stored(noise(), 6, "TIFF"),
    "AVIF": stored(noise(), 6, "AVIF"),
    "HEIF": phone_images.HEIF_SOFT_TURNED,
    "HEIF with a profile": phone_images.HEIF_RED_P3,
    "JPEG XL": jxl(noise(), lossless=True),
    "JPEG XL in boxes": pylibjxl.jpeg_to_jxl(saved(noise(), "JPEG")),
    "JPEG with a profile": saved(noise(), "JPEG", icc_profile=rgb_profile(DISPLAY_P3)),
    "CMYK with a profile": saved(noise().convert("CMYK"), "JPEG", icc_profile=ink_profile()),
}
WHERE = st.one_of(st.integers(0, 64), st.integers(0, 1 << 16))  # headers are the interesting part
EDITS = st.lists(st.tuples(WHERE, st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=8)


@settings(max_examples=200)
@given(st.sampled_from(sorted(SEEDS)), EDITS)
def test_hostile_bytes_give_a_square_or_a_reason(seed, edits):
    data = bytearray(SEEDS[seed])
    for at, gone, new in edits:
        data[at % len(data) : at % len(data) + gone] = new or b"\xff"
    try:
        pixels = decode_square(bytes(data), 24, LIMITS)
    except RejectedImage:
        return
    assert pixels.shape == (24, 24, 3)
    assert pixels.dtype == np.uint8


@settings(max_examples=100)
@given(st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0"]), st.binary(max_size=60))
def test_no_exif_however_broken_costs_a_picture(start, exif):
    for format_ in ("JPEG", "PNG", "WEBP"):
        assert decode(saved(plain(), format_, exif=b"Exif\0\0" + start + exif)).mode == "RGB"
