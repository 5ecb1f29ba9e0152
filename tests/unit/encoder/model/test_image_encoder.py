"""Pictures to codes: packing on the device, memory that runs out, precisions and devices that nearly agree."""

import io
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch._dynamo.testing import CompileCounter

import encoder as encoder_package
from encoder.bits import binarize
from encoder.errors import HashgrainError
from encoder.images.decoding.decode import RejectedImage, decode_square
from encoder.images.limits import Limits
from encoder.levels import Level
from encoder.model.device import resolve_device
from encoder.model.image_encoder import ImageEncoder, compiled
from encoder.model.model_file import load_model
from encoder.model.spec import Precision
from encoder.runtime.parallel import ordered_map
from tests.support.pictures import encoded


@pytest.fixture
def encoder(model_path):
    return ImageEncoder(load_model(model_path), "cpu", Precision.FP32)


def pictures_in(encoder, files):
    """Pictures of files that all have one, in an array."""
    return np.stack(
        [
            np.asarray(picture.cpu() if isinstance(picture, torch.Tensor) else picture)
            for picture in encoder.pictures(files, Limits())
        ]
    )


def pictures_of(encoder, count):
    size = encoder.model.config.image_size
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_devices_of_other_kinds_are_refused():
    with pytest.raises(HashgrainError, match="'meta' is not available here; give one of auto, cpu"):
        resolve_device("meta")


def test_a_batch_that_memory_has_no_room_for_is_halved(encoder, monkeypatch):
    pictures, network, sizes = pictures_of(encoder, 11), encoder.model.network, []

    def small(images, levels):
        sizes.append(len(images))
        if len(images) > 3:
            raise torch.OutOfMemoryError
        return network(images, levels)

    whole = encoder.codes(pictures)
    monkeypatch.setattr(encoder, "network", small)
    for level, codes in encoder.codes(pictures).items():
        assert np.array_equal(codes, whole[level])
    assert sizes == [11, 5, 2, 2, 2, 2, 2, 1]
    sizes.clear()
    encoder.codes(pictures)
    assert sizes == [2, 2, 2, 2, 2, 1]  # it is remembered


def test_no_memory_for_one_image_is_told(encoder, monkeypatch):
    def none(images, levels):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(encoder, "network", none)
    with pytest.raises(HashgrainError, match="no memory for one image"):
        encoder.codes(pictures_of(encoder, 2))


