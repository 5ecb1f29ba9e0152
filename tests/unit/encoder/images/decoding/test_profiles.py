"""The profiles that are written: LittleCMS reads in them what they say."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from encoder.images.decoding.profiles import ADOBE_RGB, DISPLAY_P3, PROPHOTO, SRGB, numbered_profile, rgb_profile


def opened(data: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(data))


def through(data: bytes, colours):
    transform = ImageCms.ImageCmsTransform(
        opened(data), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")), "RGB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC
    )  # fmt: skip
    return np.asarray(transform.apply(Image.fromarray(np.array([colours], np.uint8))))[0].tolist()


@pytest.mark.parametrize("space", [SRGB, DISPLAY_P3, ADOBE_RGB, PROPHOTO])
def test_white_and_black_are_themselves(space):
    assert through(rgb_profile(space), [(0, 0, 0), (255, 255, 255)]) == [[0, 0, 0], [255, 255, 255]]


def test_srgb_is_what_littlecms_takes_for_srgb():
    colours = np.random.default_rng(0).integers(0, 256, (999, 3))
    assert np.abs(np.array(through(rgb_profile(SRGB), colours)) - colours).max() <= 1


def test_published_pairs_of_colours_are_hit():
    """Red, green and grey of sRGB in Display P3 (CSS Color 4: color(display-p3 0.917 0.200 0.139), 0.458 0.985 0.298) and back."""
    assert through(rgb_profile(DISPLAY_P3), [(234, 51, 35), (117, 251, 76), (99, 99, 99)]) == [
        pytest.approx(colour, abs=3) for colour in [(255, 0, 0), (0, 255, 0), (99, 99, 99)]
    ]
    assert through(rgb_profile(ADOBE_RGB), [(219, 0, 0), (144, 255, 60)]) == [
        pytest.approx(colour, abs=3) for colour in [(255, 0, 0), (0, 255, 0)]
    ]


@pytest.mark.parametrize("transfer", [1, 2, 6, 13, 14, 15])
def test_numbers_of_srgb_and_of_television_are_no_profile(transfer):
    assert numbered_profile(1, transfer) is None
    assert numbered_profile(12, transfer) == rgb_profile(DISPLAY_P3)


@pytest.mark.parametrize(("primaries", "transfer"), [(9, 16), (9, 18), (2, 13), (0, 0), (99, 99), (12, 16)])
def test_high_dynamic_range_and_unknown_numbers_are_no_profile(primaries, transfer):
    assert numbered_profile(primaries, transfer) is None


def test_light_itself_is_a_curve():
    light = numbered_profile(1, 8)
    assert light is not None
    assert through(light, [(55, 55, 55)]) == [pytest.approx([128] * 3, abs=1)]
