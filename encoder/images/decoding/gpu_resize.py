"""The resize of a group of decoded images in one kernel: squares as Pillow makes them, upright, whatever their sizes.

The kernel follows libjpeg and Pillow step by step. libjpeg makes a JPEG smaller by averaging neighbours inside its transform, a
box of scale x scale pixels. Pillow turns, cuts the centre, resizes along one axis, rounds to 8 bits, and resizes along the other,
with weights in fixed point. Nothing is kept between the steps: each sample of a square reads what it stands for.

The kernel calls builtins of Triton alone (`tl.full`, not `tl.zeros`), so that its interpreter can run it in any process.

Sources: jidctred.c of libjpeg; `JpegImageFile.draft`, precompute_coeffs and ImagingResampleHorizontal_8bpc of Pillow (Resample.c).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import triton
import triton.language as tl
from torch import Tensor

from encoder.images.decoding.jpeg_header import JpegHeader

BLOCK: Final = 256
"""Samples of a square that one block of threads writes."""
OPTIONS: Final = {"enable_fp_fusion": False}
"""Of the compiler: sums and products round one by one, as on a CPU."""
_AXES: Final = np.array(
    [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 1],
        [1, -1, 0, 0, 0, 1],
        [1, -1, 0, 1, 0, -1],
        [0, 1, 0, 1, 0, -1],
        [0, 0, 1, 0, 1, 0],
        [0, 0, 1, 1, -1, 0],
        [1, 0, -1, 1, -1, 0],
        [1, 0, -1, 0, 1, 0],
    ],
    np.int32,
)
"""Per orientation (0 is none): the stored pixel (x, y) of the upright pixel (u, v). x is the last column if the first number is 1,
else 0, plus u and v times the next two; y likewise by the last three. Source: EXIF 2.32, tag 0x0112."""


def resize_squares(
    images: Sequence[Tensor], headers: Sequence[JpegHeader], rows: Sequence[int], squares: Tensor, table: Tensor
) -> None:
    """Write what a network sees of each image to its row of `squares`, on the current stream, without waiting.

    Args:
        images: each uint8[3, height, width], contiguous, on the device of `squares`; they may be dropped on return.
        headers: one per image.
        rows: one per image.
        squares: uint8[batch, size, size, 3].
        table: int64[len(images), 8] on the host, pinned where the device is a GPU; it is not to be rewritten before the
            stream has passed.
    """
    size = squares.shape[1]
    entries = table.numpy()
    entries[:, 0] = [image.data_ptr() for image in images]
    entries[:, 1:].view(np.int32)[:] = plan(headers, rows, size)
    on_device = table.to(squares.device, non_blocking=True)
    blocks = triton.cdiv(3 * size * size, BLOCK)
    _resize[len(images), blocks](on_device, squares, size, BLOCK, **OPTIONS)


def plan(headers: Sequence[JpegHeader], rows: Sequence[int], size: int) -> npt.NDArray[np.int32]:
    """Return int32[n, 14], what the kernel knows of each image besides where its pixels are.

    Let (p, q) be an upright pixel of the picture as libjpeg makes it smaller, p along the axis that Pillow resizes first: that is
    x, unless the picture is tall.

    Columns: row; width and height as stored; the scale, 1, 2, 4 or 8; the side of the centre square; twice its first p and q, which
    may lie between two pixels; x0, xp, xq, y0, yp, yq, by which the stored pixel is (x0 + xp p + xq q, y0 + yp p + yq q); and
    whether p is y.
    """
    stored = np.array([(header.width, header.height, header.orientation) for header in headers], np.int32).reshape(
        -1, 3
    )
    lengths, orientations = stored[:, :2], stored[:, 2]
    scale = 1 << np.searchsorted([2, 4, 8], lengths.min(axis=1) // size, side="right")
    smaller = -(-lengths // scale[:, None])
    side = smaller.min(axis=1)
    upright = np.where(orientations[:, None] > 4, smaller[:, ::-1], smaller)
    axes = _AXES[orientations]
    axes[:, [0, 3]] *= smaller - 1
    start = upright - side[:, None]
    # Pillow 13 saves work so, as measured: no source says it. One that always begins with x differs by rounding.
    tall = upright[:, 1] - size > 2 * np.maximum(upright[:, 0] - size, 0)
    start[tall] = start[tall][:, ::-1]
    axes[tall] = axes[tall][:, [0, 2, 1, 3, 5, 4]]
    columns = [np.asarray(rows)[:, None], lengths, scale[:, None], side[:, None], start, axes, tall[:, None]]
    return np.concatenate(columns, axis=1).astype(np.int32)


@triton.jit
def _resize(table, squares, size: tl.constexpr, block: tl.constexpr):
    """Write `block` samples of one square; axis 0 of the grid are images, axis 1 parts of the square."""
    entry = table + tl.program_id(0) * 8
    pixels = tl.load(entry).to(tl.pointer_type(tl.uint8))
    numbers = (entry + 1).to(tl.pointer_type(tl.int32))
    row, width, height = tl.load(numbers).to(tl.int64), tl.load(numbers + 1), tl.load(numbers + 2)
    scale, side, tall = tl.load(numbers + 3), tl.load(numbers + 4), tl.load(numbers + 13) != 0
    x0, xp, xq = tl.load(numbers + 7), tl.load(numbers + 8), tl.load(numbers + 9)
    y0, yp, yq = tl.load(numbers + 10), tl.load(numbers + 11), tl.load(numbers + 12)
    across, down = (width + scale - 1) // scale, (height + scale - 1) // scale
    samples: tl.constexpr = size * size * 3
    lane = tl.minimum(tl.program_id(1) * block + tl.arange(0, block), samples - 1)  # the last one is written often
    plane = pixels + lane % 3 * (width * height)
    u, v = lane // 3 % size, lane // 3 // size

    ratio = side.to(tl.float64) / size
    support = tl.maximum(ratio, 1.0)
    taps = 2 * tl.ceil(support).to(tl.int32) + 1
    step = (1.0 / support).to(tl.float32)
    p, p_end, p_off = _reach(
        tl.where(tall, v, u), tl.load(numbers + 5), ratio, support, tl.where(xp != 0, across, down)
    )
    q, q_end, q_off = _reach(
        tl.where(tall, u, v), tl.load(numbers + 6), ratio, support, tl.where(xp != 0, down, across)
    )
    p_sum, q_sum = tl.full([block], 0.0, tl.float32), tl.full([block], 0.0, tl.float32)
    for tap in range(taps):
        p_sum += _triangle(p + tap < p_end, p_off + tap, step)
        q_sum += _triangle(q + tap < q_end, q_off + tap, step)
    p_unit, q_unit = 4194304.0 / p_sum, 4194304.0 / q_sum

    sample = tl.full([block], 1 << 21, tl.int32)  # half of Pillow's unit
    for second in range(taps):
        there = q + second < q_end
        mixed = tl.full([block], 1 << 21, tl.int32)
        for first in range(taps):
            near = there & (p + first < p_end)
            x = (x0 + (p + first) * xp + (q + second) * xq) * scale
            y = (y0 + (p + first) * yp + (q + second) * yq) * scale
            if scale == 1:
                found = tl.load(plane + y * width + x, mask=near, other=0).to(tl.int32)
            else:
                found = _mean(plane, x, y, width, height, scale, near)
            mixed += found * _fixed(_triangle(near, p_off + first, step), p_unit)
        sample += tl.minimum(mixed >> 22, 255) * _fixed(_triangle(there, q_off + second, step), q_unit)
    tl.store(squares + row * samples + lane, tl.minimum(sample >> 22, 255).to(tl.uint8))


@triton.jit
def _reach(place, twice_start, ratio, support, length):
    """Return the first pixel that counts for a pixel of the square, the one behind the last, and how far the first lies off."""
    centre = twice_start * 0.5 + (place + 0.5).to(tl.float64) * ratio
    first = tl.maximum((centre - support + 0.5).to(tl.int32), 0)
    end = tl.minimum((centre + support + 0.5).to(tl.int32), length)
    return first, end, (first - centre + 0.5).to(tl.float32)


@triton.jit
def _triangle(counts, off, step):
    """Return the weight of a pixel so far off, before all are made to add up to 1."""
    return tl.where(counts, tl.maximum(1.0 - tl.abs(off * step), 0.0), 0.0)


@triton.jit
def _fixed(weight, unit):
    """Return a weight in Pillow's fixed point of 22 bits."""
    return (weight * unit + 0.5).to(tl.int32)


@triton.jit
def _mean(plane, x, y, width, height, scale, counts):
    """Return the rounded mean of scale x scale pixels from (x, y) on, as far as the picture goes."""
    total = x * 0
    for below in range(scale):
        for beside in range(scale):
            inside = counts & (x + beside < width) & (y + below < height)
            total += tl.load(plane + (y + below) * width + x + beside, mask=inside, other=0).to(tl.int32)
    count = tl.where(counts, tl.minimum(scale, width - x) * tl.minimum(scale, height - y), 1)
    return (2 * total + count) // (2 * count)
