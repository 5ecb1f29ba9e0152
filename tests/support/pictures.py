"""Small pictures and shards for tests, drawn from a seed."""

import io
import json
import tarfile
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image


def picture(seed: int, size: int = 48) -> Image.Image:
    """A blurred patch of coloured noise, different for every seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)


def encoded(seed: int, format_: str = "JPEG", size: int = 48) -> bytes:
    """The file content of `picture(seed)`."""
    buffer = io.BytesIO()
    picture(seed, size).save(buffer, format_)
    return buffer.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]], mode: Literal["w", "w:gz"] = "w") -> Path:
    """Write members (name, data) in order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, format=tarfile.GNU_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def labelled_members(first: int, count: int) -> list[tuple[str, bytes]]:
    """`count` pictures with a JSON sidecar each."""
    members = []
    for number in range(first, first + count):
        members.append((f"pic-{number:03d}.jpg", encoded(number)))
        label = {"fine": number % 5, "coarse": number % 2, "name": f"class {number % 5}"}
        members.append((f"pic-{number:03d}.json", json.dumps(label).encode()))
    return members
