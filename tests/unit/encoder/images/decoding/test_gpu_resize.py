"""The resize kernel, interpreted, against Pillow; and that it compiles for a GPU, which needs none."""

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from encoder.images.decoding.decode import _TURNS, square
from encoder.images.decoding.jpeg_header import JpegHeader
from tests.support.interpreted_resize import interpret_resize

EACH = tuple(range(1, 9))


def random_pictures(
    shapes: Sequence[tuple[int, int]], orientations: Sequence[int]
) -> list[tuple[torch.Tensor, JpegHeader]]:
    """Noise, in which a pixel that is off by one place is off by much; width and height as stored."""
    rng = np.random.default_rng(0)
    return [
        (
            torch.from_numpy(rng.integers(0, 256, (3, height, width), np.uint8)),
            JpegHeader(width, height, orientation, 0),
        )
        for width, height in shapes
        for orientation in orientations
    ]


def resized(module, pictures, size, rows=None, squares=None):
    rows = list(range(len(pictures))) if rows is None else rows
    squares = torch.zeros((len(pictures), size, size, 3), dtype=torch.uint8) if squares is None else squares
    table = torch.full((len(pictures), 8), -1, dtype=torch.int64)
    module.resize_squares([image for image, _ in pictures], [header for _, header in pictures], rows, squares, table)
    return squares.numpy()


def by_pillow(image: torch.Tensor, header: JpegHeader, size: int):
    """What `decode.square` makes of the picture, made smaller first as `draft` says, and turned."""
    times = min(header.width, header.height) // size
    scale = next((scale for scale in (8, 4, 2) if times >= scale), 1)
    smaller = (F.avg_pool2d(image.double(), scale, ceil_mode=True) + 0.5).floor().to(torch.uint8)
    picture = Image.fromarray(smaller.permute(1, 2, 0).numpy())
    turn = _TURNS.get(header.orientation)
    return square(picture if turn is None else picture.transpose(turn), size)


def assert_same(module, pictures, size, of_ties=0.02):
    """Weights have 24 bits here and 53 in Pillow, so a sum that lies halfway between two levels may come to the other one."""
    found = resized(module, pictures, size).astype(int)
    for (image, header), ours in zip(pictures, found, strict=True):
        difference = np.abs(by_pillow(image, header, size) - ours)
        assert difference.max() <= 1, header
        assert difference.mean() < of_ties, header


@pytest.mark.parametrize("shapes", [[(1, 9), (9, 1), (13, 40), (32, 32)], [(37, 53), (53, 37), (31, 33), (63, 64)]])
def test_pictures_of_any_shape_and_orientation_are_pillows(monkeypatch, shapes):
    assert_same(interpret_resize(monkeypatch), random_pictures(shapes, EACH), 32)


@pytest.mark.parametrize(
    ("shape", "orientations"),
    [((15, 22), EACH), ((29, 33), (1, 4, 7)), ((57, 61), (7,)), ((113, 120), (6,))],
    ids=["2", "4", "8", "16"],
)
def test_pictures_made_smaller_first_are_means_then_pillows(monkeypatch, shape, orientations):
    assert_same(interpret_resize(monkeypatch), random_pictures([shape], orientations), 7, of_ties=0.05)


@pytest.mark.parametrize("size", [7, 10, 16])
def test_squares_are_whole_in_blocks_as_on_a_gpu(monkeypatch, size):
    assert_same(interpret_resize(monkeypatch, None), random_pictures([(23, 19)], (6,)), size)


def test_each_picture_comes_to_its_row_and_other_rows_stay(monkeypatch):
    pictures = random_pictures([(9, 7), (7, 11)], (1,))
    squares = torch.full((4, 7, 7, 3), 99, dtype=torch.uint8)
    found = resized(interpret_resize(monkeypatch), pictures, 7, [3, 1], squares)
    assert (found[[0, 2]] == 99).all()
    for row, (image, header) in zip((3, 1), pictures, strict=True):
        assert np.abs(by_pillow(image, header, 7).astype(int) - found[row]).max() <= 1


def test_a_plan_says_nothing_of_one_picture_by_another():
    from encoder.images.decoding.gpu_resize import plan

    headers = [
        JpegHeader(width, height, turn, 0) for width, height in ((500, 375), (3000, 4000), (9, 1)) for turn in EACH
    ]
    together = plan(headers, range(len(headers)), 224)
    assert together.shape == (24, 14)
    for number, header in enumerate(headers):
        assert (plan([header], [number], 224) == together[number]).all()


COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from encoder.images.decoding.gpu_resize import BLOCK, OPTIONS, _resize
source = ASTSource(_resize, {"table": "*i64", "squares": "*u8"}, {"size": 224, "block": BLOCK})
built = compile(source, target=GPUTarget("cuda", 90, 32), options=OPTIONS)
print(len(built.asm["cubin"]), "ld.local" in built.asm["ptx"], built.asm["ptx"].count("fma.rn"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="there is no Triton for this system")
def test_the_kernel_compiles_for_a_gpu(tmp_path):
    environment = {
        "PATH": "/usr/bin:/bin",
        "TRITON_CACHE_DIR": str(tmp_path),
        "HOME": str(tmp_path),
        "PYTHONPATH": ":".join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=120
    )
    machine_code, spills, fused = done.stdout.split()
    assert int(machine_code) > 1000
    assert spills == "False"
    assert fused == "0"  # sums round as on a CPU
