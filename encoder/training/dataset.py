"""The training images: decoded once, kept as pixels in an unnamed file that the page cache holds, with their labels."""

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from encoder.errors import HashgrainError, Reason
from encoder.images.decoding.decode import decode_readable
from encoder.images.labels.values import Labels, LabelValue
from encoder.images.readers.formats import reader_for
from encoder.images.samples import Sample, batches
from encoder.images.shards import Shard
from encoder.levels import Level
from encoder.runtime.parallel import ordered_map
from encoder.runtime.publish import write_failed

BATCH = 64

Pictures = npt.NDArray[np.uint8]
"""uint8[n, side, side, 3]."""
Indices = npt.NDArray[np.int64]


@dataclass(slots=True)
class TrainingImages:
    """Pictures and labels, row by row."""

    pictures: Pictures
    """uint8[n, side, side, 3], a memory map of an unnamed file."""
    labels: dict[Level, list[LabelValue]]
    """What is the same at a level, by row."""
    rejects: int
    shards: list[dict[str, Any]] = field(default_factory=list)
    """Name, SHA-256 and images of each shard."""
    damaged: dict[str, str] = field(default_factory=dict)
    """Why, by path of a shard that was not whole; what was readable was used."""

    @property
    def digest(self) -> str:
        """Return a digest of the shards' digests and the labels: equal data, equal digest."""
        digest = hashlib.sha256()
        for shard in self.shards:
            digest.update(shard["sha256"].encode())
        for level, values in sorted(self.labels.items()):
            digest.update(f"{level}{values}".encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.pictures)


def read_images(
    shards: Sequence[Shard],
    side: int,
    fields: Mapping[Level, str],
    folder: Path,
    progress: Callable[[int], None],
) -> TrainingImages:
    """Decode every image of the shards to its centre square of `side` pixels.

    Args:
        shards: in the order of the rows.
        side: in pixels.
        fields: the JSON field of each level that has labels.
        folder: where the unnamed file is made; it holds 3 side^2 bytes per image.
        progress: called with the images seen so far.

    Raises:
        HashgrainError: `shard-missing`, `write-failed`, `fit-impossible` when an image lacks a field or none is readable.
    """

    def decoded(batch: Sequence[Sample]) -> tuple[list[tuple[str, Labels]], Pictures]:
        samples, pictures = decode_readable(batch, side)
        return [(sample.key, sample.labels) for sample in samples], pictures

    labels: dict[Level, list[LabelValue]] = {level: [] for level in fields}
    records: list[dict[str, Any]] = []
    damaged: dict[str, str] = {}
    rows = seen = 0
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            for shard in shards:
                reader = reader_for(shard)
                images: list[tuple[str, Labels]] = []  # labels may come until the shard has ended
                for part, pictures in ordered_map(decoded, batches(reader.images(), BATCH), alone=False):
                    file.write(pictures.tobytes())
                    images += part
                    progress(seen + reader.seen)
                for key, own in images:
                    _append_labels(labels, fields, own, f"{shard.name}:{key}")
                rows, seen = rows + len(images), seen + reader.seen
                if reader.damage:
                    damaged[shard.path] = reader.damage
                records.append({"name": shard.name, "sha256": reader.sha256, "images": len(images)})
            file.flush()
            if rows < 2:
                raise HashgrainError(
                    Reason.FIT_IMPOSSIBLE, f"only {rows} readable images to train on; give more shards"
                )
            pictures = np.memmap(file, np.uint8, "r", shape=(rows, side, side, 3))
    except OSError as err:
        raise write_failed(f"decoded images in {folder}", err) from err
    return TrainingImages(pictures, labels, seen - rows, records, damaged)


def _append_labels(labels: dict[Level, list[LabelValue]], fields: Mapping[Level, str], own: Labels, image: str) -> None:
    for level, name in fields.items():
        if name not in own:
            found = ", ".join(sorted(own)) or "none"
            raise HashgrainError(
                Reason.FIT_IMPOSSIBLE,
                f"image {image} has no label {name!r} for level {level} (its labels: {found}); name one for {level} "
                "that every image has",
            )
        labels[level].append(own[name])
