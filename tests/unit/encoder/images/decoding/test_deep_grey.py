"""Grey of more than 8 bits: how many bits the samples have, and that a picture of few of them is not black."""

import struct

import numpy as np
import pytest
from PIL import Image

from encoder.images.decoding.decode import decode
from encoder.images.decoding.deep_grey import eight_bits
from tests.support.odd_images import chunk, png, tiff


def grey_png(samples, *chunks: bytes) -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return png(samples.shape[1], samples.shape[0], 16, 0, rows, *chunks)


def grey_tiff(samples, tags=None, photometric=1) -> bytes:
    return tiff(samples.shape[::-1], (16,), photometric, samples.astype("<u2").tobytes(), tags)


def shown(data: bytes):
    return np.asarray(decode(data))[..., 0]


def ramp(top: int):
    return np.linspace(0, top, 64 * 16).round().astype(np.uint16).reshape(16, 64)


@pytest.mark.parametrize("write", [grey_png, grey_tiff])
@pytest.mark.parametrize(("top", "depth"), [
    (200, 8), (255, 8), (256, 10), (700, 10), (1023, 10), (1024, 12), (4095, 12), (4096, 14), (16_383, 14), (16_384, 16), (65_535, 16),
])  # fmt: skip
def test_the_depth_is_the_smallest_usual_one_that_holds_the_highest_sample(write, top, depth):
    np.testing.assert_array_equal(shown(write(ramp(top))), ramp(top) >> (depth - 8))


@pytest.mark.parametrize("top", [1023, 4095])
def test_a_picture_of_few_bits_is_that_of_all_bits(top):
    """The same picture, its samples stretched to 16 bits as they ought to be; before, it was nearly black."""
    few = shown(grey_png(ramp(top)))
    assert np.abs(few.astype(int) - shown(grey_png(ramp(65_535)))).max() <= 1
    assert few.max() == 255


@pytest.mark.parametrize(
    ("stated", "top", "depth"), [(10, 200, 10), (12, 900, 12), (16, 900, 16), (10, 1024, 12), (11, 2000, 11), (3, 7, 8)]
)
def test_a_stated_depth_counts_unless_a_sample_does_not_fit(stated, top, depth):
    samples = ramp(top)
    np.testing.assert_array_equal(shown(grey_png(samples, chunk(b"sBIT", bytes([stated])))), samples >> (depth - 8))
    np.testing.assert_array_equal(shown(grey_tiff(samples, {281: (1 << stated) - 1})), samples >> (depth - 8))


@pytest.mark.parametrize("value", [0, 1 << 31])
def test_a_nonsensical_depth_is_none(value):
    np.testing.assert_array_equal(shown(grey_tiff(ramp(4095), {281: 0})), ramp(4095) >> 4)
    np.testing.assert_array_equal(shown(grey_png(ramp(4095), chunk(b"sBIT", b"\0"))), ramp(4095) >> 4)
    np.testing.assert_array_equal(shown(grey_png(ramp(4095), chunk(b"sBIT", b""))), ramp(4095) >> 4)


def test_white_at_zero_is_turned():
    np.testing.assert_array_equal(shown(grey_tiff(ramp(4095), photometric=0)), 255 - (ramp(4095) >> 4))


def test_twelve_bits_packed_are_a_picture():
    values = np.arange(0, 4096, 8, dtype=np.uint16).reshape(16, 32)
    first, second = values[:, 0::2], values[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=-1).astype(np.uint8)
    np.testing.assert_array_equal(shown(tiff((32, 16), (12,), 1, packed.tobytes())), values >> 4)


def test_signed_samples_count_from_the_lowest():
    """As Hounsfield units of a tomograph do."""
    samples = np.linspace(-1024, 3071, 256).round().astype("<i2").reshape(16, 16)
    data = tiff((16, 16), (16,), 1, samples.tobytes(), {339: 2})
    np.testing.assert_array_equal(shown(data), (samples.astype(int) + 1024) >> 4)


def test_samples_of_32_bits_have_room():
    samples = np.array([[-(1 << 31), 0, (1 << 31) - 1]], np.int32)
    assert np.asarray(eight_bits(Image.fromarray(samples))).tolist() == [[0, 128, 255]]
    assert np.asarray(eight_bits(Image.fromarray(np.array([[0, 1 << 20, (1 << 24) - 1]], np.int32)))).tolist() == [
        [0, 16, 255]
    ]


def test_one_sample_may_be_clear():
    data = grey_png(ramp(1023), chunk(b"tRNS", struct.pack(">H", 0)))
    assert shown(data)[0, 0] == 255
    assert shown(data)[0, 1:].max() < 64
