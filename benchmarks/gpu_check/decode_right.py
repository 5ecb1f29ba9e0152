"""Whether what a GPU decodes is right: by kind of JPEG, kernel alone, damaged files, and the race of streams in torchvision."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from PIL.ExifTags import Base
from torchvision.io import ImageReadMode, decode_jpeg

from benchmarks.gpu_check.check import Check
from benchmarks.gpu_check.photos import LARGE, SIZE, SUBSAMPLINGS, damaged, drawn, jpeg
from encoder.images.decoding.decode import RejectedImage, decode_square, square, square_or_reject
from encoder.images.decoding.gpu_decode import GpuDecoder, route
from encoder.images.decoding.gpu_resize import resize_squares
from encoder.images.decoding.jpeg_header import JpegHeader
from encoder.images.limits import Limits

LIMITS: Final = Limits()
MEAN: Final = 1.5
"""Largest mean difference of a kind from Pillow in levels of 255: what the chroma loses where libjpeg makes a picture smaller."""
KERNEL: Final = 1
"""Largest difference of the kernel from Pillow on the same pixels: a tie that float32 rounds the other way."""
RACES: Final = 200
BUSY_CYCLES: Final = 20_000_000
"""About 10 ms of a GPU's clock: work that is still under way when the decoder writes to memory that it has been given."""


def decode_right(check: Check) -> None:
    """Compare with Pillow, all of it on the CPU too, where libjpeg decodes and the kernel is interpreted."""
    _kinds(check)
    _kernel(check)
    _damaged(check)
    if check.on_gpu:
        _race(check)


def _side(check: Check) -> int:
    return 224 if check.on_gpu else 16  # an interpreted kernel takes half a second for a square of 32


