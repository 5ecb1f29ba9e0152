"""What a program may hand over as an image: a path, the bytes of a file, a PIL image or an array of pixels."""

from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from encoder.errors import HashgrainError, Reason, shown
from encoder.images.decoding.decode import RejectedImage, decode, render, square
from encoder.images.limits import Limits

ImageLike: TypeAlias = Path | bytes | Image.Image | npt.NDArray[np.uint8]
"""A path of an image file, its bytes, a PIL image, or uint8[height, width, 3], RGB."""


def square_of(image: ImageLike, size: int, limits: Limits) -> npt.NDArray[np.uint8]:
    """Return uint8[size, size, 3], what a network sees of an image.

    A JPEG as a path or as bytes may be decoded at a smaller scale, as it is when shards are encoded; the same picture as pixels
    can differ from that by rounding, and then in a bit or two of its code.

    Raises:
        HashgrainError: `bad-value` for what is not an image, `shard-missing` for a file that cannot be read,
            `image-rejected` with the reason.
    """
    try:
        return square(_rendered(image, size, limits), size)
    except RejectedImage as err:
        raise HashgrainError(
            Reason.IMAGE_REJECTED,
            f"{described(image)} cannot be used ({err.reject}: {err.detail}); give a readable image",
        ) from err


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
