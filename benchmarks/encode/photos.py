"""Shards to encode, made of real ones: repeated, of 12 megapixels, with bad images among them."""

import io
import itertools
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from encoder.images.decoding.decode import decode
from encoder.images.expand import expand
from encoder.images.readers.formats import reader_for
from encoder.images.samples import Sample
from encoder.runtime.cores import worker_count
from encoder.runtime.parallel import ordered_map

PER_TAR = 100
LARGE = (4000, 3000)
BAD_EVERY = 100


def photos_of(tars: Iterable[Path]) -> Iterator[Sample]:
    """Yield the images of tars."""
    for shard in expand([str(tar) for tar in tars]):
        yield from (image for image in reader_for(shard).images() if image.reject is None)


def repeated(tars: Sequence[Path], folder: Path, images: int, *, exactly: bool = False) -> list[Path]:
    """Return tars with at least so many images in a folder, the given ones over and over, or one of exactly so many."""
    if exactly:
        return _written(itertools.islice(((s.key, s.data) for s in photos_of(tars)), images), folder, images)
    counts = {tar: sum(1 for _ in photos_of([tar])) for tar in tars}
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Path] = []
    for number, tar in enumerate(itertools.cycle(tars)):
        if images <= 0:
            return found
        path = folder / f"part-{number:05d}.tar"
        if not path.exists():
            os.link(tar, path) if tar.stat().st_dev == folder.stat().st_dev else path.write_bytes(tar.read_bytes())
        found.append(path)
        images -= counts[tar]
    raise AssertionError  # cycle does not end


def large_photos(tars: Sequence[Path], folder: Path, images: int) -> list[Path]:
    """Return tars of JPEGs of 12 megapixels, as a camera makes them."""

    def enlarge(sample: Sample) -> tuple[str, bytes]:
        stream = io.BytesIO()
        picture = decode(sample.data).resize(LARGE, Image.Resampling.BICUBIC)
        picture.save(stream, "JPEG", quality=90)
        return sample.key, stream.getvalue()

    samples = itertools.islice(itertools.chain.from_iterable(photos_of(tars) for _ in itertools.count()), images)
    numbered = (
        (f"{at:06d}-{Path(key).name}", data)
        for at, (key, data) in enumerate(ordered_map(enlarge, samples, worker_count(), alone=False))
    )
    return _written(numbered, folder, PER_TAR)


def some_bad(tars: Sequence[Path], folder: Path) -> list[Path]:
    """Return the tars with every hundredth image cut, damaged, empty or no image."""

    def spoil(at: int, data: bytes) -> bytes:
        if at % BAD_EVERY:
            return data
        return (data[: len(data) // 2], data[:40] + bytes(len(data) - 40), b"", b"no picture")[at // BAD_EVERY % 4]

    members = ((sample.key, spoil(at, sample.data)) for at, sample in enumerate(photos_of(tars)))
    return _written(members, folder, 1_000)


def _written(members: Iterable[tuple[str, bytes]], folder: Path, per_tar: int) -> list[Path]:
    """Write tars, or take those that are there."""
    if folder.exists():
        return sorted(folder.glob("*.tar"))
    partial = folder.with_suffix(".partial")
    partial.mkdir(parents=True, exist_ok=True)
    remaining = iter(members)
    for number in itertools.count():
        if not (part := list(itertools.islice(remaining, per_tar))):
            break
        with tarfile.open(partial / f"part-{number:05d}.tar", "w") as tar:
            for key, data in part:
                info = tarfile.TarInfo(f"{key}.jpg")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    partial.rename(folder)
    return sorted(folder.glob("*.tar"))
