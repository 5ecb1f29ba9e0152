"""Figures of evaluations and measurements: plain numbers in, an SVG or PNG file out, the same bytes for the same numbers.

Names stand beside the lines they name, outside the axes. Colours are those of Okabe and Ito, told apart with any colour
vision; a line's marker and dashes say the same again.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from encoder.errors import HashgrainError, Reason
from encoder.runtime.publish import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers: TypeAlias = Sequence[float] | npt.NDArray[Any]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Source: Okabe and Ito, Color universal design, 2008; without its yellow, which is too faint on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)))
"""The first seven lines are solid, the next seven dashed, the next dotted."""
INK, GREY, FAINT = "#333333", "#999999", "#E4E4E4"
STYLE: Mapping[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "font.size": 9,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "lines.markersize": 6,
    "lines.markeredgecolor": "white",
    "lines.markeredgewidth": 0.6,
    "legend.borderaxespad": 0,
    "legend.borderpad": 0,
    "legend.frameon": False,
    "savefig.bbox": "tight",
    "savefig.dpi": 160,
    "savefig.pad_inches": 0.15,
    "svg.hashsalt": "hashgrain",
    "text.parse_math": False,
}
"""What differs from matplotlib's own defaults; a person's matplotlibrc changes nothing."""
UNDATED: Mapping[str, Mapping[str, None]] = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}
"""By suffix: what matplotlib would add that is not in the numbers."""
SIZE = (5.2, 3.6)
"""Width and height of the axes in inches; names and titles come on top."""
PANEL = (3.1, 1.8)
"""The same for each of several."""
KEY = (1.04, 1.065, 1.09)
"""Begin, marker and end of the piece of line before a name, in widths of the axes."""
LEADER = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0}
"""From a name to the end of its line."""
MARKED = 12
"""Points of a line with a marker, at most."""
LINE = 1.35 * 9 / 72
"""Height of a name, in inches."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a figure."""

    name: str
    x: Numbers
    """Rising; none at all for a level line: what has no x, as real-valued features have no code length."""
    y: Numbers
    """As many as x, or the height of the level line."""


def save_precision_recall(path: Path, curves: Sequence[Curve], title: str = "Precision and recall") -> None:
    """Draw one line per method through its points, one point per Hamming radius.

    Args:
        path: `.svg` or `.png`.
        curves: recall as x and precision as y, 0..1 each.
        title: what stands above.

    Raises:
        HashgrainError: `bad-value` for another suffix, `write-failed`.
    """
    with _figure(path) as figure:
        axes = _axes(figure, title, "Recall (share of the relevant images)", "Precision (share of the images found)")
        axes.set_xlim(0, 1)
        _draw(axes, curves, ends=False)  # at recall 1 every line has the precision of the whole database


def save_precision_at(path: Path, curves: Sequence[Curve], title: str = "Precision at k") -> None:
    """Draw precision by the number of images looked at.

    Args:
        path: `.svg` or `.png`.
        curves: a dozen k from 1 as x and precision@k as y, 0..1.
        title: what stands above.

    Raises:
        HashgrainError: `bad-value` for another suffix, `write-failed`.
    """
    with _figure(path) as figure:
        axes = _axes(figure, title, "k (first images, logarithmic)", "Precision (share of the first k images)")
        _set_rungs(axes, curves)
        _draw(axes, curves)


def save_map_by_bits(path: Path, curves: Sequence[Curve], title: str = "mAP by code length") -> None:
    """Draw mean average precision by code length, each doubling one step.

    Args:
        path: `.svg` or `.png`.
        curves: bits as x and mAP as y, 0..1; no x for real-valued features.
        title: what stands above.

    Raises:
        HashgrainError: `bad-value` for another suffix, `write-failed`.
    """
    with _figure(path) as figure:
        axes = _axes(figure, title, "Code length (bits, logarithmic)", "Mean average precision (0 to 1)")
        _set_rungs(axes, curves)
        _draw(axes, curves)


def save_recall_by_time(path: Path, curves: Sequence[Curve], title: str) -> None:
    """Draw what share of the nearest is found by the time that takes.

    Args:
        path: `.svg` or `.png`.
        curves: milliseconds per query as x and recall as y, 0..1; one point for a search that knows no other.
        title: what stands above.

    Raises:
        HashgrainError: `bad-value` for another suffix, `write-failed`.
    """
    with _figure(path) as figure:
        axes = _axes(figure, title, "Time per query (ms, logarithmic)", "Recall (share of the nearest found)")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        _draw(axes, curves)


def save_time_by_rows(path: Path, curves: Sequence[Curve], title: str) -> None:
    """Draw how the time of a query grows with what is searched, both logarithmic.

    Args:
        path: `.svg` or `.png`.
        curves: codes as x and milliseconds per query as y, both above 0.
        title: what stands above.

    Raises:
        HashgrainError: `bad-value` for another suffix, `write-failed`.
    """
    with _figure(path) as figure:
        axes = _axes(figure, title, "Codes (logarithmic)", "Time per query (ms, logarithmic)")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter("{x:g}")
        _draw(axes, curves)


