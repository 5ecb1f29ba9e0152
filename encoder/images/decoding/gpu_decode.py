"""JPEGs decoded by nvJPEG's hardware and made square on the GPU, many at once; all others are named to the caller.

Only plain files go this way. All else, and what nvJPEG fails on, takes the one decode, so a bad image has the same reason
everywhere and never fails its batch. Without the hardware decoder nothing goes this way: nvJPEG would then read each file on the
host, one after another, slower than the one decode in many threads.
"""

import re
import warnings
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

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


def route(files: Sequence[bytes | memoryview], limits: Limits, *, hardware: bool) -> Routed:
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


def _without_decoder(data: bytes | memoryview) -> Way:
    return Way.NO_DECODER if data[:3] == b"\xff\xd8\xff" else Way.NOT_JPEG


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
            images = [_checked(image, header) for image, header in zip(images, routed.headers[part], strict=True)]
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


def _checked(image: Tensor, header: JpegHeader) -> Tensor:
    """Return planes one behind another, as nvJPEG makes them, of the size by which the kernel will read them.

    Raises:
        RuntimeError: when nvJPEG has read another size.
    """
    if image.shape != (3, header.height, header.width):
        raise RuntimeError(f"a picture of {header.width} x {header.height} came out as {tuple(image.shape)}")
    return image.contiguous()


def _first_line(err: Exception) -> str:
    return f"{type(err).__name__}: {err}".splitlines()[0][:200]


_NO_MEMORY: Final = re.compile(r"out of memory|Failed to [a-z ]+: 5\b")
"""torchvision passes on what torch and nvJPEG say of memory as errors of any kind; 5 is NVJPEG_STATUS_ALLOCATOR_FAILURE."""
