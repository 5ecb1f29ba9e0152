"""The resize of a group of decoded images in one kernel: squares as Pillow makes them, upright, whatever their sizes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from encoder.images.decoding.jpeg_header import JpegHeader


def resize_squares(
    images: Sequence[Tensor], headers: Sequence[JpegHeader], rows: Sequence[int], squares: Tensor, table: Tensor
) -> None:
    """Write what a network sees of each image to its row of `squares`, on the current stream, without waiting.

    Args:
        images: each uint8[3, height, width], contiguous, on the device of `squares`.
        headers: one per image.
        rows: one per image.
        squares: uint8[batch, size, size, 3].
        table: int64[len(images), 8] on the host, pinned where the device is a GPU; it is not to be rewritten before the
            stream has passed.
    """
    raise NotImplementedError


def plan(headers: Sequence[JpegHeader], rows: Sequence[int], size: int) -> npt.NDArray[np.int32]:
    """Return int32[n, 14], what the kernel knows of each image."""
    raise NotImplementedError
