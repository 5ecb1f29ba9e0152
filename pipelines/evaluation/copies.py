"""Instance retrieval: pictures as a re-publisher would change them, and how often a copy's code finds the original's.

Knows square pictures as the network sees them, and codes; not the network.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from encoder.bits import Codes
from encoder.evaluation.counts import Integers, count_codes
from encoder.evaluation.metrics import recall_at

Pictures: TypeAlias = npt.NDArray[np.uint8]
"""uint8[n, size, size, 3], RGB, as the network sees them."""

AREA = (0.75, 0.95)
"""Share of the area that a crop keeps."""
SIGMA = (0.01, 0.02)
"""Standard deviation of the blur, as a share of the side: 2.2 to 4.5 pixels of 224."""
QUALITY = (30, 70)
"""Of a JPEG, as Pillow counts it."""
STRENGTH = 0.3
"""Brightness, contrast and saturation are multiplied by 1 - STRENGTH to 1 + STRENGTH."""
HUE = 0.04
"""Largest turn of the hue either way, as a share of the circle: 14 degrees."""
DEGREES = 10.0
"""Largest rotation either way."""
RANKS = (1, 10)


class CopyKind(StrEnum):
    """What was done to a picture on its way."""

    CROP = "crop"
    """75 to 95 % of the area are left, brought back to size."""
    FLIP = "flip"
    """Left and right are exchanged."""
    BLUR = "blur"
    """A Gaussian with a standard deviation of 1 to 2 % of the side."""
    JPEG = "jpeg"
    """Compressed with quality 30 to 70."""
    COLOUR = "colour"
    """Brightness, contrast and saturation up to 30 % lower or higher, the hue up to 14 degrees off."""
    ROTATE = "rotate"
    """Turned by up to 10 degrees; the largest upright square without corners, brought back to size."""


@dataclass(frozen=True, slots=True)
class CopyRecall:
    """How often originals were found."""

    queries: int
    """Copies of each kind."""
    database: int
    by_kind: dict[CopyKind, dict[int, float]]
    """Share of the copies whose original is among the first k, by kind and k."""

    @property
    def mean(self) -> dict[int, float]:
        """Return the mean over the kinds, by k."""
        found = list(self.by_kind.values())
        return {k: sum(recall[k] for recall in found) / len(found) for k in found[0]}


def find_originals(copies: Codes, rows: Integers, database: Codes, ranks: Sequence[int] = RANKS) -> dict[int, float]:
    """Return recall@k of the originals by k: the mean of clip((k - b) / t, 0, 1).

    b codes of the database are nearer to the copy than the original's, and t are as near, itself among them; that is the
    chance that the original is in the top k when equals are in random order. It is recall@k with one relevant item.

    Args:
        copies: uint8[n, code_size].
        rows: int64[n], each original's row in the database.
        database: uint8[nb, code_size].
        ranks: the k of recall@k.
    """
    counts = count_codes(copies, database, rows[:, None], np.arange(len(database))[:, None])
    return {k: float(recall_at(counts, k).mean()) for k in ranks}


def copy_rng(kind: CopyKind, seed: int) -> np.random.Generator:
    """Return the generator of a kind's copies."""
    return np.random.default_rng([seed, *kind.encode()])


def make_copies(pictures: Pictures, kind: CopyKind, rng: np.random.Generator) -> Pictures:
    """Change each picture in one way, by an amount of its own.

    Pictures draw from the generator one after the other, so blocks of pictures and one generator give what all of them
    at once would.

    Args:
        pictures: uint8[n, size, size, 3].
        kind: what is done to them.
        rng: decides how much of it.

    Returns:
        uint8[n, size, size, 3].
    """
    copies = np.empty_like(pictures)
    for row, picture in enumerate(pictures):
        copies[row] = np.asarray(CHANGES[kind](Image.fromarray(picture), rng))
    return copies


def _crop(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    size = picture.width
    side = size * math.sqrt(rng.uniform(*AREA))
    left, top = rng.uniform(0, size - side, 2)
    return picture.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))


def _flip(picture: Image.Image, _: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(picture)


def _blur(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(picture.width * rng.uniform(*SIGMA)))


def _jpeg(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=int(rng.integers(*QUALITY, endpoint=True)))
    return Image.open(file)


def _colour(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for enhancer, factor in zip(enhancers, rng.uniform(1 - STRENGTH, 1 + STRENGTH, 3).tolist(), strict=True):
        picture = enhancer(picture).enhance(factor)
    turn = round(256 * rng.uniform(-HUE, HUE))
    hue, saturation, value = picture.convert("HSV").split()
    hue = hue.point([(angle + turn) % 256 for angle in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def _rotate(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Turn about the centre and enlarge, in one step: sampled twice, a picture would be blurred, too."""
    size, angle = picture.width, math.radians(rng.uniform(-DEGREES, DEGREES))
    inner = 1 / (math.cos(angle) + math.sin(abs(angle)))  # side of the largest upright square inside a turned one
    cos, sin, centre = inner * math.cos(angle), inner * math.sin(angle), size / 2
    back = (cos, sin, centre * (1 - cos - sin), -sin, cos, centre * (1 - cos + sin))
    return picture.transform((size, size), Image.Transform.AFFINE, back, Image.Resampling.BICUBIC)


CHANGES: Mapping[CopyKind, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    CopyKind.CROP: _crop,
    CopyKind.FLIP: _flip,
    CopyKind.BLUR: _blur,
    CopyKind.JPEG: _jpeg,
    CopyKind.COLOUR: _colour,
    CopyKind.ROTATE: _rotate,
}
