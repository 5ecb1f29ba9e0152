"""What stages work on, made once and seeded: drawn photos of every kind, a model, codes, compiled kernels. Nothing is downloaded."""

import io
import itertools
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageFilter
from PIL.ExifTags import Base

from benchmarks.gpu_check.check import Check
from encoder.hashing.fit_model import FitSettings, fit
from encoder.hashing.names import HashKind
from encoder.images.expand import expand
from encoder.images.readers.formats import reader_for
from encoder.model.spec import BackboneSpec
from encoder.runtime.parallel import ordered_map

SIZE: Final = (500, 375)
"""Of most photos on the web that were made smaller; about 60 kB each."""
LARGE: Final = (4000, 3000)
PER_TAR: Final = 250
DRAWN: Final = 64
"""Pictures drawn per kind; each of their files gets a number in a comment, so that no two have the same bytes."""
COLOURED: Final = 0.3
"""How far colours are from grey: what is not grey loses where JPEG halves it, in photos little."""
SUBSAMPLINGS: Final = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}
"""Source: `subsampling` of Pillow's JPEG writer."""


class Kind(StrEnum):
    """What a tar holds."""

    EQUAL = "equal"
    VARIED = "varied"
    """As many sizes as files."""
    PROGRESSIVE = "progressive"
    """A quarter of them."""
    TURNED = "turned"
    """The eight orientations of EXIF in turn."""
    DAMAGED = "damaged"
    """One in ten, see `damaged`."""
    LARGE = "large"
    """12 megapixels."""


COUNTS: Final = {
    Kind.EQUAL: 2000,
    Kind.VARIED: 2000,
    Kind.PROGRESSIVE: 2000,
    Kind.TURNED: 2000,
    Kind.DAMAGED: 1000,
    Kind.LARGE: 200,
}


def prepare(check: Check) -> None:
    """Draw, fit and compile, side by side."""
    began = time.perf_counter()
    scan = subprocess.Popen([sys.executable, "-m", "indexer", "warm", "--bits", "64"])
    for kind, count in COUNTS.items():
        tars = _written(kind, _files(kind, check.count(count, 16), check.on_gpu), check.folder / "photos")
        size = sum(tar.stat().st_size for tar in tars) / check.count(count, 16)
        check.result(f"{kind} photos", size / 1e3, "kB each")
    spec = BackboneSpec("resnet50" if check.on_gpu else "threeblock")
    settings = FitSettings(spec, "none", HashKind.LSH, image_size=side_of(check), sample=check.count(64, 16))
    fit(expand([str(tars_of(check, Kind.VARIED)[0])]), settings, model_of(check), lambda *_: None)
    check.result("model", f"{spec.name}@{settings.image_size}, random weights")
    if scan.wait():
        raise SystemExit("indexer warm failed")
    check.result("ready after", time.perf_counter() - began, "s")


def side_of(check: Check) -> int:
    """Return the side of the network's square."""
    return 224 if check.on_gpu else 32


def model_of(check: Check) -> Path:
    """Return the model file."""
    return check.folder / "model.safetensors"


def tars_of(check: Check, kind: Kind) -> list[Path]:
    """Return the tars of a kind, drawn by `prepare`."""
    tars = sorted((check.folder / "photos" / kind).glob("*.tar"))
    if not tars:
        raise SystemExit(f"no {kind} photos are there; run the stage prepare first")
    return tars


def files_of(check: Check, kind: Kind, most: int) -> list[bytes]:
    """Return image files in memory, over and over where there are fewer."""
    files: list[bytes] = []
    for shard in expand([str(tar) for tar in tars_of(check, kind)]):
        files += [image.data for image in itertools.islice(reader_for(shard).images(), most - len(files))]
    return list(itertools.islice(itertools.cycle(files), most))


def repeated(check: Check, kind: Kind, images: int) -> list[Path]:
    """Return tars of at least so many images: links to those of a kind, each with a name of its own."""
    tars, folder = tars_of(check, kind), check.folder / "repeated" / kind
    folder.mkdir(parents=True, exist_ok=True)
    each = check.count(COUNTS[kind], 16) / len(tars)
    links = []
    for number, tar in zip(range(max(1, round(images / each))), itertools.cycle(tars), strict=False):
        links.append(folder / f"part-{number:05d}.tar")
        if not links[-1].exists():
            os.link(tar, links[-1])
    return links


