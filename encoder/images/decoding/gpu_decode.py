"""JPEGs decoded by nvJPEG's hardware and made square on the GPU, many at once; all others are named to the caller.

Only plain files go this way. All else, and what nvJPEG fails on, takes the one decode, so a bad image has the same reason
everywhere and never fails its batch.
"""

import io
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from PIL.ExifTags import Base
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from encoder.images.decoding.colour import is_kept, profile_of
from encoder.images.decoding.decode import RejectedImage, allow_pixels, has_too_many_scans, square_or_reject
from encoder.images.decoding.jpeg_header import JpegHeader, Way
from encoder.images.limits import Limits


@dataclass(slots=True)
class Routed:
    """Image files of a batch, parted by the way they go."""

    rows: list[int]
    """Numbers of the files for nvJPEG, in order; `headers` and `encoded` go along."""
    headers: list[JpegHeader]
    encoded: list[Tensor]
    """uint8 each, views of the files' bytes."""
    others: list[int]
    """Numbers of the files for the one decode, in order."""
    ways: Counter[Way]
    """How many went which way; `GpuDecoder.decode_into` corrects it by what was refused."""


def route(files: Sequence[bytes], limits: Limits, *, hardware: bool) -> Routed:
    """Part image files by the way they go. Any thread may call it.

    Args:
        files: image files of any format.
        limits: what an image may be.
        hardware: `GpuDecoder.hardware`; without it all files take the one decode.
    """
    raise NotImplementedError


class GpuDecoder:
    """nvJPEG and the resize kernel on one device, used by one thread.

    Args:
        device: with its index. On `cpu`, where tests and benchmarks run it, libjpeg decodes.
        size: side of the squares in pixels.
        notify: called with a line for a person, once, where the hardware decoder is not to be had.

    Attributes:
        hardware: whether files are taken at all; it may turn False at any time, never True again.
    """

    def __init__(self, device: torch.device, size: int, notify: Callable[[str], None] = lambda _: None) -> None:
        self.device, self.size, self.notify = device, size, notify
        self.hardware = True

    def decode_into(self, routed: Routed, squares: Tensor, table: Tensor) -> list[int]:
        """Decode files and write what a network sees of each to its row of `squares`, on the current stream.

        The squares are complete when the stream has passed; the files' bytes and `routed.encoded` are free on return.

        Args:
            routed: by `route`; its `ways` are corrected.
            squares: uint8[batch, size, size, 3] on the device; row i is file number i of the batch.
            table: int64[batch, 8] on the host, pinned where the device is a GPU, not rewritten before the stream has passed.

        Returns:
            Numbers of the files that take the one decode after all, in order.
        """
        raise NotImplementedError


# torchvision 0.29 says that TorchCodec will take this over; until it decodes on GPUs wherever torch does, this is the way.
warnings.filterwarnings("ignore", "The image decoding and encoding capabilities of TorchVision", DeprecationWarning)

MOST_PIXELS: Final = 1 << 27
"""Decoded together, 400 MB as RGB."""

Picture: TypeAlias = Tensor
"""uint8[size, size, 3] on the device."""


def decode_squares(
    files: Sequence[bytes], size: int, limits: Limits, device: torch.device
) -> list[Picture | RejectedImage]:
    """Return what a network sees of each image file, or why it sees nothing.

    Args:
        files: image files of any format.
        size: side of the square in pixels.
        limits: what an image may be.
        device: where the pictures are to be.
    """
    allow_pixels(limits)
    decoded: dict[int, Picture] = {}
    group: list[int] = []
    pixels = 0
    for number, data in enumerate(files):
        if not (count := _plain_pixels(data, limits)):
            continue
        if group and pixels + count > MOST_PIXELS:
            decoded |= _decoded(group, files, size, device)
            group, pixels = [], 0
        group.append(number)
        pixels += count
    decoded |= _decoded(group, files, size, device)
    return [
        decoded[number] if number in decoded else _by_the_one_decode(data, size, limits, device)
        for number, data in enumerate(files)
    ]


