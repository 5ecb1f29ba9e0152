import subprocess
import sys
import xml.etree.ElementTree as ET
from functools import partial

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from encoder.errors import HashgrainError, Reason
from encoder.evaluation.plots import (
    COLOURS,
    Curve,
    save_distances,
    save_map_by_bits,
    save_precision_at,
    save_precision_recall,
    save_recall_by_time,
    save_time_by_rows,
    spread,
)

RECALL = np.linspace(0, 1, 65)
CURVES = {
    save_precision_recall: [Curve("model", RECALL, 1 - 0.9 * RECALL**2), Curve("random", RECALL, np.full(65, 0.1))],
    save_precision_at: [Curve("model", [1, 10, 100], [0.9, 0.8, 0.5]), Curve("itq", [1, 10, 100], [0.6, 0.3, 0.2])],
    save_map_by_bits: [
        Curve("itq", [16, 32, 64], [0.2, 0.3, 0.4]),
        Curve("model", [64], [0.7]),
        Curve("features", [], [0.5]),
    ],
}
LEVELS = {
    level: {"same class": np.arange(nbits + 1)[::-1], "other": np.arange(nbits + 1)}
    for level, nbits in {"fine": 16, "mid": 16, "fused": 32}.items()
}
TIMES = {
    save_recall_by_time: [Curve("lists", [0.1, 1, 10], [0.5, 0.9, 1.0]), Curve("flat", [20], [1.0])],
    save_time_by_rows: [Curve("flat", [1e5, 1e7], [0.01, 1.0]), Curve("lists", [1e5, 1e7], [0.01, 0.1])],
}
FIGURES = [
    *(partial(save, curves=curves) for save, curves in CURVES.items()),
    *(partial(save, curves=curves, title="times") for save, curves in TIMES.items()),
    partial(save_distances, levels=LEVELS),
]
every_figure = pytest.mark.parametrize("save", FIGURES, ids=lambda save: save.func.__name__)


def twice(save, folder, suffix):
    """The bytes of a figure, drawn by a user without a matplotlibrc and by one with strong opinions."""
    paths = [folder / f"{name}{suffix}" for name in "ab"]
    save(paths[0])
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "black", "savefig.dpi": 10}):
        save(paths[1])
    return [path.read_bytes() for path in paths]


@every_figure
def test_numbers_are_written_as_numbers(save, tmp_path):
    save(tmp_path / "figure.svg")
    assert "mathdefault" not in (tmp_path / "figure.svg").read_text()


@every_figure
def test_equal_numbers_make_equal_undated_svg_whatever_a_matplotlibrc_says(save, tmp_path):
    one, other = twice(save, tmp_path, ".svg")
    assert one == other
    assert ET.fromstring(one).tag.endswith("svg")
    assert b"dc:date" not in one
    assert mpl.__version__.encode() not in one


def test_equal_numbers_make_equal_png_that_names_no_version(tmp_path):
    one, other = twice(FIGURES[-1], tmp_path, ".png")
    assert one == other
    assert b"tEXt" not in one


@pytest.mark.parametrize("save", FIGURES[-2:], ids=lambda save: save.func.__name__)
def test_a_title_shows(save, tmp_path):
    save(tmp_path / "one.svg", title="label `fine` costs $5")
    save(tmp_path / "other.svg", title="label `coarse`")
    assert (tmp_path / "one.svg").read_bytes() != (tmp_path / "other.svg").read_bytes()


def columns_with(path, colour, tolerance=12):
    """The columns of a PNG that hold a colour."""
    wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return np.flatnonzero((np.abs(pixels - wanted) <= tolerance).all(axis=2).any(axis=0))


@pytest.mark.parametrize("save", CURVES, ids=lambda save: save.__name__)
def test_each_line_and_its_name_have_a_colour_of_their_own(save, tmp_path):
    save(tmp_path / "figure.png", CURVES[save])
    for number, curve in enumerate(CURVES[save]):
        columns = columns_with(tmp_path / "figure.png", COLOURS[number])
        gaps = np.diff(columns) > 15
        assert gaps.sum() == 1, f"{curve.name}: the line, then a gap, then its key"
    assert not len(columns_with(tmp_path / "figure.png", COLOURS[len(CURVES[save])]))


