"""The decode that GPUs use, run by the CPU: the same pictures and the same reasons as the one decode."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torchvision.io import decode_jpeg

from encoder.images.decoding import gpu_decode as gpudecode
from encoder.images.decoding.decode import RejectedImage, decode_square, square_or_reject
from encoder.images.decoding.gpu_decode import decode_squares
from encoder.images.decoding.profiles import ADOBE_RGB, DISPLAY_P3, SRGB, rgb_profile
from encoder.images.limits import Limits
from tests.support.odd_images import odd_images

CPU = torch.device("cpu")
WIDE = Limits()


def photo(width, height, seed=0, **options: Any) -> bytes:
    """A JPEG with soft shapes and sharp edges, as photos have."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8))
    picture = small.resize((width, height), Image.Resampling.BICUBIC).filter(ImageFilter.UnsharpMask(3))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", **{"quality": 92, **options})
    return stream.getvalue()


def squares(files, size=64, limits=WIDE, device=CPU):
    return decode_squares(files, size, limits, device)


def difference(files, size):
    ours = np.stack([decode_square(data, size, Limits()) for data in files])
    theirs = np.stack([picture.numpy() for picture in squares(files, size)])
    return np.abs(ours.astype(int) - theirs)


@pytest.mark.parametrize("shape", [(100, 100), (127, 99), (99, 127), (64, 64), (70, 640), (40, 50), (3, 100)])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}], ids=["plain", "progressive", "444"]
)
def test_pixels_are_the_same_but_for_rounding(shape, options):
    assert difference([photo(shape[0], shape[1], seed, **options) for seed in range(3)], 64).max() <= 1


@pytest.mark.parametrize("shape", [(128, 128), (301, 200), (520, 555), (1100, 900)])
def test_pictures_made_smaller_while_they_are_decoded_are_nearly_the_same(shape):
    for subsampling, most in ((0, 0.5), (2, 1.5)):
        assert (
            difference([photo(shape[0], shape[1], seed, subsampling=subsampling) for seed in range(3)], 64).mean()
            < most
        )


def test_grey_and_turned_pictures_come_out_as_from_the_one_decode():
    turned = Image.Exif()
    turned[0x0112] = 6
    grey = io.BytesIO()
    Image.open(io.BytesIO(photo(90, 80))).convert("L").save(grey, "JPEG")
    assert difference([photo(90, 80, exif=turned), grey.getvalue(), photo(90, 80)], 64).max() <= 2


@pytest.mark.parametrize("space", [DISPLAY_P3, ADOBE_RGB])
def test_pictures_in_another_colour_space_take_the_one_decode(space):
    files = [photo(90, 80, icc_profile=rgb_profile(space)), photo(90, 80, icc_profile=rgb_profile(SRGB)), photo(90, 80)]
    assert difference(files[:1], 64).max() == 0
    assert [gpudecode._plain_pixels(data, WIDE) for data in files] == [0, 7200, 7200]


def test_odd_images_have_the_same_reasons_and_fail_nobody():
    odd, plain = [each.data for each in odd_images()], photo(90, 80)
    limits = Limits(max_bytes=60_000)
    found = squares([plain, *odd, plain], limits=limits)
    for data, picture in zip([plain, *odd, plain], found, strict=True):
        expected = square_or_reject(data, 64, limits)
        if isinstance(expected, RejectedImage):
            assert isinstance(picture, RejectedImage)
            assert (picture.reject, picture.detail) == (expected.reject, expected.detail)
        else:
            assert np.abs(picture.numpy().astype(int) - expected).mean() < 2


def test_a_cut_or_damaged_file_among_good_ones():
    good = [photo(120, 100, seed) for seed in range(3)]
    damaged = bytearray(good[1])
    damaged[len(damaged) // 2 : len(damaged) // 2 + 200] = bytes(200)
    found = squares([good[0], good[1][:-400], bytes(damaged), good[2]])
    assert isinstance(found[1], RejectedImage)
    for data, picture in zip((good[0], good[2]), (found[0], found[3]), strict=True):
        assert np.abs(decode_square(data, 64, Limits()).astype(int) - picture.numpy()).max() <= 1


def test_pictures_there_is_no_memory_for_take_the_one_decode(monkeypatch):
    real = gpudecode._square

    def scarce(image, size):
        if image.shape[1] > 100:
            raise torch.OutOfMemoryError
        return real(image, size)

    monkeypatch.setattr(gpudecode, "_square", scarce)
    files = [photo(90, 90, 1), photo(120, 120, 2), photo(80, 80, 3)]
    for picture, data in zip(squares(files), files, strict=True):
        assert np.abs(picture.numpy().astype(int) - decode_square(data, 64, Limits())).max() <= 1


def test_large_pictures_are_decoded_a_few_at_a_time(monkeypatch):
    from encoder.images.decoding import gpu_decode as gpudecode

    sizes = []

    def counting(data, *args, **options):
        sizes.append(len(data))
        return decode_jpeg(data, *args, **options)

    monkeypatch.setattr(gpudecode, "MOST_PIXELS", 25_000)
    monkeypatch.setattr(gpudecode, "decode_jpeg", counting)
    assert len(squares([photo(100, 100, seed) for seed in range(5)])) == 5
    assert sizes == [2, 2, 1]


@pytest.mark.gpu
def test_a_gpu_decodes_as_the_cpu_does():
    files = [photo(300, 200, seed) for seed in range(16)]
    found = np.stack([picture.cpu().numpy() for picture in squares(files, 160, device=torch.device("cuda"))])
    ours = np.stack([decode_square(data, 160, Limits()) for data in files])
    assert np.abs(ours.astype(int) - found).mean() < 2
