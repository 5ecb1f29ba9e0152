"""Pictures to codes: memory that runs out, precisions and devices that nearly agree."""

import itertools
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode

import encoder as encoder_package
from encoder.bits import binarize
from encoder.errors import HashgrainError
from encoder.images.decoding.decode import RejectedImage, decode_square
from encoder.images.decoding.gpu_decode import GpuDecoder, route
from encoder.images.inputs import ImageLike, look
from encoder.images.limits import Limits
from encoder.images.region import WHOLE, Region, RegionMode
from encoder.levels import Level
from encoder.model.device import resolve_device
from encoder.model.image_encoder import ImageEncoder
from encoder.model.model_file import Model, load_model
from encoder.model.spec import BackboneSpec, ModelConfig, Pooling, Precision
from tests.support.fake_cuda import HEADS, network
from tests.support.interpreted_resize import interpret_resize
from tests.support.jpeg_kinds import photo
from tests.support.pictures import encoded


@pytest.fixture
def encoder(model_path):
    return ImageEncoder(load_model(model_path), "cpu", Precision.FP32)


def pictures_in(encoder, files):
    """Pictures of files that all have one, in an array."""
    return np.stack([np.asarray(picture) for picture in encoder.pictures(files, Limits())])


def pictures_of(encoder, count):
    size = encoder.model.config.image_size
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_devices_of_other_kinds_are_refused():
    with pytest.raises(HashgrainError, match="'meta' is not available here; give one of auto, cpu"):
        resolve_device("meta")


def test_a_batch_that_memory_has_no_room_for_is_halved(encoder, monkeypatch):
    pictures, network, sizes = pictures_of(encoder, 11), encoder.model.network, list[int]()
    forward = network.forward

    def small(images, levels):
        sizes.append(len(images))
        if len(images) > 3:
            raise torch.OutOfMemoryError
        return forward(images, levels)

    whole = encoder.codes(pictures)
    monkeypatch.setattr(network, "forward", small)
    for level, codes in encoder.codes(pictures).items():
        assert np.array_equal(codes, whole[level])
    assert sizes == [11, 5, 2, 2, 2, 2, 2, 1]
    sizes.clear()
    encoder.codes(pictures)
    assert sizes == [2, 2, 2, 2, 2, 1]  # it is remembered


def test_no_memory_for_one_image_is_told(encoder, monkeypatch):
    def none(images, levels):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(encoder.model.network, "forward", none)
    with pytest.raises(HashgrainError, match="no memory for one image"):
        encoder.codes(pictures_of(encoder, 2))


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


def test_both_decodes_nearly_agree_in_codes(encoder, monkeypatch):
    interpret_resize(monkeypatch, 1 << 14)
    files = [photo(90, 80, seed, quality=90) for seed in range(8)]
    routed = route(files, Limits(), hardware=True)
    theirs = torch.zeros((8, 64, 64, 3), dtype=torch.uint8)
    assert GpuDecoder(torch.device("cpu"), 64).decode_into(routed, theirs, torch.zeros((8, 8), dtype=torch.int64)) == []
    codes = encoder.codes(pictures_in(encoder, files))
    assert bits_that_differ(codes, encoder.codes(theirs.numpy())) <= 0.005


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_gpu_has_its_number_and_computes_float32_where_float32_is_said(name, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, *_, **__: module)  # not allowed of fake tensors
    config = ModelConfig(BackboneSpec("threeblock"), 32, Pooling.ATTENTION, HEADS)
    model = Model(config, network("threeblock"), "")
    with FakeTensorMode():
        encoder = ImageEncoder(model, name, Precision.BF16)
    assert str(encoder.device) == "cuda:0"
    assert not torch.backends.cudnn.allow_tf32  # in bf16, too: attention and hash layers are float32


@pytest.mark.gpu
def test_a_gpu_codes_nearly_as_a_cpu_does(model_path):
    cpu = ImageEncoder(load_model(model_path), "cpu", Precision.FP32)
    pictures = pictures_in(cpu, [encoded(seed) for seed in range(100)])
    codes = cpu.codes(pictures)
    for precision, most in ((Precision.FP32, 0.002), (Precision.BF16, 0.015)):
        gpu = ImageEncoder(load_model(model_path), "cuda", precision)
        assert bits_that_differ(codes, gpu.codes(pictures)) <= most


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


WIDE = Image.effect_noise((90, 60), 80).convert("RGB")


@pytest.mark.parametrize("mode", RegionMode)
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
def test_the_whole_picture_as_a_region_has_the_plain_code_bit_for_bit(model_path, mode, precision):
    model = ImageEncoder(load_model(model_path), "cpu", precision)
    images: list[ImageLike] = [WIDE, WIDE.rotate(90, expand=True), photo(512, 400, 3, quality=90), encoded(4)]
    plain = model.encode(images)
    for regions in ([WHOLE] * 4, [None, WHOLE, WHOLE, None]):
        found = model.encode(images, regions=regions, mode=mode)
        for level in Level:
            np.testing.assert_array_equal(found.logits[level], plain.logits[level])


def test_a_region_by_its_crop_has_the_code_of_the_crop(encoder):
    region = Region(0.5, 0.25, 1 / 3, 0.5)
    found = encoder.encode([WIDE], regions=[region], mode=RegionMode.CROP)
    expected = encoder.logits([look(WIDE, 64, Limits(), region, RegionMode.CROP).pixels])
    for level in Level:
        np.testing.assert_array_equal(found.logits[level], expected[level])


def test_a_region_by_attention_is_seen_in_the_whole_picture(encoder):
    found = encoder.encode([WIDE, WIDE], regions=[Region(0.5, 0.25, 1 / 3, 0.5), None], mode=RegionMode.ATTENTION)
    plain = encoder.encode([WIDE, WIDE])
    square = look(WIDE, 64, Limits(), Region(0.5, 0.25, 1 / 3, 0.5), RegionMode.ATTENTION)
    assert square.square == pytest.approx((15 / 90, 0, 75 / 90, 1))
    assert square.inside == pytest.approx((0.5, 0.25, 1, 0.75))
    expected = encoder.logits([square.pixels] * 2, boxes=np.array([square.inside, (0, 0, 1, 1)], np.float32))
    for level in Level:
        np.testing.assert_array_equal(found.logits[level][0], expected[level][0])
        np.testing.assert_array_equal(found.logits[level][1], plain.logits[level][1])
        assert (found.logits[level][0] != plain.logits[level][0]).any()


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
def test_the_shares_of_places_add_up_to_the_logits_that_make_the_code(model_path, precision):
    model = ImageEncoder(load_model(model_path), "cpu", precision)
    [picture] = pictures_of(model, 1)
    for level, box in itertools.product(Level, (None, (0.2, 0.1, 0.6, 0.8))):
        logits = model.logits([picture], [level], None if box is None else np.array([box], np.float32))[level][0]
        found = model.shares(picture, level, box)
        total = sum(grid.astype(np.float64).sum(axis=(1, 2)) for grid in found.grids)
        assert (np.abs(total - logits) <= 1e-4 * (1 + np.abs(logits))).all()


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
