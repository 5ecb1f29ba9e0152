"""A small picture collection for the demo: kinds of things, classes inside them, several views of each thing.

Everything comes from the seed, so the same call draws the same bytes. Labels: `kind`, `class`, and
`instance`, the thing.
"""

import io
import json
import math
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from encoder.images.labels.values import Labels
from encoder.runtime.publish import publish
from pipelines.drawn.drawing import CANVAS, KINDS, draw_thing, hsv

SIZE = 128
"""Side of a picture in pixels."""
INSTANCES, VIEWS = 20, 6
KEPT_OUT = 0.4
"""Share of the things of each class of which no picture is trained on."""
PER_SHARD = 500


@dataclass(frozen=True, slots=True)
class Picture:
    """One view of one thing."""

    key: str
    labels: Labels
    instance: int
    """Of its class."""
    view: int
    image: Image.Image


def draw_collection(seed: int = 0, instances: int = INSTANCES, views: int = VIEWS) -> Iterator[Picture]:
    """Draw every view of every instance of every class, class by class."""
    number = thing = 0  # of the class, over all kinds, and of the thing, over all classes
    for kind, (name, classes) in enumerate(KINDS.items()):
        for draw_class in classes:
            for instance in range(instances):
                drawn = draw_thing(draw_class, np.random.default_rng([seed, number, instance]))
                labels: Labels = {
                    "class": number, "class_name": draw_class.__name__, "kind": kind, "kind_name": name, "instance": thing,
                }  # fmt: skip
                for view in range(views):
                    key = f"{name}/{draw_class.__name__}-{instance:02d}-{view}"
                    image = _view(drawn, np.random.default_rng([seed, number, instance, view + 1]))
                    yield Picture(key, labels, instance, view, image)
                thing += 1
            number += 1


def draw_shards(
    out: Path,
    seed: int = 0,
    instances: int = INSTANCES,
    views: int = VIEWS,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> None:
    """Draw the collection, and part it by things: some are trained on, of the others the first view asks for the rest.

    Writes into `out`, in an order that mixes the classes: `train/*.tar`, all views of the things that are trained on;
    `more/*.tar`, the other things without their first view; `queries/`, those first views as files. A picture is KEY.jpg
    with its labels beside it, KEY.json.

    Args:
        out: a folder.
        seed: of everything.
        instances: things of each class; of one, no picture is trained on.
        views: pictures of each thing, at least 2.
        progress: called with the pictures drawn so far, and how many there will be.
    """
    total = instances * views * sum(map(len, KINDS.values()))
    parts: dict[str, list[Picture]] = {"train": [], "more": [], "queries": []}
    trained = instances - max(1, round(KEPT_OUT * instances))
    for number, picture in enumerate(draw_collection(seed, instances, views), start=1):
        part = "train" if picture.instance < trained else "more" if picture.view else "queries"
        parts[part].append(picture)
        progress(number, total)
    for picture in parts.pop("queries"):
        path = out / "queries" / f"{picture.key}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_jpeg(picture.image))
        path.with_suffix(".json").write_text(json.dumps(picture.labels))
    for name, pictures in parts.items():
        order = np.random.default_rng(seed).permutation(len(pictures)).tolist()
        for number, start in enumerate(range(0, len(order), PER_SHARD)):
            (out / name).mkdir(parents=True, exist_ok=True)
            with publish(out / name / f"{name}-{number:04d}.tar") as partial:
                _write_tar(partial, [pictures[at] for at in order[start : start + PER_SHARD]])


def _write_tar(path: Path, pictures: Iterable[Picture]) -> None:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for picture in pictures:
            for suffix, data in ((".jpg", _jpeg(picture.image)), (".json", json.dumps(picture.labels).encode())):
                member = tarfile.TarInfo(picture.key + suffix)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _view(thing: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Show a thing at a size, place and angle, before a ground, in a light of this view's own."""
    scale, angle = rng.uniform(0.75, 1.1) * SIZE / CANVAS, rng.normal(0, 0.14)
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    flip = 1 if rng.random() < 0.7 else -1
    x, y = SIZE / 2 + rng.uniform(-10, 10), SIZE / 2 + rng.uniform(-8, 10)
    middle = CANVAS / 2
    matrix = (flip * cos, flip * sin, middle - flip * (cos * x + sin * y), -sin, cos, middle + sin * x - cos * y)
    shown = thing.reduce(2).transform(
        (SIZE, SIZE), Image.Transform.AFFINE, tuple(value / 2 for value in matrix), Image.Resampling.BILINEAR
    )
    ground = _ground(rng)
    shadow = shown.getchannel("A").filter(ImageFilter.BoxBlur(4)).point([round(value * 0.35) for value in range(256)])
    ground.paste((20, 20, 30), (5, 7), shadow)
    ground.paste(shown, (0, 0), shown)
    lit = ImageEnhance.Brightness(ground).enhance(rng.uniform(0.85, 1.12))
    lit = ImageEnhance.Color(lit).enhance(rng.uniform(0.75, 1.2))
    return lit.filter(ImageFilter.GaussianBlur(0.8)) if rng.random() < 0.2 else lit


def _ground(rng: np.random.Generator) -> Image.Image:
    """Return a background: sky over ground, a soft gradient, or a texture."""
    hue, light = rng.random(), rng.uniform(0.82, 0.97)
    top = np.array(hsv(hue, rng.uniform(0.02, 0.14), light), dtype=np.float32)
    bottom = np.array(hsv(hue + rng.uniform(-0.15, 0.15), rng.uniform(0.04, 0.16), light - 0.1), dtype=np.float32)
    down = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None, None]
    style = rng.integers(3)
    if style == 0:
        down = (down > rng.uniform(0.55, 0.75)).astype(np.float32)
    pixels = np.broadcast_to(top * (1 - down) + bottom * down, (SIZE, SIZE, 3))
    if style == 2:
        pixels = pixels + np.repeat(np.repeat(rng.normal(0, 5, (SIZE // 8, SIZE // 8, 1)), 8, 0), 8, 1)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
