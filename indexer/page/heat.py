"""Why a hit is near its query, as one self-contained HTML page: both pictures under their heat maps."""

import base64
import io
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from encoder.levels import STAGE_LEVELS
from encoder.runtime.console import printable
from encoder.runtime.publish import write_bytes
from indexer.explain import Explanation, HeatMap
from indexer.index import Index
from indexer.page.page import query_name
from indexer.query import ByImage, ByKey

if TYPE_CHECKING:
    from PIL.Image import Image

    from encoder.images.inputs import ImageLike

SIDE: Final = 448
"""Side in pixels of the square that the network saw, on the page."""
WEAK, STRONG = (150, 20, 60), (255, 214, 64)
"""Colours of places that say little and of the one that says most."""


@dataclass(frozen=True, slots=True)
class _Half:
    """One of the two pictures."""

    role: str
    name: str
    picture: str
    """Data URI."""
    overlay: str
    """Data URI."""
    total: float
    half: float
    stages: list[tuple[str, float]]
    """Of the fused level: what each stage brings to the total."""


def combined(of: HeatMap, side: int) -> npt.NDArray[np.float32]:
    """Return float32[side, side], the grids of a heat map laid over each other; each keeps its sum, but for its border."""
    from PIL import Image

    total = np.zeros((side, side), np.float32)
    for grid in of.grids:
        wide = Image.fromarray(grid).resize((side, side), Image.Resampling.BILINEAR)
        total += np.asarray(wide) * (grid.size / side**2)
    return total


def area_of_half(heat: npt.NDArray[np.float32]) -> float:
    """Return the smallest share of the places that holds half of what speaks for the bits; 0 where nothing does."""
    positive = np.sort(np.maximum(heat, 0).ravel().astype(np.float64))[::-1]
    sums = positive.cumsum()
    return float(np.searchsorted(sums, sums[-1] / 2) + 1) / positive.size if sums[-1] > 0 else 0.0


def overlay(heat: npt.NDArray[np.float32]) -> "Image":
    """Return a picture to lay over another: what speaks for the bits, the more the brighter; nothing where nothing does."""
    from PIL import Image

    strength = np.maximum(heat, 0) / max(float(heat.max()), np.finfo(np.float32).tiny)
    weak, strong = np.array(WEAK, np.float32), np.array(STRONG, np.float32)
    colour = weak + strength[:, :, None] * (strong - weak)
    return Image.fromarray(np.dstack([colour, 200 * strength]).astype(np.uint8), "RGBA")


def save_heat(path: Path, index: Index, explanation: Explanation, query: ByImage | ByKey, key: str) -> None:
    """Write the page.

    Args:
        path: HTML file to write; it appears whole or not at all.
        index: where the pictures are.
        explanation: what `explain` said of the two.
        query: the query.
        key: of the hit.

    Raises:
        HashgrainError: `write-failed`, and what reading the pictures raises.
    """
    from jinja2 import Environment, StrictUndefined

    def shown(value: object) -> object:
        """Keep controls out of the page: keys may be a stranger's."""
        return printable(value.replace("\n", " ")) if isinstance(value, str) else value

    asked = index.image(index.find(query.key)) if isinstance(query, ByKey) else query.image
    halves = [
        _half("query", query_name(query), asked, index, explanation.query),
        _half("hit", key, index.image(index.find(key)), index, explanation.hit),
    ]
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=shown
    )
    template = environment.from_string((files("indexer.page") / "heat.html").read_text("utf-8"))
    html = template.render(explanation=explanation, halves=halves, side=SIDE)
    write_bytes(path, html.encode(errors="replace"))


def _half(role: str, name: str, image: "ImageLike", index: Index, of: HeatMap) -> _Half:
    from PIL import Image

    from encoder.images.inputs import cut_out

    heat = combined(of, SIDE)
    x, y, width, height = of.box
    picture = Image.fromarray(cut_out(image, SIDE, index.limits, (x, y, x + width, y + height)))
    stages = [(str(level), float(grid.sum())) for level, grid in zip(STAGE_LEVELS, of.grids, strict=False)]
    return _Half(
        role,
        name,
        _data_uri(picture, "JPEG", quality=88),
        _data_uri(overlay(heat), "PNG"),
        of.total,
        area_of_half(heat),
        stages if len(of.grids) > 1 else [],
    )


def _data_uri(picture: "Image", kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
