import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipelines.evaluation.copies import (
    AREA,
    DEGREES,
    HUE,
    QUALITY,
    STRENGTH,
    CopyKind,
    copy_rng,
    find_originals,
    make_copies,
)
from tests.support import oracles
from tests.support.copies import copy_recall
from tests.support.pictures import picture

seeds = st.integers(0, 2**32 - 1)
every_kind = pytest.mark.parametrize("kind", CopyKind)


def pictures(count, size=48):
    return np.stack([np.asarray(picture(seed, size)) for seed in range(count)])


def copied(pictures, kind, seed=0):
    return make_copies(pictures, kind, copy_rng(kind, seed))


def ramp(size):
    """Red rises from left to right and green from top to bottom, two grey values a pixel from 64 up."""
    across = np.broadcast_to(64 + 2 * np.arange(size), (size, size))
    return np.stack([across, across.T, np.zeros_like(across)], axis=-1).astype(np.uint8)[None]


def slopes(picture):
    """[red by x, red by y, green by x, green by y] per pixel, where a resampling filter does not see the border."""
    inner = picture.astype(float)[6:-6, 6:-6, :2]
    y, x = np.indices(inner.shape[:2])
    plane = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1)
    return np.linalg.lstsq(plane, inner.reshape(-1, 2))[0][:2].T.ravel()


@every_kind
@pytest.mark.parametrize("size", [32, 45, 512])
def test_copies_have_the_form_of_their_originals_which_stay_as_they_are(kind, size, rng):
    originals = rng.integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    before = originals.copy()
    copies = copied(originals, kind)
    assert (copies.shape, copies.dtype) == (originals.shape, np.uint8)
    assert (originals == before).all()
    assert all((copy != original).any() for copy, original in zip(copies, originals, strict=True))


@every_kind
def test_equal_seeds_make_equal_copies_and_others_make_others(kind):
    originals = pictures(4)
    assert (copied(originals, kind, seed=3) == copied(originals, kind, seed=3)).all()
    if kind is not CopyKind.FLIP:
        assert (copied(originals, kind, seed=3) != copied(originals, kind, seed=4)).any()


@every_kind
@given(st.integers(0, 4))
def test_copies_do_not_depend_on_how_pictures_are_cut_into_blocks(kind, cut):
    originals, rng = pictures(4, 32), copy_rng(kind, 0)
    blocks = [make_copies(block, kind, rng) for block in (originals[:cut], originals[cut:])]
    assert (np.concatenate(blocks) == copied(originals, kind)).all()


@every_kind
def test_white_pictures_get_no_dark_corners(kind):
    white = np.full((20, 32, 32, 3), 255, np.uint8)
    for copy in copied(white, kind):
        assert int(copy.max()) - int(copy.min()) <= 1


@given(seeds)
def test_a_crop_keeps_its_share_of_the_area_and_the_shape_of_things(seed):
    red_by_x, red_by_y, green_by_x, green_by_y = slopes(copied(ramp(64), CopyKind.CROP, seed)[0]) / 2
    assert red_by_x == pytest.approx(green_by_y, abs=0.01)
    assert AREA[0] - 0.02 <= red_by_x * green_by_y <= AREA[1] + 0.02
    assert abs(red_by_y) + abs(green_by_x) < 0.01


def test_crops_differ_in_place_and_size():
    corners = {tuple(copy[32, 32, :2]) for copy in copied(np.repeat(ramp(64), 10, axis=0), CopyKind.CROP)}
    assert len(corners) > 5


def test_a_flip_is_a_mirror_image():
    originals = pictures(2)
    assert (copied(originals, CopyKind.FLIP) == originals[:, :, ::-1]).all()


@given(seeds)
def test_a_rotation_turns_about_the_centre_by_ten_degrees_at_most_and_enlarges_until_no_corner_shows(seed):
    copy = copied(ramp(64), CopyKind.ROTATE, seed)[0]
    red_by_x, red_by_y, green_by_x, green_by_y = slopes(copy) / 2
    angle = np.arctan2(-red_by_y, red_by_x)
    assert abs(np.degrees(angle)) <= DEGREES + 0.2
    inner = 1 / (np.cos(angle) + np.sin(abs(angle)))
    assert np.allclose([red_by_x, green_by_y], inner * np.cos(angle), atol=0.01)
    assert np.allclose([-red_by_y, green_by_x], inner * np.sin(angle), atol=0.01)
    assert np.allclose(copy[31:33, 31:33, :2].mean(axis=(0, 1)), 64 + 63, atol=1)


def test_rotations_go_both_ways():
    copies = copied(np.repeat(ramp(64), 10, axis=0), CopyKind.ROTATE)
    assert {bool(slopes(copy)[1] > 0) for copy in copies} == {True, False}


def test_a_blur_is_as_wide_on_a_large_picture_as_on_a_small_one():
    small, large = (np.zeros((1, size, size, 3), np.uint8) for size in (64, 256))
    small[:, :, 32:], large[:, :, 128:] = 255, 255
    edge, wide_edge = (copied(step, CopyKind.BLUR)[0, 5, :, 0].astype(float) for step in (small, large))
    assert 3 < ((edge > 2) & (edge < 253)).sum() < 10
    assert np.abs(edge - wide_edge.reshape(64, 4).mean(axis=1)).max() < 25