def save_distances(
    path: Path, levels: Mapping[str, Mapping[str, Numbers]], title: str = "Distances of pairs (dotted: mean)"
) -> None:
    """Draw how far apart the codes of pairs are: one panel per level, in it a hill with its mean per group of pairs.

    Args:
        path: `.svg` or `.png`.
        levels: by level and group (`same class`, `other`; seven at most, alike at all levels): pairs at distance 0..nbits.
        title: what stands above.

    Raises:
        HashgrainError: `bad-value` for another suffix, `write-failed`.
    """
    ncolumns = min(2, len(levels))
    nrows = -(-len(levels) // ncolumns)
    with _figure(path) as figure:
        figure.set_size_inches(PANEL[0] * ncolumns, PANEL[1] * nrows)
        figure.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=0.1, hspace=0.6)
        grid = figure.subplots(nrows, ncolumns, squeeze=False, sharey=True)
        for axes, (level, groups) in zip(grid.flat, levels.items(), strict=False):
            _draw_hills(axes, level, groups)
        for axes in list(grid.flat)[len(levels) :]:
            axes.set_axis_off()
        for axes in grid[:, 0]:
            axes.set_ylabel("Share of pairs (%)")
        inch = 1 / figure.get_figheight()
        figure.text(0, 1 + 0.65 * inch, title, weight="bold", size="large")
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="lower left", bbox_to_anchor=(0, 1 + 0.33 * inch), ncols=len(COLOURS))


def spread(numbers: Numbers, gap: float, lowest: float = 0.0) -> npt.NDArray[np.float64]:
    """Move numbers as little as can be (least squares): in their order, `gap` apart or more, none below `lowest`.

    Source: with k gaps taken from the k-th it is isotonic regression, solved by pooling adjacent violators.
    """
    order = np.argsort(numbers, kind="stable")
    pools: list[list[float]] = []
    for k, index in enumerate(order):
        pools.append([numbers[index] - k * gap])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            violators = pools.pop()
            pools[-1] += violators
    levels = np.repeat([np.mean(pool) for pool in pools], [len(pool) for pool in pools])
    places = np.empty(len(order))
    places[order] = np.maximum(levels, lowest) + gap * np.arange(len(order))
    return places


@contextmanager
def _figure(path: Path) -> Iterator["Figure"]:
    """Yield an empty figure in our style, and write it."""
    if path.suffix not in UNDATED:
        raise HashgrainError(Reason.BAD_VALUE, f"{path} cannot be drawn; give a name that ends in .svg or .png")
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        figure = Figure(SIZE)
        yield figure
        drawn = io.BytesIO()
        figure.savefig(drawn, format=path.suffix[1:], metadata=UNDATED[path.suffix])
    write_bytes(path, drawn.getvalue())


def _axes(figure: "Figure", title: str, x: str, y: str) -> "Axes":
    return figure.add_axes((0, 0, 1, 1), title=title, xlabel=x, ylabel=y, xmargin=0.03)


def _set_rungs(axes: "Axes", curves: Sequence[Curve]) -> None:
    """Make x logarithmic, with a tick wherever a line has a point."""
    axes.set_xscale("log")
    axes.set_xticks(sorted({x for curve in curves for x in curve.x}))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.minorticks_off()


def _draw(axes: "Axes", curves: Sequence[Curve], *, ends: bool = True) -> None:
    """Draw lines and name them on the right: where they end, or else in the order of their mean heights."""
    if axes.get_yscale() == "linear":  # shares of 1
        highest = max(max(curve.y) for curve in curves)
        axes.set_ylim(0, np.clip(np.ceil(highest * 10.2) / 10, 0.1, 1.0))  # room above, in whole tenths
    for number, curve in enumerate(curves):
        if len(curve.x):
            every = 1 if len(curve.x) <= MARKED else 1 / MARKED  # a fraction is a way along the line, as it is seen
            axes.plot(curve.x, curve.y, markevery=every, clip_on=False, **_look(number))
        else:
            axes.axhline(curve.y[0], **_look(number) | {"marker": ""})
    scaled = axes.yaxis.get_transform().transform
    bottom, top = scaled(np.array(axes.get_ylim()))
    named = np.array([curve.y[-1] if ends else float(np.mean(curve.y)) for curve in curves])
    heights = (scaled(named) - bottom) / (top - bottom)
    for number, (curve, height) in enumerate(zip(curves, spread(heights, LINE / SIZE[1]), strict=True)):
        handle = _look(number) | {"markevery": [1] if len(curve.x) else [], "transform": axes.transAxes}
        axes.plot(KEY, [height] * 3, clip_on=False, **handle)
        axes.text(KEY[2] + 0.015, height, curve.name, transform=axes.transAxes, verticalalignment="center_baseline")
        if ends and len(curve.x):
            end, start = (curve.x[-1], curve.y[-1]), (KEY[0], height)
            axes.annotate("", end, start, textcoords="axes fraction", arrowprops=LEADER, zorder=1)


def _look(number: int) -> dict[str, Any]:
    cycle, kind = divmod(number, len(COLOURS))
    return {"color": COLOURS[kind], "marker": MARKERS[kind], "linestyle": DASHES[min(cycle, len(DASHES) - 1)]}


def _draw_hills(axes: "Axes", level: str, groups: Mapping[str, Numbers]) -> None:
    """Draw the distances of each group of pairs, each a whole of its own, and mark their means."""
    nbits = len(next(iter(groups.values()))) - 1
    edges = np.arange(nbits + 2) - 0.5
    for (name, pairs), colour in zip(groups.items(), COLOURS, strict=False):
        share = 100 * np.asarray(pairs) / max(1, np.sum(pairs))
        axes.stairs(share, edges, fill=True, facecolor=(colour, 0.3), edgecolor=colour, linewidth=1, label=name)
        if share.any():
            mean = np.average(np.arange(nbits + 1), weights=share)
            axes.axvline(mean, color=colour, linestyle=DASHES[2], linewidth=1)
    axes.set_title(f"{level}, {nbits} bits", size="medium")
    axes.set(xlabel="Hamming distance (bits)", xlim=(-0.5, nbits + 0.5), xticks=np.linspace(0, nbits, 5))
