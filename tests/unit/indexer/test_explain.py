"""What agreeing bits rest on: heat maps whose places add up to the logits."""

import numpy as np
import pytest

import indexer
from encoder.bits import binarize, unpack
from encoder.errors import HashgrainError, Reason
from encoder.images.region import Region, RegionMode
from encoder.levels import Level
from indexer import ByCode, ByImage, ByKey
from indexer.explain import explain
from tests.support.pictures import encoded, picture


@pytest.fixture(scope="module")
def index(index_folder):
    return indexer.open(index_folder)


def logits_of(index, image, level, region=None, mode=None):
    return index.encoder.encode([image], [level], regions=[region], mode=mode).logits[level][0].astype(np.float64)


def added_up(heat):
    return sum(grid.sum(dtype=np.float64) for grid in heat.grids)


@pytest.mark.parametrize("level", Level)
def test_places_add_up_to_how_sure_each_picture_is_of_the_bits_that_agree(index, level):
    found = explain(index, ByKey("pic-007"), "pic-012", level)
    mine, theirs = (logits_of(index, index.image(index.find(key)), level) for key in ("pic-007", "pic-012"))
    agree = (mine >= 0) == (theirs >= 0)
    assert (found.level, found.bits, found.agreeing) == (level, 64, agree.sum())
    [hit] = [each for each in index.query(ByKey("pic-007"), level=level, k=60) if each.key == "pic-012"]
    assert found.agreeing == 64 - hit.distance
    for heat, logits in ((found.query, mine), (found.hit, theirs)):
        expected = np.abs(logits[agree]).sum()
        assert heat.total == pytest.approx(expected, rel=1e-4)
        assert added_up(heat) == pytest.approx(heat.total)
        assert len(heat.grids) == (3 if level is Level.FUSED else 1)
        assert heat.box == (0, 0, 1, 1)


def test_a_picture_with_itself_agrees_in_every_bit(index):
    found = explain(index, ByKey("pic-007"), "pic-007", "mid")
    assert found.agreeing == 64
    for one, other in zip(found.query.grids, found.hit.grids, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("mode", RegionMode)
def test_a_region_of_a_query_is_explained_where_it_lies(index, mode):
    wide, region = picture(7, 60).resize((90, 60)), Region(0.5, 0.25, 1 / 3, 0.5)
    found = explain(index, ByImage(wide, None, region, mode), "pic-007", "fine")
    logits = logits_of(index, wide, "fine", region, mode)
    theirs = unpack(index.codes(Level.FINE, np.array([index.find("pic-007")])))[0]
    agree = unpack(binarize(logits)) == theirs
    assert found.agreeing == agree.sum()
    assert found.query.total == pytest.approx(np.abs(logits[agree]).sum(), rel=1e-4)
    box = (0.5, 0.25, 1 / 3, 0.5) if mode is RegionMode.CROP else (1 / 6, 0, 2 / 3, 1)
    assert found.query.box == pytest.approx(box)
    if mode is RegionMode.ATTENTION:
        outside = found.query.grids[0][:, : found.query.grids[0].shape[1] // 2]
        assert outside.size
        assert (outside == 0).all()


def test_a_region_of_a_row_is_that_of_its_picture(index):
    region = Region(0.2, 0.1, 0.5, 0.5)
    by_key = explain(index, ByKey("pic-007", region), "pic-012")
    by_image = explain(index, ByImage(index.image(index.find("pic-007")), region=region), "pic-012")
    assert by_key.level is Level.FUSED
    assert (by_key.agreeing, by_key.query.total) == (by_image.agreeing, by_image.query.total)


@pytest.mark.parametrize(
    ("query", "key", "level", "reason", "says"),
    [
        (ByCode(np.zeros(8, np.uint8)), "pic-007", "fine", Reason.BAD_VALUE, "code has no picture to explain"),
        (ByKey("nobody"), "pic-007", "fine", Reason.KEY_UNKNOWN, "'nobody'"),
        (ByKey("pic-007"), "nobody", "fine", Reason.KEY_UNKNOWN, "'nobody'"),
        (ByImage(b"none"), "pic-007", "fine", Reason.IMAGE_REJECTED, "cannot be used"),
        (encoded(3), "pic-007", "finest", Reason.LEVEL_UNKNOWN, "no level is called 'finest'"),
    ],
)
def test_what_cannot_be_explained_is_one_line(index, query, key, level, reason, says):
    with pytest.raises(HashgrainError, match=says) as caught:
        explain(index, query, key, level)
    assert caught.value.reason is reason
    assert "\n" not in str(caught.value)