def test_the_whole_network_can_be_compiled(encoder, monkeypatch):
    """Nothing in it sends the compiler back to Python; what it makes of it, inductor's part, is left out for its time."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda net, **kw: real(net, backend="eager", fullgraph=True, **kw))
    pictures = torch.from_numpy(pictures_of(encoder, 3))
    network = compiled(encoder.model.network, pictures[:2], tuple(Level))
    assert network is not encoder.model.network
    with torch.inference_mode():
        for level, logits in network(pictures, None).items():
            assert torch.allclose(logits, encoder.model.network(pictures, None)[level], atol=1e-4)


def test_it_is_compiled_once_for_all_batches(encoder, monkeypatch):
    real, counter = torch.compile, CompileCounter()
    monkeypatch.setattr(torch, "compile", lambda net, **kw: real(net, backend=counter, **kw))
    levels = (Level.FINE, Level.MID)
    encoder.network = compiled(encoder.model.network, torch.from_numpy(pictures_of(encoder, 4)), levels)
    for codes in ordered_map(lambda count: encoder.codes(pictures_of(encoder, count), levels), [5, 3, 2], workers=2):
        assert list(codes) == list(levels)
    assert counter.frame_count == 1


def test_a_network_that_cannot_be_compiled_runs_as_it_is(encoder, monkeypatch):
    def none(_, **__):
        def fail(*_):
            raise RuntimeError

        return fail

    monkeypatch.setattr(torch, "compile", none)
    notices: list[str] = []
    network = encoder.model.network
    assert compiled(network, torch.zeros(1), tuple(Level), notices.append) is network
    assert "cannot be compiled" in notices[0]


def test_pictures_or_reasons_in_order(encoder):
    good, bad, other = encoder.pictures([encoded(1), b"no picture", encoded(2)], Limits())
    assert isinstance(bad, RejectedImage)
    codes = encoder.codes([good, other])
    for level, of_level in encoder.codes(np.stack([good, other])).items():
        assert np.array_equal(of_level, codes[level])


def bits_that_differ(codes, others):
    wrong = sum(int(np.bitwise_count(codes[level] ^ others[level]).sum()) for level in codes)
    return wrong / sum(8 * of_level.size for of_level in codes.values())


def test_bf16_and_fp32_nearly_agree(model_path):
    encoders = [ImageEncoder(load_model(model_path), "cpu", each) for each in (Precision.FP32, Precision.BF16)]
    pictures = pictures_in(encoders[0], [encoded(seed) for seed in range(64)])
    codes, others = (encoder.codes(pictures) for encoder in encoders)
    assert bits_that_differ(codes, others) <= 0.015


def test_both_decodes_nearly_agree_in_codes(encoder):
    from encoder.images.decoding.gpu_decode import decode_squares

    files = []
    for seed in range(64):
        stream = io.BytesIO()
        Image.open(io.BytesIO(encoded(seed))).resize((90, 80)).save(stream, "JPEG", quality=90)
        files.append(stream.getvalue())
    theirs = decode_squares(files, encoder.model.config.image_size, Limits(), torch.device("cpu"))
    codes = encoder.codes(pictures_in(encoder, files))
    assert bits_that_differ(codes, encoder.codes(np.stack([np.asarray(picture) for picture in theirs]))) <= 0.005


@pytest.mark.gpu
def test_a_gpu_codes_nearly_as_a_cpu_does(model_path):
    cpu = ImageEncoder(load_model(model_path), "cpu", Precision.FP32)
    gpu = ImageEncoder(load_model(model_path), "cuda", Precision.BF16, compile_for=tuple(Level))
    files = [encoded(seed) for seed in range(100)]
    codes = cpu.codes(pictures_in(cpu, files))
    others = gpu.codes(pictures_in(gpu, files))
    assert bits_that_differ(codes, others) <= 0.015


def test_a_program_gets_codes_and_logits_of_any_number_of_images(model_path):
    model = encoder_package.load(model_path, "cpu", "fp32")
    files = [encoded(number, "PNG") for number in range(70)]
    squares = np.stack([decode_square(data, 64, Limits()) for data in files])
    found = model.encode([*files[:69], Image.open(BytesIO(files[69]))])
    for level in Level:
        logits = np.concatenate([model.logits(squares[at : at + 32])[level] for at in range(0, 70, 32)])
        np.testing.assert_array_equal(found.logits[level], logits)
        np.testing.assert_array_equal(found.codes[level], binarize(logits))
    assert list(model.encode(files[:2], ["mid"]).codes) == [Level.MID]
    assert [codes.shape for codes in model.encode([]).codes.values()] == [(0, 8)] * 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere.safetensors",), "model file nowhere.safetensors cannot be used: it does not exist"),
        (("model", "abacus"), "device 'abacus' is not available here"),
        (("model", "cpu", "fp8"), "precision 'fp8' is not known; give one of auto, fp32, bf16"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_one_line(model_path, arguments, says):
    with pytest.raises(HashgrainError) as caught:
        encoder_package.load(*(model_path if each == "model" else each for each in arguments))
    assert says in str(caught.value)


def test_a_level_that_the_model_has_not_is_one_line(encoder):
    encoder.model.config.heads.pop(Level.MID)
    with pytest.raises(HashgrainError, match="the model has no level mid"):
        encoder.encode([encoded(1)], [Level.MID])