def test_names_stand_right_of_the_lines(tmp_path):
    """A long name makes the figure wider and moves nothing else."""
    short, long = tmp_path / "short.png", tmp_path / "long.png"
    save_precision_at(short, [Curve("a", [1, 10], [0.5, 0.4])])
    save_precision_at(long, [Curve("a" * 40, [1, 10], [0.5, 0.4])])
    one, other = (np.asarray(Image.open(path).convert("RGB")) for path in (short, long))
    width = columns_with(short, COLOURS[0]).max() + 1
    assert other.shape[1] > one.shape[1] + 100
    assert (one[:, :width] == other[:, :width]).all()


def test_more_lines_than_colours_can_be_drawn(tmp_path):
    curves = [Curve(f"method {number}", [1, 10], [0.5, 0.01 * number]) for number in range(3 * len(COLOURS) + 1)]
    save_precision_at(tmp_path / "many.svg", curves)
    assert (tmp_path / "many.svg").stat().st_size > 0


def test_scores_of_nothing_but_zeros_and_levels_without_pairs_can_be_drawn(tmp_path):
    save_precision_recall(tmp_path / "zeros.svg", [Curve("model", [0, 1], [0, 0])])
    save_map_by_bits(tmp_path / "level.svg", [Curve("features", [], [0.0])])
    save_distances(tmp_path / "empty.svg", {"fused": {"same class": [0] * 9, "other": [5] * 9}})


def test_other_suffixes_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(HashgrainError, match="svg or .png") as caught:
        save_precision_at(tmp_path / "figure.pdf", CURVES[save_precision_at])
    assert caught.value.reason is Reason.BAD_VALUE
    assert not list(tmp_path.iterdir())


def test_drawing_leaves_the_settings_of_matplotlib_as_they_were(tmp_path):
    with mpl.rc_context({"font.size": 20, "axes.grid": False}):
        before = dict(mpl.rcParams)
        save_precision_at(tmp_path / "figure.svg", CURVES[save_precision_at])
        assert dict(mpl.rcParams) == before


def test_matplotlib_is_loaded_to_draw_and_pyplot_never(tmp_path):
    program = f"""
import sys
from pathlib import Path
import encoder.evaluation.plots as plots
assert "matplotlib" not in sys.modules
plots.save_precision_at(Path({str(tmp_path / "figure.png")!r}), [plots.Curve("a", [1, 2], [0.5, 0.4])])
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


heights = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@given(heights, st.floats(0.001, 0.2))
def test_spread_names_do_not_overlap_and_keep_their_order(wanted, gap):
    places = spread(wanted, gap)
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(places[order]) >= gap - 1e-9).all()
    assert places.min() >= 0


@given(heights, st.floats(0.001, 0.2), st.integers(0, 2**32 - 1))
def test_no_other_places_are_nearer_to_the_wanted_ones(wanted, gap, seed):
    wanted = np.array(wanted)
    order = np.argsort(wanted, kind="stable")
    rng = np.random.default_rng(seed)
    steps = gap + rng.exponential(rng.choice([1e-3, 0.1]), len(wanted))
    other = np.empty(len(wanted))
    other[order] = rng.uniform(0, 1) + np.cumsum(steps) - steps[0]
    places = spread(wanted, gap)
    mixed = places + 0.1 * (
        other - places
    )  # feasible, as both are; a convex cost would fall on the way to a better one
    for candidate in (other, mixed):
        assert ((places - wanted) ** 2).sum() <= ((candidate - wanted) ** 2).sum() + 1e-9


def test_names_that_have_room_stay_where_they_are():
    assert spread([0.9, 0.1, 0.5], 0.2) == pytest.approx([0.9, 0.1, 0.5])
    assert spread([0.5, 0.5], 0.2) == pytest.approx([0.4, 0.6])
    assert spread([0.0, 0.0], 0.2) == pytest.approx([0.0, 0.2])
