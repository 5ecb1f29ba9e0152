"""What a program may hand over as an image, and what it is told of what it may not."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoder.errors import HashgrainError, Reason
from encoder.images.decoding.decode import decode_square
from encoder.images.inputs import look, square_of
from encoder.images.limits import Limits
from encoder.images.region import WHOLE, Region, RegionMode
from tests.support.jpeg_kinds import photo as photo_of
from tests.support.pictures import encoded


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(3, "PNG"))
    return path


def test_every_form_of_a_picture_without_loss_is_the_same_square(photo):
    expected = decode_square(photo.read_bytes(), 48, Limits())
    pixels = np.asarray(Image.open(photo).convert("RGB"))
    for image in (
        photo,
        photo.read_bytes(),
        Image.open(photo),
        pixels,
        np.asfortranarray(pixels),
        pixels[:, ::-1][:, ::-1],
    ):
        np.testing.assert_array_equal(square_of(image, 48, Limits()), expected)


def test_a_jpeg_comes_out_as_it_does_when_shards_are_encoded(tmp_path):
    data = encoded(3)
    (tmp_path / "photo.jpg").write_bytes(data)
    for image in (data, tmp_path / "photo.jpg"):
        np.testing.assert_array_equal(square_of(image, 24, Limits()), decode_square(data, 24, Limits()))


@pytest.mark.parametrize("mode", RegionMode)
def test_the_whole_picture_as_a_region_is_seen_as_without_one(mode, tmp_path):
    data = photo_of(517, 301, 3, quality=90)
    for image in (data, encoded(3), Image.open(BytesIO(data))):
        plain, whole = look(image, 24, Limits()), look(image, 24, Limits(), WHOLE, mode)
        np.testing.assert_array_equal(whole.pixels, plain.pixels)
        assert whole.square == plain.square


def test_a_crop_is_decoded_as_finely_as_it_needs():
    data = photo_of(1024, 768, 3, quality=90)
    whole = Image.open(BytesIO(data)).convert("RGB")
    seen = look(data, 96, Limits(), Region(0.25, 0.25, 0.125, 0.125), RegionMode.CROP)
    expected = square_of(
        whole.crop((256, 176, 384, 304)), 96, Limits()
    )  # 128 pixels, which an eighth of the scale has not
    # at its border the resize reads a pixel from beyond
    np.testing.assert_allclose(seen.pixels[2:-2, 2:-2].astype(int), expected[2:-2, 2:-2], atol=1)
    assert seen.square == pytest.approx((256 / 1024, 176 / 768, 384 / 1024, 304 / 768))
    assert seen.inside is None


def test_an_image_that_others_opened_is_turned_upright_and_flattened(photo):
    picture = Image.open(photo).convert("RGB")
    turned = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(turned, "PNG", exif=exif)
    np.testing.assert_array_equal(
        square_of(Image.open(turned), 48, Limits()), decode_square(turned.getvalue(), 48, Limits())
    )
    clear = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    assert (square_of(clear, 16, Limits()) == 255).all()


@pytest.mark.parametrize(
    ("image", "reason", "says"),
    [
        ("photo.png", Reason.BAD_VALUE, "'photo.png' is not an image"),
        (np.zeros((4, 4), np.uint8), Reason.BAD_VALUE, "uint8[4, 4] is not an image"),
        (np.zeros((3, 4, 4), np.uint8), Reason.BAD_VALUE, "uint8[3, 4, 4] is not an image"),
        (np.zeros((4, 4, 3)), Reason.BAD_VALUE, "float64[4, 4, 3] is not an image"),
        (np.zeros((4, 0, 3), np.uint8), Reason.BAD_VALUE, "uint8[4, 0, 3] is not an image"),
        (np.zeros((70, 70, 3), np.uint8), Reason.IMAGE_REJECTED, "uint8[70, 70, 3] cannot be used (too-many-pixels"),
        (Image.new("RGB", (70, 70)), Reason.IMAGE_REJECTED, "image of 70 x 70 pixels cannot be used (too-many-pixels"),
        (Image.new("RGB", (0, 9)), Reason.IMAGE_REJECTED, "image of 0 x 9 pixels cannot be used (empty"),
        (Image.new("LAB", (9, 9)), Reason.IMAGE_REJECTED, "image of 9 x 9 pixels cannot be used (unsupported: pixels of mode LAB"),
        (b"no image", Reason.IMAGE_REJECTED, "image of 8 bytes cannot be used (unknown-format"),
        (Path("nowhere.png"), Reason.SHARD_MISSING, "image nowhere.png could not be read (No such file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_be_used_is_one_line(image, reason, says):
    with pytest.raises(HashgrainError) as caught:
        square_of(image, 16, Limits(max_pixels=4_096))
    assert caught.value.reason is reason
    assert says in str(caught.value)


def test_a_picture_that_breaks_while_it_loads_is_rejected():
    broken = Image.open(BytesIO(encoded(3, "PNG")[:400]))
    with pytest.raises(HashgrainError) as caught:
        square_of(broken, 16, Limits())
    assert caught.value.reason is Reason.IMAGE_REJECTED
