"""JPEGs decoded by nvJPEG's hardware and made square on the GPU, many at once; all others are named to the caller.

Only plain files go this way. All else, and what nvJPEG fails on, takes the one decode, so a bad image has the same reason
everywhere and never fails its batch. Without the hardware decoder nothing goes this way: nvJPEG would then read each file on the
host, one after another, slower than the one decode in many threads.
"""

import io
import re
import warnings
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
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
from encoder.images.decoding.jpeg_header import JpegHeader, Way, read_header
from encoder.images.decoding.nvjpeg import hardware_status
from encoder.images.limits import Limits

# torchvision 0.29 says that TorchCodec will take this over; until it decodes on GPUs wherever torch does, this is the way.
warnings.filterwarnings("ignore", "The image decoding and encoding capabilities of TorchVision", DeprecationWarning)
warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)  # nor does anybody write to it

MOST_PIXELS: Final = 1 << 27
"""Decoded together, 400 MB as RGB; a larger picture takes the one decode."""
MOST_FILES: Final = 256
"""Decoded together: their tensors go to C++ and back in 0.3 ms, in which no other thread runs Python."""
LOST_AFTER: Final = 4
"""Files that fail alone before any other was decoded: then it is not the files."""


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
    routed = Routed([], [], [], [], Counter())
    for number, data in enumerate(files):
        found = read_header(data, limits) if hardware else _without_decoder(data)
        if isinstance(found, JpegHeader) and found.width * found.height > MOST_PIXELS:
            found = Way.ODD
        if isinstance(found, Way):
            routed.others.append(number)
            routed.ways[found] += 1
            continue
        routed.rows.append(number)
        routed.headers.append(found)
        routed.encoded.append(torch.frombuffer(data, dtype=torch.uint8, count=found.end))
    if routed.rows:
        routed.ways[Way.NVJPEG] = len(routed.rows)
    return routed


def _without_decoder(data: bytes) -> Way:
    return Way.NO_DECODER if data.startswith(b"\xff\xd8\xff") else Way.NOT_JPEG


class GpuDecoder:
    """nvJPEG and the resize kernel on one device, used by one thread.

    Args:
        device: with its index. On `cpu`, where tests and benchmarks run it, libjpeg decodes.
        size: side of the squares in pixels.
        notify: called with a line for a person, once, where JPEGs cannot be decoded on the GPU.

    Attributes:
        hardware: whether files are taken at all; it may turn False at any time, never True again.
    """

    def __init__(self, device: torch.device, size: int, notify: Callable[[str], None] = lambda _: None) -> None:
        self.device, self.size, self.hardware = device, size, True
        self._notify = notify
        self._most_pixels = MOST_PIXELS
        self._decoded = self._failed = 0
        with self._on_device():
            why = hardware_status(device) if device.type == "cuda" else None
            if why := why or self._without_kernel():
                self._give_up(why)

    def decode_into(self, routed: Routed, squares: Tensor, table: Tensor) -> list[int]:
        """Decode files and write what a network sees of each to its row of `squares`, on the current stream.

        The squares are complete when the stream has passed; the files' bytes and `routed.encoded` are free on return. Where
        files fail together, halves of them are tried, larger ones first, down to the single files that fail.

        Args:
            routed: by `route`; its `ways` are corrected.
            squares: uint8[batch, size, size, 3] on the device; row i is file number i of the batch.
            table: int64[batch, 8] on the host, pinned where the device is a GPU, not rewritten before the stream has passed.

        Returns:
            Numbers of the files that take the one decode after all, in order.

        Raises:
            torch.AcceleratorError: when the device itself has failed.
        """
        pixels = [0, *accumulate(header.width * header.height for header in routed.headers)]
        refused = list[int]()
        parts = deque([(0, len(routed.rows))] if routed.rows else [])
        with self._on_device():
            while parts:
                start, stop = parts.popleft()
                count, total, tried = stop - start, pixels[stop] - pixels[start], self.hardware
                small = count <= MOST_FILES and (total <= self._most_pixels or count == 1)
                if tried and small and self._decode(routed, slice(start, stop), total, squares, table):
                    continue
                if tried and count > 1:
                    parts += [(start, start + count // 2), (start + count // 2, stop)]
                    continue
                refused += routed.rows[start:stop]
                routed.ways[Way.NVJPEG] -= count
                routed.ways[Way.REFUSED if tried else Way.NO_DECODER] += count
        routed.ways = +routed.ways  # without what came to nothing
        return sorted(refused)

    def _decode(self, routed: Routed, part: slice, pixels: int, squares: Tensor, table: Tensor) -> bool:
        """Decode files of a batch together, and tell whether that went well."""
        self._wait()
        try:
            images = decode_jpeg(routed.encoded[part], ImageReadMode.RGB, device=self.device)
            images = [image.contiguous() for image in images]  # as nvJPEG's are
            self._resize(images, routed.headers[part], routed.rows[part], squares, table[part])
        except torch.AcceleratorError:
            raise
        except RuntimeError as err:
            if isinstance(err, torch.OutOfMemoryError) or _NO_MEMORY.search(str(err)):
                self._most_pixels = min(self._most_pixels, pixels // 2)
            elif part.stop - part.start == 1:
                self._failed += 1
                if not self._decoded and self._failed >= LOST_AFTER:
                    self._give_up(f"nvJPEG decodes none of the first files ({_first_line(err)})")
            return False
        self._decoded += len(images)
        return True

    def _wait(self) -> None:
        """Wait for the current stream: nvJPEG writes to fresh memory on a stream of its own, which does not wait for it.

        Source: pytorch/vision issue 9606. An error of the device itself is raised here, too, before it can look like a file's.
        """
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()

    def _on_device(self) -> AbstractContextManager[object]:
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def _without_kernel(self) -> str | None:
        """Build the resize kernel and run it once, or return why that fails."""
        try:
            from encoder.images.decoding.gpu_resize import resize_squares

            image = torch.zeros((3, 1, 1), dtype=torch.uint8, device=self.device)
            squares = torch.zeros((1, self.size, self.size, 3), dtype=torch.uint8, device=self.device)
            resize_squares([image], [JpegHeader(1, 1, 1, 0)], [0], squares, torch.zeros((1, 8), dtype=torch.int64))
            self._wait()
        except Exception as err:  # noqa: BLE001  a compiler, a driver, a package: whatever is missing
            return f"the resize kernel cannot be built; Triton and a C compiler make it ({_first_line(err)})"
        self._resize = resize_squares
        return None

    def _give_up(self, why: str) -> None:
        self.hardware = False
        self._notify(f"{self.device}: JPEGs are decoded by the CPU, which may be the slower half then: {why}")


def _first_line(err: Exception) -> str:
    return f"{type(err).__name__}: {err}".splitlines()[0][:200]


_NO_MEMORY: Final = re.compile(r"out of memory|Failed to [a-z ]+: 5\b")
"""torchvision passes on what torch and nvJPEG say of memory as errors of any kind; 5 is NVJPEG_STATUS_ALLOCATOR_FAILURE."""


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
