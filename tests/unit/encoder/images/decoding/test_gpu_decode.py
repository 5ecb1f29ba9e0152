"""JPEGs routed, decoded together and made square. On a CPU libjpeg takes nvJPEG's place and Triton's interpreter a GPU's."""

from collections import Counter

import numpy as np
import pytest
import torch
from torchvision.io import decode_jpeg

from encoder.images.decoding import gpu_decode
from encoder.images.decoding.decode import RejectedImage, decode_square, square_or_reject
from encoder.images.decoding.gpu_decode import GpuDecoder, route
from encoder.images.decoding.jpeg_header import Way
from encoder.images.limits import Limits
from tests.support.interpreted_resize import interpret_resize
from tests.support.jpeg_kinds import jpeg_kinds, photo
from tests.support.odd_images import odd_images

CPU = torch.device("cpu")
SIZE = 32
BROKEN = photo(32, 32, 99)
"""A file that the decoders of these tests fail on."""


@pytest.fixture
def decoder(monkeypatch) -> GpuDecoder:
    interpret_resize(monkeypatch)
    return GpuDecoder(CPU, SIZE)


def decoded(decoder: GpuDecoder, files, limits=Limits()):
    """Squares of a batch, numbers of the files left to the one decode, and the ways."""
    routed = route(files, limits, hardware=decoder.hardware)
    squares = torch.zeros((len(files), decoder.size, decoder.size, 3), dtype=torch.uint8, device=decoder.device)
    table = torch.zeros((len(files), 8), dtype=torch.int64, pin_memory=decoder.device.type == "cuda")
    refused = decoder.decode_into(routed, squares, table)
    assert sum(routed.ways.values()) == len(files)
    return squares.cpu().numpy(), sorted(routed.others + refused), routed.ways


def assert_same(found, files):
    """But for rounding, where libjpeg does not make a picture smaller."""
    for square, data in zip(found, files, strict=True):
        assert np.abs(square.astype(int) - decode_square(data, len(square), Limits())).max() <= 1


class Decodes:
    """In the place of `decode_jpeg`: it counts its calls, and fails as nvJPEG does on what a test says."""

    def __init__(self, monkeypatch, fails=lambda files: None):
        self.sizes: list[int] = []
        self.fails = fails
        monkeypatch.setattr(gpu_decode, "decode_jpeg", self)

    def __call__(self, encoded, mode, device):
        self.sizes.append(len(encoded))
        if error := self.fails([each.numpy().tobytes() for each in encoded]):
            raise error
        return decode_jpeg(encoded, mode, device=device)


def breaks_on_broken(files):
    return RuntimeError("Error while decoding JPEG images: Failed to decode batch: 3") if BROKEN in files else None


def test_files_of_each_kind_go_their_way():
    files = [kind.data for kind in jpeg_kinds()]
    routed = route(files, Limits(), hardware=True)
    assert routed.ways == Counter(kind.way for kind in jpeg_kinds())
    assert routed.rows == [number for number, kind in enumerate(jpeg_kinds()) if kind.way is Way.NVJPEG]
    assert sorted(routed.rows + routed.others) == list(range(len(files)))
    for row, header, encoded in zip(routed.rows, routed.headers, routed.encoded, strict=True):
        assert encoded.numpy().tobytes() == files[row][: header.end]
        assert header.orientation == jpeg_kinds()[row].orientation


def test_without_hardware_all_files_take_the_one_decode():
    routed = route([photo(9, 9), b"GIF89a", b""], Limits(), hardware=False)
    assert (routed.rows, routed.others) == ([], [0, 1, 2])
    assert routed.ways == {Way.NO_DECODER: 1, Way.NOT_JPEG: 2}


