"""Is a region of a picture better looked for as a crop of its own, or by attention on the box of the whole picture?

usage: python -m benchmarks.regions FOLDER MODEL... [--photos 100] [--seed 0]

FOLDER holds train-*.tar and val-*.tar (KEY.jpg + KEY.json with integer labels "fine" and "coarse"); each MODEL was made from the train
photos. All photos are the database. Two kinds of query:

- composites: a val photo is pasted on a train photo of another super-class, its longer side 1/2, 1/3 or 1/4 of that photo's shorter
  one, at a place drawn from the seed; the region is where it was pasted. As it is ("small"), and on a background that was enlarged to
  a short side of 768 pixels first ("large"), so that the pasted photo keeps its pixels, as a thing on a camera's photo does.
- crops: a box of 30, 50 or 70 % of the sides of a val photo, at a place drawn from the seed.

Recall@1 and @10 at `fine`: is the val photo itself found? Precision@20 at `mid` and `fused`: the share of hits of its class, itself
left out. Ties are counted by expectation. "whole" is the query without a region: what somebody gets who cannot draw a box.
"""

import argparse
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.encode.photos import photos_of
from encoder.bits import Codes
from encoder.evaluation.counts import count_codes
from encoder.evaluation.metrics import precision_at, recall_at
from encoder.images.decoding.decode import decode
from encoder.images.region import Region, RegionMode
from encoder.images.samples import Sample
from encoder.levels import Level
from encoder.model.image_encoder import ImageEncoder
from encoder.model.model_file import load_model

SCALES = (1 / 2, 1 / 3, 1 / 4)
SHARES = (0.3, 0.5, 0.7)
LARGE = 768
LEVELS = (Level.FINE, Level.MID, Level.FUSED)


@dataclass(frozen=True, slots=True)
class Pasted:
    """A photo on another one."""

    picture: Image.Image
    region: Region
    """Where it was pasted."""
    source: int
    """Which val photo it is."""


def pasted(
    photo: Image.Image, background: Image.Image, scale: float, rng: np.random.Generator
) -> tuple[Image.Image, Region]:
    """Return a photo on another one, its longer side `scale` of the other's shorter one, and where it is."""
    factor = scale * min(background.size) / max(photo.size)
    width, height = (max(1, round(side * factor)) for side in photo.size)
    left, top = (
        int(rng.integers(0, side - own + 1)) for side, own in zip(background.size, (width, height), strict=True)
    )
    picture = background.copy()
    picture.paste(photo.resize((width, height), Image.Resampling.LANCZOS), (left, top))
    across, down = background.size
    return picture, Region(left / across, top / down, width / across, height / down)


def composites(
    sources: Sequence[Sample], backgrounds: Sequence[Sample], scale: float, short: int | None, seed: int
) -> Iterable[Pasted]:
    """Yield each source on a background of another super-class, its short side brought to `short` pixels first."""
    rng = np.random.default_rng(seed)
    for at, source in enumerate(sources):
        others = [each for each in backgrounds if each.labels["coarse"] != source.labels["coarse"]]
        background = decode(others[int(rng.integers(len(others)))].data)
        if short is not None:
            across, down = (round(side * short / min(background.size)) for side in background.size)
            background = background.resize((across, down), Image.Resampling.BICUBIC)
        yield Pasted(*pasted(decode(source.data), background, scale, rng), at)


def crops(sources: Sequence[Sample], share: float, seed: int) -> Iterable[Pasted]:
    """Yield a box of each source."""
    rng = np.random.default_rng(seed)
    for at, source in enumerate(sources):
        x, y = rng.uniform(0, 1 - share, 2)
        yield Pasted(decode(source.data), Region(float(x), float(y), share, share), at)


def labels_of(samples: Sequence[Sample]) -> npt.NDArray[np.int64]:
    return np.array([[sample.labels["fine"]] for sample in samples], np.int64)


def scores(
    codes: dict[str, Codes], rows: npt.NDArray[np.int64], database: dict[str, Codes], labels: npt.NDArray[np.int64]
) -> list[float]:
    """Return recall@1 and @10 at fine, and precision@20 at mid and fused."""
    own = count_codes(codes[Level.FINE], database[Level.FINE], rows[:, None], np.arange(len(labels))[:, None])
    found = [float(recall_at(own, k).mean()) for k in (1, 10)]
    for level in (Level.MID, Level.FUSED):
        counts = count_codes(codes[level], database[level], labels[rows], labels, own_rows=rows)
        found.append(float(precision_at(counts, 20).mean()))
    return found


def table(
    encoder: ImageEncoder, sources: Sequence[Sample], backgrounds: Sequence[Sample], photos: int, seed: int
) -> None:
    """Print the scores of every kind of query, and which mode has the better mean."""
    everything = [*sources, *backgrounds]
    database = dict(encoder.encode([sample.data for sample in everything], LEVELS).codes)
    labels = labels_of(everything)
    chosen = np.random.default_rng(seed).permutation(len(sources))[:photos]
    taken = [sources[at] for at in chosen]
    kinds = {
        f"pasted, {name}, 1/{round(1 / scale)}": composites(taken, backgrounds, scale, short, seed)
        for name, short in (("small", None), ("large", LARGE))
        for scale in SCALES
    } | {f"crop, {share:.0%}": crops(taken, share, seed) for share in SHARES}
    fused: dict[str, list[float]] = {}
    print("| query | by | fine, recall@1 | recall@10 | mid, precision@20 | fused, precision@20 | ms |")
    print("|---|---|---|---|---|---|---|")
    for kind, drawn in kinds.items():
        queries = list(drawn)
        rows = chosen[[query.source for query in queries]]
        for mode in (None, *RegionMode):
            regions = None if mode is None else [query.region for query in queries]
            start = time.perf_counter()
            found = encoder.encode([query.picture for query in queries], LEVELS, regions=regions, mode=mode)
            took = (time.perf_counter() - start) / len(queries)
            values = scores(dict(found.codes), rows, database, labels)
            fused.setdefault(mode or "whole", []).append(values[-1])
            print(
                f"| {kind} | {mode or 'whole'} | {' | '.join(f'{value:.3f}' for value in values)} | {1e3 * took:.0f} |",
                flush=True,
            )
    means = ", ".join(f"{mode} {np.mean(values):.3f}" for mode, values in fused.items())
    print(f"\nmean of precision@20 at fused: {means}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sources = list(photos_of(sorted(arguments.folder.glob("val-*.tar"))))
    backgrounds = list(photos_of(sorted(arguments.folder.glob("train-*.tar"))))
    for path in arguments.models:
        print(f"{path.name}: {min(arguments.photos, len(sources))} photos among {len(sources) + len(backgrounds)}\n")
        table(ImageEncoder(load_model(path), "cpu"), sources, backgrounds, arguments.photos, arguments.seed)


if __name__ == "__main__":
    main()
