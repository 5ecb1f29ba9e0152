"""The page of an explanation: both pictures, their heat maps, nothing of a stranger's raw."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

import indexer
from encoder.levels import Level
from indexer import ByImage, ByKey
from indexer.explain import Explanation, HeatMap, explain
from indexer.page.heat import SIDE, area_of_half, combined, overlay, save_heat
from tests.support.pictures import picture


def heat_of(*grids):
    return HeatMap(tuple(np.array(grid, np.float32) for grid in grids), (0, 0, 1, 1), 0.0)


def test_grids_of_any_size_are_laid_over_each_other_with_their_sums():
    even = combined(heat_of(np.full((4, 4), 0.5), [[-3.0]]), 64)
    assert even.sum() == pytest.approx(8 - 3, rel=1e-5)
    bump = np.zeros((7, 7))
    bump[3, 3] = 2
    assert combined(heat_of(bump), 448).sum() == pytest.approx(2, rel=1e-3)


def test_half_of_what_speaks_for_the_bits_lies_where_it_lies():
    assert area_of_half(np.ones((10, 10), np.float32)) == 0.5
    assert area_of_half(np.array([[9, 0], [1, -50]], np.float32)) == 0.25
    assert area_of_half(np.full((3, 3), -1, np.float32)) == 0


def test_what_speaks_against_has_no_colour_and_the_strongest_has_most():
    pixels = np.asarray(overlay(np.array([[-5, 0], [1, 4]], np.float32)))
    assert pixels[0, :, 3].tolist() == [0, 0]
    assert pixels[1, 1, 3] > pixels[1, 0, 3] > 0
    assert (np.asarray(overlay(np.full((2, 2), -1, np.float32)))[:, :, 3] == 0).all()


def pictures_of(html):
    found = re.findall(r'src="data:image/(\w+);base64,([^"]+)"', html)
    return [(kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))) for kind, data in found]


def test_the_page_has_both_pictures_as_the_network_saw_them(index_folder, tmp_path):
    index = indexer.open(index_folder)
    wide = picture(3, 900).resize((900, 600))
    query = ByImage(wide, "my \x1b[31m\u202e<b>photo</b>")
    found = explain(index, query, "pic-012", Level.FUSED)
    save_heat(tmp_path / "why.html", index, found, query, "pic-012")
    html = (tmp_path / "why.html").read_text()
    kinds = pictures_of(html)
    assert [(kind, pixels.shape) for kind, pixels in kinds] == [("jpeg", (SIDE, SIDE, 3)), ("png", (SIDE, SIDE, 4))] * 2
    square = np.asarray(wide.crop((150, 0, 750, 600)).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    assert np.abs(kinds[0][1].astype(int) - square).mean() < 4
    assert f"{found.agreeing} of 64 bits agree at fused" in html
    for stage, grid in zip(("fine", "mid", "coarse"), found.hit.grids, strict=True):
        assert f"<dt>of it by stage {stage}</dt><dd>{grid.sum():.2f}</dd>" in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "&lt;b&gt;photo" in html


def test_a_single_level_has_no_stages(index_folder, tmp_path):
    index = indexer.open(index_folder)
    found: Explanation = explain(index, ByKey("pic-007"), "pic-012", Level.MID)
    save_heat(tmp_path / "why.html", index, found, ByKey("pic-007"), "pic-012")
    assert "by stage" not in (tmp_path / "why.html").read_text()