def test_pictures_too_large_for_the_device_take_the_one_decode(monkeypatch):
    monkeypatch.setattr(gpu_decode, "MOST_PIXELS", 99)
    assert route([photo(10, 10), photo(9, 11)], Limits(), hardware=True).ways == {Way.ODD: 1, Way.NVJPEG: 1}


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"subsampling": 1}, {"mode": "L"}])
def test_squares_are_those_of_the_one_decode_but_for_rounding(decoder, options):
    shapes = [(32, 32), (41, 33), (33, 63), (40, 50), (20, 90), (3, 50)]
    files = [photo(width, height, seed, **options) for seed, (width, height) in enumerate(shapes)]
    found, others, ways = decoded(decoder, files)
    assert not others
    assert ways == {Way.NVJPEG: len(files)}
    assert_same(found, files)


@pytest.mark.parametrize("subsampling", [0, 2])
def test_pictures_made_smaller_while_they_are_decoded_are_nearly_the_same(monkeypatch, subsampling):
    interpret_resize(monkeypatch)
    files = [photo(width, height, 1, subsampling=subsampling) for width, height in ((15, 17), (40, 33))]
    found, _, _ = decoded(GpuDecoder(CPU, 7), files)
    ours = np.stack([decode_square(data, 7, Limits()) for data in files])
    assert np.abs(ours.astype(int) - found).mean() < (1.5 if subsampling else 0.5)


def test_files_of_all_kinds_come_out_as_from_the_one_decode(monkeypatch):
    interpret_resize(monkeypatch, 1 << 15)
    files = [kind.data for kind in jpeg_kinds()]
    found, others, _ = decoded(GpuDecoder(CPU, 80), files)
    taken = [number for number in range(len(files)) if number not in others]
    assert_same(found[taken], [files[number] for number in taken])


def test_odd_images_have_the_same_reasons_and_fail_nobody(decoder):
    limits = Limits(max_bytes=60_000)
    files = [photo(32, 32), *(each.data for each in odd_images()), photo(32, 32)]
    found, others, _ = decoded(decoder, files, limits)
    for number, data in enumerate(files):
        expected = square_or_reject(data, SIZE, limits)
        if isinstance(expected, RejectedImage):
            assert number in others  # the one decode says why
        elif number not in others:
            assert np.abs(found[number].astype(int) - expected).mean() < 2


def test_groups_are_bounded_in_files_and_pixels(decoder, monkeypatch):
    decodes = Decodes(monkeypatch)
    files = [photo(10, 10, seed) for seed in range(10)]
    monkeypatch.setattr(gpu_decode, "MOST_FILES", 3)
    found, _, _ = decoded(decoder, files)
    assert max(decodes.sizes) <= 3
    assert_same(found, files)
    decodes.sizes.clear()
    decoder._most_pixels = 200
    assert not decoded(decoder, files)[1]
    assert max(decodes.sizes) == 2
    assert sum(decodes.sizes) == 10


@pytest.mark.parametrize("at", [0, 5, 8])
def test_one_bad_file_is_found_and_left_to_the_one_decode(decoder, monkeypatch, at):
    decodes = Decodes(monkeypatch, breaks_on_broken)
    files = [photo(32, 36, seed) for seed in range(9)]
    files[at] = BROKEN
    found, others, ways = decoded(decoder, files)
    assert others == [at]
    assert ways == {Way.NVJPEG: 8, Way.REFUSED: 1}
    assert decoder.hardware
    assert len(decodes.sizes) <= 9
    good = [number for number in range(9) if number != at]
    assert_same(found[good], [files[number] for number in good])


def test_a_picture_of_another_size_than_its_header_says_is_refused(decoder, monkeypatch):
    def liar(encoded, mode, device):
        images = decode_jpeg(encoded, mode, device=device)
        return [image[:, :-1] if image.shape[1] == 36 else image for image in images]

    monkeypatch.setattr(gpu_decode, "decode_jpeg", liar)
    _, others, ways = decoded(decoder, [photo(32, 33), photo(32, 36), photo(32, 34)])
    assert others == [1]
    assert ways == {Way.NVJPEG: 2, Way.REFUSED: 1}


def test_bad_files_do_not_end_the_hardware_way_where_others_succeed(decoder, monkeypatch):
    Decodes(monkeypatch, breaks_on_broken)
    _, others, ways = decoded(decoder, [BROKEN] * 6 + [photo(32, 36)] * 6)
    assert others == list(range(6))
    assert ways == {Way.NVJPEG: 6, Way.REFUSED: 6}
    assert decoder.hardware