def drawn(width: int, height: int, seed: int) -> Image.Image:
    """Return a picture with soft and hard edges and the noise of a sensor, which is what makes JPEGs large."""
    rng = np.random.default_rng([seed, width, height])
    cells = (height // 16 + 2, width // 16 + 2)
    colours = rng.integers(0, 256, (*cells, 1)) + COLOURED * rng.integers(-128, 128, (*cells, 3))
    coarse = Image.fromarray(colours.clip(0, 255).astype(np.uint8))
    picture = coarse.resize((width, height), Image.Resampling.BICUBIC).filter(ImageFilter.UnsharpMask(3))
    noise = np.asarray(Image.effect_noise((width, height), 8), dtype=np.int16) - 128
    return Image.fromarray((np.asarray(picture) + noise[:, :, None]).clip(0, 255).astype(np.uint8))


def jpeg(picture: Image.Image, number: int = 0, orientation: int = 1, **options: Any) -> bytes:
    """Return a JPEG file with its number in a comment."""
    if orientation != 1:
        exif = Image.Exif()
        exif[Base.Orientation] = orientation
        options["exif"] = exif
    stream = io.BytesIO()
    picture.save(stream, "JPEG", **{"quality": 90, "comment": f"{number:08d}".encode()} | options)
    return stream.getvalue()


def damaged(data: bytes, number: int) -> bytes:
    """Return a file cut, with zeros, with turned bytes or with a wrong height, by its number."""
    rng, middle, behind = np.random.default_rng(number), len(data) // 2, len(data) * 3 // 4
    match number % 5:
        case 0:
            return data[:middle]
        case 1:
            return data[:middle] + data[-2:]
        case 2:
            return data[:middle] + bytes(behind - middle) + data[behind:]
        case 3:
            changed = bytearray(data)
            for at in rng.integers(len(data) // 4, len(data) - 2, 20).tolist():
                changed[at] ^= 1 << int(rng.integers(8))
            return bytes(changed)
        case _:
            at = data.index(b"\xff\xc0") + 5  # height of the frame. Source: ITU-T T.81, B.2.2
            return data[:at] + (int.from_bytes(data[at : at + 2]) * 2).to_bytes(2) + data[at + 2 :]


def _files(kind: Kind, count: int, on_gpu: bool) -> Iterator[bytes]:
    """Yield the image files of a kind."""

    def pictures(distinct: int, size: Callable[[int], tuple[int, int]]) -> list[Image.Image]:
        return list(ordered_map(lambda at: drawn(*size(at), at), range(min(distinct, count)), alone=False))

    large = LARGE if on_gpu else (800, 600)
    match kind:
        case Kind.VARIED:
            rng = np.random.default_rng(0)
            sizes = rng.integers(200, 900, (count, 2)).tolist()
            yield from ordered_map(
                lambda at: jpeg(drawn(sizes[at][0], sizes[at][1], at), at), range(count), alone=False
            )
        case Kind.LARGE:
            some = [jpeg(each, quality=88) for each in pictures(6, lambda _: large)]
            yield from (_numbered(some[at % len(some)], at) for at in range(count))
        case Kind.PROGRESSIVE:
            some = _encoded(pictures(DRAWN, lambda _: SIZE), lambda at: {"progressive": at % 4 == 0})
            yield from (_numbered(some[at % len(some)], at) for at in range(count))
        case Kind.TURNED:
            some = _encoded(pictures(DRAWN, lambda _: SIZE), lambda at: {"orientation": at % 8 + 1})
            yield from (_numbered(some[at % len(some)], at) for at in range(count))
        case _:
            some = _encoded(pictures(DRAWN, lambda _: SIZE), lambda _: {})
            files = (_numbered(some[at % len(some)], at) for at in range(count))
            spoiled = kind is Kind.DAMAGED
            yield from (damaged(data, at // 10) if spoiled and at % 10 == 0 else data for at, data in enumerate(files))


def _encoded(pictures: Sequence[Image.Image], options: Callable[[int], dict[str, Any]]) -> list[bytes]:
    return list(ordered_map(lambda at: jpeg(pictures[at], **options(at)), range(len(pictures)), alone=False))


def _numbered(data: bytes, number: int) -> bytes:
    """Return a file of `jpeg` with another number."""
    at = data.index(b"\xff\xfe") + 4
    return data[:at] + f"{number:08d}".encode() + data[at + 8 :]


def _written(kind: Kind, files: Iterable[bytes], folder: Path) -> list[Path]:
    """Write tars of files with labels, or take those that are there."""
    final, partial = folder / kind, folder / f"{kind}.partial"
    if not final.exists():
        partial.mkdir(parents=True, exist_ok=True)
        remaining = enumerate(files)
        for part in itertools.count():
            if not (some := list(itertools.islice(remaining, PER_TAR))):
                break
            with tarfile.open(partial / f"part-{part:05d}.tar", "w") as tar:
                for number, data in some:
                    labels = json.dumps({"fine": number % 10, "coarse": number % 2}).encode()
                    for suffix, content in (("jpg", data), ("json", labels)):
                        info = tarfile.TarInfo(f"{number:06d}.{suffix}")
                        info.size = len(content)
                        tar.addfile(info, io.BytesIO(content))
        partial.rename(final)
    return sorted(final.glob("*.tar"))
