"""What a program may hand over as an image: a path, the bytes of a file, a PIL image or an array of pixels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from encoder.errors import HashgrainError, Reason, shown
from encoder.images.decoding.decode import RejectedImage, decode, render, square
from encoder.images.limits import Limits
from encoder.images.region import DEFAULT_MODE, WHOLE, Box, Region, RegionMode, inside, square_around, square_with

ImageLike: TypeAlias = Path | bytes | Image.Image | npt.NDArray[np.uint8]
"""A path of an image file, its bytes, a PIL image, or uint8[height, width, 3], RGB."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a network sees of an image."""

    pixels: npt.NDArray[np.uint8]
    """uint8[size, size, 3]."""
    square: Box
    """Where that lies in the upright picture, in shares of its width and height."""
    inside: Box | None = None
    """The part of the square that is looked at, in shares of its side; None: all of it."""


def look(
    image: ImageLike,
    size: int,
    limits: Limits,
    region: Region | None = None,
    mode: RegionMode | None = None,
) -> Seen:
    """Return what a network sees of an image, or of a region of it.

    A JPEG as a path or as bytes may be decoded at a smaller scale, as it is when shards are encoded; the same picture as pixels
    can differ from that by rounding, and then in a bit or two of its code. A crop has at least `size` pixels of its own, where
    the picture has so many.

    Args:
        image: the image.
        size: side of the square in pixels.
        limits: what the image may be.
        region: what is looked at; None: all of the centre square.
        mode: how; None: `DEFAULT_MODE`.

    Raises:
        HashgrainError: `bad-value` for what is not an image, `shard-missing` for a file that cannot be read,
            `image-rejected` with the reason.
    """
    whole, cut = region or WHOLE, (mode or DEFAULT_MODE) is RegionMode.CROP
    # a crop's side is at least that share of the short side, see `square_around`
    with _named(image):
        picture = _rendered(image, ceil(size / max(whole.width, whole.height)) if cut else size, limits)
    box = (square_around if cut else square_with)(whole, picture.size)
    (left, top, right, bottom), (across, down) = box, picture.size
    return Seen(
        square(picture, size, box),
        (left / across, top / down, right / across, bottom / down),
        None if cut or region is None else inside(region, picture.size, box),
    )


def cut_out(image: ImageLike, size: int, limits: Limits, box: Box) -> npt.NDArray[np.uint8]:
    """Return uint8[size, size, 3] of a box of an image, in shares of its width and height, for people to look at.

    Raises:
        HashgrainError: as `look`.
    """
    with _named(image):
        picture = _rendered(image, ceil(size / max(box[2] - box[0], box[3] - box[1])), limits)
    (left, top, right, bottom), (across, down) = box, picture.size
    return square(picture, size, (left * across, top * down, min(right * across, across), min(bottom * down, down)))


@contextmanager
def _named(image: ImageLike) -> Iterator[None]:
    """Say which image was rejected."""
    try:
        yield
    except RejectedImage as err:
        raise HashgrainError(
            Reason.IMAGE_REJECTED,
            f"{described(image)} cannot be used ({err.reject}: {err.detail}); give a readable image",
        ) from err


def square_of(image: ImageLike, size: int, limits: Limits) -> npt.NDArray[np.uint8]:
    """Return uint8[size, size, 3], what a network sees of a whole image; as `look`."""
    return look(image, size, limits).pixels


def _rendered(image: object, size: int, limits: Limits) -> Image.Image:
    """Return RGB of what ought to be an `ImageLike`."""
    match image:
        case Path():
            return decode(read_file(image, limits), limits, at_least=size)
        case bytes():
            return decode(image, limits, at_least=size)
        case Image.Image():
            return render(image, limits)
        case np.ndarray() if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
            return render(Image.fromarray(np.ascontiguousarray(image)), limits)
        case _:
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"{described(image)} is not an image; give a pathlib.Path, the bytes of an image file, a PIL image, or "
                "uint8[height, width, 3]",
            )


def described(image: object) -> str:
    """Return a few words by which a person knows an image again."""
    match image:
        case Path():
            return str(image)
        case bytes():
            return f"image of {len(image):,} bytes"
        case Image.Image():
            return f"image of {image.width} x {image.height} pixels"
        case _:
            return shown(image)


def read_file(path: Path, limits: Limits) -> bytes:
    """Return the bytes of an image file, one more than it may have at most: it may be a device, and a pipe is welcome.

    Raises:
        HashgrainError: `shard-missing`.
    """
    try:
        with path.open("rb") as file:
            return file.read(limits.max_bytes + 1)
    except (OSError, ValueError) as err:  # ValueError: a null character in the name
        why = getattr(err, "strerror", None) or err
        raise HashgrainError(
            Reason.SHARD_MISSING, f"image {path} could not be read ({why}); give an image file"
        ) from err