def test_a_jpeg_has_a_quality_in_range():
    originals = pictures(6)

    def compressed(original, quality):
        file = io.BytesIO()
        Image.fromarray(original).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    found = set()
    for original, copy in zip(originals, copied(originals, CopyKind.JPEG), strict=True):
        matches = [quality for quality in range(1, 96) if (compressed(original, quality) == copy).all()]
        assert any(QUALITY[0] <= quality <= QUALITY[1] for quality in matches)
        found.update(matches)
    assert len(found) > 3


@given(seeds, st.integers(40, 150))
def test_changed_colours_leave_grey_grey_and_change_its_brightness_within_bounds(seed, value):
    copy = copied(np.full((1, 32, 32, 3), value, np.uint8), CopyKind.COLOUR, seed)
    assert (copy == copy[0, 0, 0, 0]).all()
    assert (1 - STRENGTH) * value - 2 <= copy[0, 0, 0, 0] <= (1 + STRENGTH) * value + 2


@given(seeds)
def test_a_hue_turns_by_a_little(seed):
    red = np.full((1, 32, 32, 3), (150, 70, 70), np.uint8)
    hue = np.asarray(Image.fromarray(copied(red, CopyKind.COLOUR, seed)[0]).convert("HSV"))[0, 0, 0] / 256
    assert min(hue, 1 - hue) <= HUE + 0.015


@st.composite
def searches(draw):
    """Codes of one byte, so that ties are the rule, and originals anywhere in the database."""
    rng = np.random.default_rng(draw(seeds))
    database = rng.integers(0, draw(st.sampled_from([2, 8, 256])), (draw(st.integers(1, 40)), 1), dtype=np.uint8)
    rows = rng.integers(0, len(database), draw(st.integers(1, 8)))
    flips = rng.integers(0, 4, (len(rows), 1), dtype=np.uint8)
    return database[rows] ^ flips, rows, database


@given(searches(), st.integers(1, 45))
def test_recall_is_the_chance_of_the_original_among_the_first_k_in_random_orders_of_equals(search, k):
    copies, rows, database = search
    distances = oracles.hamming(copies, database)
    chances = []
    for row, to_all in zip(rows, distances, strict=True):
        nearer, as_near = (to_all < to_all[row]).sum(), (to_all == to_all[row]).sum()
        chances.append(np.clip((k - nearer) / as_near, 0, 1))
    assert find_originals(copies, rows, database, [k]) == {k: pytest.approx(np.mean(chances))}


def test_the_chance_is_what_shuffling_gives(rng):
    database = rng.integers(0, 8, (30, 1), dtype=np.uint8)
    rows = np.arange(10)
    distances = oracles.hamming(database[rows] ^ 1, database)
    found = []
    for _ in range(4000):
        order = rng.permutation(len(database))
        ranked = order[np.argsort(distances[:, order], axis=1, kind="stable")]
        found.append((ranked[:, :3] == rows[:, None]).any(axis=1).mean())
    assert find_originals(database[rows] ^ 1, rows, database, [3])[3] == pytest.approx(np.mean(found), abs=0.01)


def brightness(pictures):
    """Code each picture by its mean colour, 8 bits a band: a mirror image has the code of its original."""
    return pictures.mean(axis=(1, 2)).astype(np.uint8)


def test_what_a_code_does_not_see_costs_no_recall_and_what_it_sees_does():
    originals = pictures(60)
    found = copy_recall(brightness, originals, np.arange(60), brightness(originals))
    assert list(found.by_kind) == list(CopyKind)
    assert found.by_kind[CopyKind.FLIP] == {1: 1.0, 10: 1.0}
    assert found.by_kind[CopyKind.COLOUR][1] < 0.5
    assert (found.queries, found.database) == (60, 60)


def test_codes_that_are_all_alike_find_what_chance_finds():
    originals = pictures(5)
    found = copy_recall(
        lambda copies: np.zeros((len(copies), 8), np.uint8), originals, np.arange(5), np.zeros((40, 8), np.uint8)
    )
    assert found.mean == pytest.approx({1: 1 / 40, 10: 10 / 40})


def test_the_mean_is_over_the_kinds_and_no_kind_depends_on_the_others():
    originals = pictures(20)
    database, rows = brightness(originals), np.arange(20)
    every = copy_recall(brightness, originals, rows, database, seed=5)
    some = copy_recall(brightness, originals, rows, database, seed=5, kinds=[CopyKind.ROTATE, CopyKind.CROP])
    for kind in some.by_kind:
        assert some.by_kind[kind] == every.by_kind[kind]
    assert some.mean[1] == pytest.approx((some.by_kind[CopyKind.CROP][1] + some.by_kind[CopyKind.ROTATE][1]) / 2)
    assert every.mean[1] <= every.mean[10]
