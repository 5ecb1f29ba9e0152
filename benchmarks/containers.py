"""Many small files of mixed formats, as a folder, a zip, a Parquet file and tars: images/s, and whether memory stays flat.

usage: python -m benchmarks.containers FOLDER [--images 100000] [--rounds 3] [--only folder,zip,tars]

FOLDER is filled with the forms of the same images (JPEG, PNG, WebP and GIF of 32 to 96 pixels, no two files the same, 256
per sub-folder, a sidecar for one in eight) and kept for the next time. Each measurement is one process that encodes one form with a
network of next to no work, so that reading and decoding are most of it, in turns. "tars" are shards of 10,000 images, as many as a
folder's parts have; "tar" is one file, which is ended and made durable once. The rate is that of images from shard to code file,
the start of the process not counted. Memory is resident memory; "slope" is the line through it after the first fifth of the images.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from encoder.hashing.fit_model import FitSettings, fit
from encoder.hashing.names import HashKind
from encoder.images.expand import expand
from encoder.levels import Level
from encoder.model.spec import BackboneSpec
from encoder.model.weights import NO_WEIGHTS

FORMATS = ("JPEG", "JPEG", "PNG", "WEBP", "GIF")
PICTURES = 1300
PER_FOLDER = 256
ROWS = 1000
PER_TAR = 10_000
"""Images of a shard, as many as `encode` makes a part of in a folder."""


def files(images: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and bytes of images and sidecars; each image has its number behind its end, so that no two are the same file."""
    rng = np.random.default_rng(0)
    blobs = []
    for number in range(PICTURES):
        size, kind = 32 + number % 65, FORMATS[number % len(FORMATS)]
        small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
        stream = io.BytesIO()
        small.resize((size, size), Image.Resampling.BICUBIC).save(stream, kind)
        blobs.append((kind, stream.getvalue()))
    for number in range(images):
        kind, blob = blobs[number % PICTURES]
        stem = f"{number // PER_FOLDER:05d}/{number:08d}"
        yield f"{stem}.{kind.lower()}", blob + number.to_bytes(8)
        if number % 8 == 0:
            yield f"{stem}.json", json.dumps({"number": number, "kind": kind}).encode()


def write_folder(path: Path, images: int) -> None:
    for name, data in files(images):
        file = path / name
        if not file.parent.exists():
            file.parent.mkdir(parents=True)
        file.write_bytes(data)


def write_zip(path: Path, images: int) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files(images):
            archive.writestr(name, data)


def write_tar(path: Path, images: int) -> None:
    _pack(path, files(images))


def write_tars(folder: Path, images: int) -> None:
    folder.mkdir(parents=True)
    entries, number = files(images), 0
    while part := list(islice(entries, PER_TAR * 9 // 8)):  # a sidecar for one in eight
        _pack(folder / f"{number:05d}.tar", part)
        number += 1


def _pack(path: Path, entries: Iterable[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in entries:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def write_parquet(path: Path, images: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", kind), ("number", pa.int64())])
    with pq.ParquetWriter(path, schema) as writer:
        rows: list[dict[str, object]] = []
        for name, data in files(images):
            if not name.endswith(".json"):
                rows.append({"image": {"bytes": data, "path": name}, "number": len(data)})
            if len(rows) == ROWS:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows = []
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema))


FORMS = {
    "folder": (write_folder, "folder"),
    "zip": (write_zip, "all.zip"),
    "parquet": (write_parquet, "all.parquet"),
    "tar": (write_tar, "all.tar"),
    "tars": (write_tars, "tars"),
}


def tiny_model(folder: Path) -> Path:
    """Fit a model of 4, 8 and 8 channels, which sees 16 x 16 pixels."""
    path = folder / "tiny.safetensors"
    if not path.exists():
        sample = folder / "sample"
        write_folder(sample, 64)
        spec = BackboneSpec("threeblock", widths=(4, 8, 8))
        settings = FitSettings(spec, NO_WEIGHTS, HashKind.LSH, dict.fromkeys(Level, 16), image_size=16, sample=64)
        fit(expand([str(sample)]), settings, path, lambda *_: None)
    return path


def measured(shard: Path, model: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "benchmarks.encode.child", "memory", "cpu", str(model), out, str(shard)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    line: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(FORMS))
    arguments = parser.parse_args()
    place = arguments.folder / str(arguments.images)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    model, shards = tiny_model(arguments.folder), {}
    for form in arguments.only.split(","):
        write, name = FORMS[form]
        shards[form] = place / name
        if not (place / f"{name}.whole").exists():
            place.mkdir(parents=True, exist_ok=True)
            write(shards[form], arguments.images)
            (place / f"{name}.whole").touch()
    results: dict[str, list[dict[str, float]]] = {form: [] for form in shards}
    for _ in range(arguments.rounds):
        for form, shard in shards.items():
            results[form].append(measured(shard, model))
    print(f"{arguments.images:,} images, {arguments.rounds} rounds in turns, medians\n")
    print("| form | images/s | of the tars' | resident, MB, at a fifth and at the end | slope, MB per 100,000 images |")
    print("|---|---|---|---|---|")
    rates = {
        form: statistics.median(each["images"] / each["seconds"] for each in runs) for form, runs in results.items()
    }
    for form, runs in results.items():
        first, last, slope = (statistics.median(each[name] for each in runs) for name in ("first", "last", "slope"))
        share = f"{rates[form] / rates['tars']:.2f}" if "tars" in rates else ""
        print(f"| {form} | {rates[form]:,.0f} | {share} | {first:,.0f}, {last:,.0f} | {slope:+.1f} |")
        if any(each["rejects"] or each["images"] != arguments.images for each in runs):
            raise SystemExit(f"{form}: not every image was coded")


if __name__ == "__main__":
    main()
