"""What headers say agrees with Pillow, on files of every kind and on damaged ones: only what is certain goes to nvJPEG."""

import io
import random

import pytest
from PIL import Image

from encoder.images.decoding import jpeg_header
from encoder.images.decoding.colour import is_kept, profile_of
from encoder.images.decoding.decode import _TURNS, allow_pixels, decode, has_too_many_scans
from encoder.images.decoding.jpeg_header import JpegHeader, Way, read_header
from encoder.images.limits import Limits
from tests.support.jpeg_kinds import JpegKind, at_marker, jpeg_kinds, photo

KINDS = {kind.name: kind for kind in jpeg_kinds()}


def assert_pillow_agrees(data: bytes, header: JpegHeader) -> None:
    allow_pixels(Limits())
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    assert image.mode in {"L", "RGB"}
    assert image.size == (header.width, header.height)
    assert is_kept(profile_of(image, "JPEG"), image.mode)
    assert not has_too_many_scans(data)
    assert "progressive" not in image.info
    assert _TURNS.get(image.getexif().get(0x0112, 1)) == _TURNS.get(header.orientation)
    assert data[header.end - 2 : header.end] == b"\xff\xd9"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_each_kind_goes_its_way(kind: JpegKind):
    found = read_header(kind.data, Limits())
    assert read_header(memoryview(b"." + kind.data + b".")[1:-1], Limits()) == found
    if kind.way is not Way.NVJPEG:
        assert found is kind.way
        return
    assert isinstance(found, JpegHeader)
    assert found.orientation == kind.orientation
    assert_pillow_agrees(kind.data, found)
    picture = decode(kind.data)
    assert decode(kind.data[: found.end]).tobytes() == picture.tobytes()  # nothing behind the end counts


@pytest.mark.parametrize(
    "name",
    ["plain", "mpo", "photoshop", "srgb", "xmp-6", "camera", "orientation-8", "exif-without-then-xmp", "adobe-ycbcr"],
)
def test_damaged_headers_never_pass_where_pillow_sees_something_else(name):
    data, rng = KINDS[name].data, random.Random(name)
    header_bytes = at_marker(data, 0xFFDA) + 14
    passed = 0
    for _ in range(400):
        mutant = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 4))):
            mutant[rng.randrange(2, header_bytes)] = rng.choice((0, 1, 2, 6, 8, 0xFF, rng.randrange(256)))
        if rng.random() < 0.2:
            at, length = rng.randrange(2, header_bytes), rng.randrange(1, 9)
            mutant[at : at + length] = b"" if rng.random() < 0.5 else rng.randbytes(length)
        found = read_header(bytes(mutant), Limits())
        if isinstance(found, JpegHeader):
            passed += 1
            assert_pillow_agrees(bytes(mutant), found)
    assert passed > 20


def test_cut_files_of_every_length_never_pass():
    data = KINDS["orientation-6"].data
    for length in range(len(data)):
        assert isinstance(read_header(data[:length], Limits()), Way)


def test_limits_hold():
    data = photo(90, 80)
    assert isinstance(read_header(data, Limits(max_bytes=len(data), max_pixels=7200)), JpegHeader)
    assert read_header(data, Limits(max_bytes=len(data) - 1)) is Way.ODD
    assert read_header(data, Limits(max_pixels=7199)) is Way.ODD


def test_an_end_is_found_across_blocks(monkeypatch):
    data = photo(90, 80, restart_marker_blocks=1)
    for size in (1, 2, 3, 64, len(data)):
        monkeypatch.setattr(jpeg_header, "_SCAN_BLOCK", size)
        found = read_header(data, Limits())
        assert isinstance(found, JpegHeader)
        assert found.end == len(data)