def _sized(check: Check, size: tuple[int, int]) -> tuple[int, int]:
    """Return a size, a tenth of it where the kernel is interpreted."""
    return size if check.on_gpu else (max(1, size[0] // 10), max(1, size[1] // 10))


def _kinds(check: Check) -> None:
    decoder = GpuDecoder(check.device, _side(check), lambda line: check.result("notice", line))
    check.hold("decoder takes files", str(decoder.hardware), holds=decoder.hardware)
    for kind, files in _corpus(check):
        routed = route(files, LIMITS, hardware=True)
        size = _side(check)
        squares = torch.zeros((len(files), size, size, 3), dtype=torch.uint8, device=check.device)
        table = torch.zeros((len(files), 8), dtype=torch.int64, pin_memory=check.on_gpu)
        refused = decoder.decode_into(routed, squares, table)
        check.synchronise()
        mine = [row for row in routed.rows if row not in refused]
        wanted = 0 if kind.startswith("CPU: ") else len(files)
        check.hold(f"{kind}: by nvJPEG of {len(files)}", len(mine), holds=len(mine) == wanted)
        if mine:
            expected = np.stack([decode_square(files[row], size, LIMITS) for row in mine])
            _compare(check, kind, squares[mine].cpu().numpy(), expected)


def _compare(check: Check, kind: str, found: npt.NDArray[np.uint8], expected: npt.NDArray[np.uint8]) -> None:
    apart = np.abs(found.astype(np.int16) - expected)
    mean = float(apart.mean(axis=(1, 2, 3)).max())
    check.hold(f"{kind}: mean difference of the worst picture", mean, "of 255", holds=mean <= MEAN)
    check.result(f"{kind}: largest difference", int(apart.max()), "of 255")


def _corpus(check: Check) -> Iterator[tuple[str, list[bytes]]]:
    """Yield files by kind; those that are not nvJPEG's begin with `CPU: `."""
    count = check.count(16)
    usual = [drawn(*_sized(check, SIZE), seed) for seed in range(count)]

    def written(pictures: Sequence[Image.Image] = usual, **options: Any) -> list[bytes]:
        return [jpeg(picture, at, **options) for at, picture in enumerate(pictures)]

    for name, subsampling in SUBSAMPLINGS.items():
        yield name, written(subsampling=subsampling)
        yield f"{name} as large as the square", written([drawn(_side(check), _side(check), 1)], subsampling=subsampling)
    yield "grey", written([picture.convert("L") for picture in usual])
    yield "restart markers", written(restart_marker_rows=1)
    yield "optimised tables", written(optimize=True)
    for orientation in range(2, 9) if check.on_gpu else (3, 6):
        yield f"orientation {orientation}", written(usual[:4], orientation=orientation)
    sizes = ((501, 377), (377, 501), (1000, 230), (230, 1000), (97, 61), (449, 450))
    for size in sizes if check.on_gpu else sizes[:3]:
        yield f"{size[0]} x {size[1]}", written([drawn(*_sized(check, size), 3)])
    yield "12 megapixels", written([drawn(*_sized(check, LARGE), 4)] if check.on_gpu else [drawn(130, 100, 4)])
    yield "CPU: progressive", written(progressive=True)
    yield "CPU: CMYK", written([picture.convert("CMYK") for picture in usual[:4]])
    yield "CPU: cut", [data[: len(data) // 2] for data in written(usual[:4])]


def _kernel(check: Check) -> None:
    """Hold the kernel against Pillow on the same pixels; a smaller picture from libjpeg is a box of pixels there."""
    size = _side(check)
    shapes = [(size, size), (size + 1, 2 * size), (3 * size + 1, 2 * size + 3), (size // 2, size)]
    shapes += [(5 * size + 3, 4 * size + 1), (9 * size, 8 * size + 5)] if check.on_gpu else [(4 * size + 3, 4 * size)]
    orientations = range(1, 9) if check.on_gpu else (1, 6)
    cases = [(shape, orientation) for shape in shapes for orientation in orientations]
    pictures = [drawn(*shape, seed) for seed, (shape, _) in enumerate(cases)]
    headers = [JpegHeader(*shape, orientation, end=0) for shape, orientation in cases]
    images = [torch.from_numpy(np.array(each)).permute(2, 0, 1).contiguous().to(check.device) for each in pictures]
    squares = torch.zeros((len(cases), size, size, 3), dtype=torch.uint8, device=check.device)
    table = torch.zeros((len(cases), 8), dtype=torch.int64, pin_memory=check.on_gpu)
    resize_squares(images, headers, range(len(cases)), squares, table)
    check.synchronise()
    expected = np.stack([_by_pillow(each, header, size) for each, header in zip(pictures, headers, strict=True)])
    apart = int(np.abs(squares.cpu().numpy().astype(np.int16) - expected).max())
    check.hold(f"kernel against Pillow on the same pixels, {len(cases)} cases", apart, "of 255", holds=apart <= KERNEL)


def _by_pillow(picture: Image.Image, header: JpegHeader, size: int) -> npt.NDArray[np.uint8]:
    scale = next((scale for scale in (8, 4, 2) if min(picture.size) // size >= scale), 1)
    picture = picture.reduce(scale) if scale > 1 else picture.copy()
    picture.getexif()[Base.Orientation] = header.orientation
    return square(ImageOps.exif_transpose(picture), size)


def _damaged(check: Check) -> None:
    """Decode damaged files twice, into memory that held different bytes: what differs is no picture but what was there before."""
    files = [jpeg(drawn(*_sized(check, SIZE), seed), seed) for seed in range(check.count(200, 10))]
    spoiled = [damaged(data, number) for number, data in enumerate(files)]
    routed = route(spoiled, LIMITS, hardware=True)
    fates, worst = Counter[str]({"by the CPU": len(routed.others)}), 0.0
    for row, header, encoded in zip(routed.rows, routed.headers, routed.encoded, strict=True):
        try:
            first, second = (_decoded_over(check, encoded, header, fill) for fill in (0, 255))
        except RuntimeError:
            fates["refused"] += 1
            continue
        fates["stale"] += not torch.equal(first, second)
        by_cpu = square_or_reject(spoiled[row], _side(check), LIMITS)
        fates["decoded though the CPU rejects it" if isinstance(by_cpu, RejectedImage) else "decoded by both"] += 1
        if not isinstance(by_cpu, RejectedImage):
            mine = square(Image.fromarray(first.permute(1, 2, 0).cpu().numpy()), _side(check))
            worst = max(worst, float(np.abs(mine.astype(np.int16) - by_cpu).mean()))
    for fate, number in sorted(fates.items()):
        if fate != "stale":
            check.result(f"damaged, of {len(files)}: {fate}", number)
    check.hold(f"damaged, of {len(files)}: pixels that were there before", fates["stale"], holds=not fates["stale"])
    check.result("damaged: mean difference of the worst that both decode", worst, "of 255")


def _decoded_over(check: Check, encoded: torch.Tensor, header: JpegHeader, fill: int) -> torch.Tensor:
    """Decode into memory that held `fill`, as an allocator gives it back."""
    there = torch.full((3, header.height, header.width), fill, dtype=torch.uint8, device=check.device)
    check.synchronise()
    del there
    image: torch.Tensor = decode_jpeg([encoded], ImageReadMode.RGB, device=check.device)[0]
    check.synchronise()
    return image


def _race(check: Check) -> None:
    """Let work be under way in memory that the decoder gets; torchvision writes there without waiting (vision#9606)."""
    files = [jpeg(drawn(*SIZE, seed), seed) for seed in range(8)]
    encoded = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
    stream = torch.cuda.Stream(check.device)  # type: ignore[no-untyped-call]

    def corrupted(*, waiting: bool) -> int:
        wrong = 0
        for _ in range(RACES):
            with torch.cuda.stream(stream):
                block = [torch.empty((3, SIZE[1], SIZE[0]), dtype=torch.uint8, device=check.device) for _ in files]
                torch.cuda._sleep(BUSY_CYCLES)  # type: ignore[no-untyped-call]
                for each in block:
                    each.fill_(7)
                del block, each
                if waiting:
                    stream.synchronize()
                images = decode_jpeg(encoded, ImageReadMode.RGB, device=check.device)
            torch.cuda.synchronize(check.device)
            wrong += not all(map(torch.equal, images, expected))
        return wrong

    expected = [image.clone() for image in decode_jpeg(encoded, ImageReadMode.RGB, device=check.device)]
    torch.cuda.synchronize(check.device)
    check.result(f"race, of {RACES}: corrupted without waiting", corrupted(waiting=False))
    wrong = corrupted(waiting=True)
    check.hold(f"race, of {RACES}: corrupted though the stream was waited for", wrong, holds=not wrong)
