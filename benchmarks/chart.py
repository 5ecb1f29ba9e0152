"""Draw docs/speed.svg from the table of exact searches in docs/BENCHMARKS.md: `python benchmarks/chart.py`."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from encoder.evaluation.plots import COLOURS, GREY, STYLE, UNDATED
from encoder.runtime.publish import write_bytes

DOCS = Path(__file__).parents[1] / "docs"
TABLE = "### Exact, every code looked at"
"""The first of this name in BENCHMARKS.md: of the code as it is."""
CODES, K = "10 M clustered", "10"
PANELS = {"1": "One query at a time", "64": "Batches of 64"}
SYSTEMS = {"hashgrain": COLOURS[0], "FAISS": GREY}
NEUTRAL = "#7d7d7d"
"""Of all words, which has to be read on white and on black: 4.1 to 1 and 5.1 to 1."""
HEIGHT = 0.38
"""Of a bar, where the bars of one code length are 1 apart."""


def times() -> dict[str, dict[str, dict[str, float]]]:
    """Return ms per query by batch, bits and system; of FAISS its quicker mode."""
    lines = (DOCS / "BENCHMARKS.md").read_text().partition(TABLE)[2].splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    names, found = table[0], dict[str, dict[str, dict[str, float]]]()
    for cells in table[1:]:
        if len(cells) != len(names) or cells[0] == "codes":
            break
        row = dict(zip(names, cells, strict=True))
        if (row["codes"], row["k"]) == (CODES, K) and row["batch"] in PANELS:
            faiss = min(float(row["FAISS heap"]), float(row["FAISS counting"]))
            found.setdefault(row["batch"], {})[row["bits"]] = {"hashgrain": float(row["hashgrain"]), "FAISS": faiss}
    return found


def main() -> None:
    style: Mapping[Any, Any] = {
        **STYLE,
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), NEUTRAL),
        "axes.grid": False,
        "savefig.transparent": True,
    }
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(style)
        figure = Figure((7.6, 2.1))
        figure.subplots_adjust(left=0, right=1, bottom=0, top=0.78, wspace=0.32)
        for axes, (batch, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
            _draw(axes, title, times()[batch])
        figure.text(0, 1, "Exact search over 10 million codes: ms per query, less is better", size=11, weight="bold")
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2, handlelength=1)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="svg", metadata=UNDATED[".svg"])
    write_bytes(DOCS / "speed.svg", drawn.getvalue())


def _draw(axes: Axes, title: str, by_bits: Mapping[str, Mapping[str, float]]) -> None:
    for place, (system, colour) in enumerate(SYSTEMS.items()):
        heights = [number + (place - 0.5) * HEIGHT for number in range(len(by_bits))]
        bars = axes.barh(heights, [of[system] for of in by_bits.values()], HEIGHT, color=colour, label=system)
        weight = "bold" if system == "hashgrain" else "normal"
        axes.bar_label(bars, fmt="{:.1f}", padding=3, color=NEUTRAL, weight=weight)
    axes.set_title(title, size=9, weight="normal")
    axes.set_yticks(range(len(by_bits)), [f"{bits} bits" for bits in by_bits])
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)


if __name__ == "__main__":
    main()
