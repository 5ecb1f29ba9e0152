"""Regions of pictures, and the squares that a network sees of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.errors import HashgrainError, Reason
from encoder.images.region import WHOLE, Region, inside, square_around, square_with

SIZES = st.tuples(st.integers(1, 5000), st.integers(1, 5000))


@st.composite
def regions(draw):
    width, height = (draw(st.floats(1 / 32, 1)) for _ in "xy")
    x, y = (draw(st.floats(0, 1)) * (1 - side) for side in (width, height))
    return Region(x, y, width, height)


@given(regions(), SIZES)
def test_both_squares_lie_in_the_picture(region, size):
    for square in (square_with, square_around):
        left, top, right, bottom = square(region, size)
        assert right - left == pytest.approx(bottom - top)
        assert left >= 0
        assert top >= 0
        assert right <= size[0] + 1e-9 * size[0]
        assert bottom <= size[1] + 1e-9 * size[1]


@given(regions(), SIZES)
def test_the_square_of_the_short_side_has_as_much_of_the_region_as_fits(region, size):
    square, pixels, side = square_with(region, size), region.pixels(size), min(size)
    assert square[2] - square[0] == pytest.approx(side)
    for axis in (0, 1):
        shared = min(square[axis + 2], pixels[axis + 2]) - max(square[axis], pixels[axis])
        assert shared == pytest.approx(min(side, pixels[axis + 2] - pixels[axis]), abs=1e-6 * size[axis])


@given(regions(), SIZES)
def test_the_square_around_a_region_is_the_smallest_with_all_of_it_up_to_the_short_side(region, size):
    left, top, right, bottom = square_around(region, size)
    pixels = region.pixels(size)
    longer = max(pixels[2] - pixels[0], pixels[3] - pixels[1])
    assert right - left == pytest.approx(min(longer, *size))
    if longer <= min(size):
        near = 1e-6 * max(size)
        assert left <= pixels[0] + near
        assert top <= pixels[1] + near
        assert right >= pixels[2] - near
        assert bottom >= pixels[3] - near


@pytest.mark.parametrize("size", [(48, 48), (640, 480), (480, 640), (1, 3000), (1279, 853)])
def test_the_whole_picture_has_the_centre_square_and_all_of_it(size):
    side = min(size)
    left, top = (size[0] - side) / 2, (size[1] - side) / 2
    for square in (square_with, square_around):
        assert square(WHOLE, size) == (left, top, left + side, top + side)
        assert inside(WHOLE, size, square(WHOLE, size)) == (0, 0, 1, 1)


def test_a_region_at_the_side_moves_the_square_there_and_no_farther():
    assert square_with(Region(0, 0, 0.25, 1), (400, 200)) == (0, 0, 200, 200)
    assert square_with(Region(0.2, 0, 0.25, 1), (400, 200)) == (80, 0, 280, 200)
    assert square_with(Region(0.4, 0, 0.25, 1), (400, 200)) == (100, 0, 300, 200)
    assert inside(Region(0.2, 0.5, 0.25, 0.5), (400, 200), (80, 0, 280, 200)) == (0, 0.5, 0.5, 1)


@pytest.mark.parametrize(
    "box", [(-0.1, 0, 1, 1), (0, 0, 1.1, 1), (0.5, 0, 0.6, 1), (0, 0, 0.03, 1), (0, 0, 1, float("nan")), (float("inf"), 0, 1, 1)]
)  # fmt: skip
def test_a_box_that_is_not_in_a_picture_is_one_line(box):
    with pytest.raises(HashgrainError, match="is not inside the picture") as caught:
        Region(*box)
    assert caught.value.reason is Reason.BAD_VALUE


def test_a_region_is_read_as_it_is_written():
    region = Region(0.125, 0, 0.5, 0.75)
    assert Region.parse(str(region)) == region
    for text in ("1,2,3", "a,b,c,d", "", "0,0,1,1,1"):
        with pytest.raises(HashgrainError, match="expected x,y,width,height"):
            Region.parse(text)