def _plain_pixels(data: bytes, limits: Limits) -> int:
    """Return the pixels of a JPEG that may go this way by its header; 0 of any other file."""
    whole = data.startswith(b"\xff\xd8\xff") and data.rstrip(b"\0").endswith(b"\xff\xd9")  # nvJPEG may not tell a cut
    if not whole or len(data) > limits.max_bytes or has_too_many_scans(data):
        return 0
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG",))  # reads the header alone
        plain = image.mode in {"L", "RGB"} and image.info.get("adobe_transform") != 0
        plain = plain and is_kept(profile_of(image, "JPEG"), image.mode)
        upright = "exif" not in image.info or image.getexif().get(Base.Orientation, 1) == 1
        pixels = image.width * image.height
    except Exception:  # noqa: BLE001  whatever is wrong, the one decode says it
        return 0
    return pixels if plain and upright and pixels <= limits.max_pixels else 0


def _decoded(numbers: Sequence[int], files: Sequence[bytes], size: int, device: torch.device) -> dict[int, Picture]:
    """Decode files together, or one by one where that fails, for lack of memory, too: then those that fail alone are left out."""
    if not numbers:
        return {}
    encoded = [torch.frombuffer(bytearray(files[number]), dtype=torch.uint8) for number in numbers]
    try:
        images = decode_jpeg(encoded, ImageReadMode.RGB, device=device)
        return {number: _square(image, size) for number, image in zip(numbers, images, strict=True)}
    except RuntimeError:
        if len(numbers) == 1:
            return {}
    return {key: picture for number in numbers for key, picture in _decoded([number], files, size, device).items()}


def _square(image: Tensor, size: int) -> Picture:
    """Return what `decode.square` returns of uint8[3, height, width], step by step as Pillow and libjpeg do it.

    libjpeg makes a JPEG smaller by averaging neighbours inside its transform. Pillow resizes rows, rounds to 8 bits, then resizes
    columns. Sources: jidctred.c of libjpeg, `JpegImageFile.draft` and Resample.c of Pillow.
    """
    times = min(image.shape[1] // size, image.shape[2] // size)
    scale = next((scale for scale in (8, 4, 2) if times >= scale), 1)
    pixels = image.float()
    if scale > 1:
        pixels = _rounded(F.avg_pool2d(pixels, scale, ceil_mode=True))
    height, width = pixels.shape[1:]
    side = min(height, width)
    rows, columns = (
        torch.from_numpy(_weights(length, (length - side) / 2, side, size)).to(image.device)
        for length in (height, width)
    )
    pixels = _rounded(rows @ _rounded(pixels @ columns.T))
    return pixels.to(torch.uint8).permute(1, 2, 0)


def _rounded(pixels: Tensor) -> Tensor:
    return (pixels + 0.5).floor().clamp(0, 255)


@lru_cache(maxsize=1024)
def _weights(length: int, start: float, side: float, size: int) -> npt.NDArray[np.float32]:
    """Return float32[size, length]: what each pixel weighs in each of `size` that stand for start:start + side.

    Source: precompute_coeffs in Resample.c of Pillow, with the triangle of its bilinear filter.
    """
    scale = side / size
    support = max(scale, 1.0)
    weights = np.zeros((size, length))
    for at in range(size):
        centre = start + (at + 0.5) * scale
        first, last = max(0, int(centre - support + 0.5)), min(length, int(centre + support + 0.5))
        near = np.clip(1 - np.abs(np.arange(first, last) - centre + 0.5) / support, 0, None)
        weights[at, first:last] = near / near.sum()
    return weights.astype(np.float32)


def _by_the_one_decode(data: bytes, size: int, limits: Limits, device: torch.device) -> Picture | RejectedImage:
    pixels = square_or_reject(data, size, limits)
    return pixels if isinstance(pixels, RejectedImage) else torch.from_numpy(pixels.copy()).to(device)