def test_where_nothing_can_be_decoded_the_hardware_way_ends_with_one_notice(monkeypatch):
    interpret_resize(monkeypatch)
    Decodes(monkeypatch, lambda files: RuntimeError("Failed to initialize nvjpeg with hardware backend: 8\nand more"))
    lines: list[str] = []
    decoder = GpuDecoder(CPU, SIZE, lines.append)
    files = [photo(32, 36, seed) for seed in range(12)]
    _, others, ways = decoded(decoder, files)
    assert others == list(range(12))
    assert ways == {Way.REFUSED: 4, Way.NO_DECODER: 8}
    assert not decoder.hardware
    assert len(lines) == 1
    assert "hardware backend: 8" in lines[0]
    assert "\n" not in lines[0]
    assert decoded(decoder, files)[2] == {Way.NO_DECODER: 12}
    assert len(lines) == 1


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("Error while decoding JPEG images: CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("Error while decoding JPEG images: Failed to decode batch: 5"),
    ],
)
def test_short_memory_makes_groups_smaller_for_good_and_is_never_the_files_fault(decoder, monkeypatch, error):
    decodes = Decodes(monkeypatch, lambda files: error if len(files) > 2 else None)
    files = [photo(32, 36, seed) for seed in range(8)]
    found, others, ways = decoded(decoder, files)
    assert not others
    assert ways == {Way.NVJPEG: 8}
    assert_same(found, files)
    assert decodes.sizes == [8, 4, 2, 2, 2, 2]  # once 4 have failed, no other 4 are tried
    assert not decoded(decoder, files)[1]
    assert decodes.sizes[6:] == [2, 2, 2, 2]
    assert decoder.hardware


def test_a_picture_there_is_no_memory_for_takes_the_one_decode(decoder, monkeypatch):
    Decodes(monkeypatch, lambda files: torch.OutOfMemoryError() if BROKEN in files else None)
    files = [BROKEN, photo(32, 36), BROKEN, photo(32, 37), *[BROKEN] * 4]
    _, others, ways = decoded(decoder, files)
    assert others == [0, 2, 4, 5, 6, 7]
    assert ways == {Way.NVJPEG: 2, Way.REFUSED: 6}
    assert decoder.hardware


def test_an_error_of_the_device_ends_the_run(decoder, monkeypatch):
    Decodes(monkeypatch, lambda files: torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(torch.AcceleratorError):
        decoded(decoder, [photo(32, 36)])


def test_the_stream_has_passed_before_each_decode(decoder, monkeypatch):
    calls: list[str] = []
    monkeypatch.setattr(GpuDecoder, "_wait", lambda self: calls.append("wait"))

    def noting(files):
        calls.append("decode")
        return breaks_on_broken(files)

    Decodes(monkeypatch, noting)
    decoded(decoder, [photo(32, 36), BROKEN, photo(32, 36)])
    assert calls == ["wait", "decode"] * (len(calls) // 2)
    assert len(calls) > 4


def test_where_the_kernel_cannot_be_built_nothing_goes_to_nvjpeg():
    lines: list[str] = []
    decoder = GpuDecoder(CPU, SIZE, lines.append)  # compiled for a CPU, which Triton does not do
    assert not decoder.hardware
    assert len(lines) == 1
    assert "resize kernel" in lines[0]


def test_an_empty_batch_is_no_work(decoder):
    assert decoded(decoder, [])[1:] == ([], {})


@pytest.mark.gpu
def test_a_gpu_decodes_as_the_one_decode_does():
    lines: list[str] = []
    decoder = GpuDecoder(torch.device("cuda:0"), 160, lines.append)
    if not decoder.hardware:
        pytest.skip(lines[0])
    files = [photo(300, 200, seed) for seed in range(16)]
    found, others, _ = decoded(decoder, files)
    torch.cuda.synchronize()
    assert not others
    ours = np.stack([decode_square(data, 160, Limits()) for data in files])
    assert np.abs(ours.astype(int) - found).mean() < 2
