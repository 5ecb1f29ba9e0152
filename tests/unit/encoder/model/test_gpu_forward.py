"""The network on slots: the codes of the one way, one static compilation, memory that runs out."""

import re

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode

from encoder.bits import binarize
from encoder.errors import HashgrainError
from encoder.images.decoding.decode import decode_square
from encoder.images.limits import Limits
from encoder.levels import Level
from encoder.model.backbone import BACKBONES
from encoder.model.gpu_forward import CPU_SLOT, SLOTS, GpuForward, Packer, packed
from encoder.model.image_encoder import ImageEncoder
from encoder.model.model_file import load_model
from encoder.model.spec import Activation, HeadSpec, KernelSpec, Normalisation, Pooling, Precision
from tests.support.fake_cuda import cuda_codes, fake_module, network
from tests.support.pictures import encoded

LEVELS = (Level.MID, Level.FUSED)


@pytest.fixture
def encoder(model_path):
    return ImageEncoder(load_model(model_path), "cpu", Precision.FP32)


@pytest.fixture
def pictures(encoder):
    side = encoder.model.config.image_size
    return np.random.default_rng(0).integers(0, 256, (8, side, side, 3), dtype=np.uint8)


@pytest.fixture
def counter(monkeypatch):
    """Count what is compiled; what inductor makes of it is left out for its time."""
    real, counter = torch.compile, CompileCounter()
    monkeypatch.setattr(torch, "compile", lambda net, **kw: real(net, backend=counter, **kw))
    return counter


def ready(encoder, batch: int | None = 8, **kw):
    forward = GpuForward(encoder.model, encoder.device, LEVELS, batch=batch, **kw)
    forward.prepare()
    return forward


def coded(forward, pictures, slot=0):
    """Return codes of pictures that stand at a slot's beginning, with what was there before behind them."""
    forward.slots[slot].staging[: len(pictures)] = torch.from_numpy(pictures)
    forward.slots[slot].squares.copy_(forward.slots[slot].staging, non_blocking=True)
    forward.slots[slot].filled.record()
    forward.run(forward.slots[slot], len(pictures))
    return forward.codes(forward.slots[slot], len(pictures))


def test_a_device_packs_as_numpy_does(rng):
    logits = rng.standard_normal((7, 48)).astype(np.float32)
    logits[0, :3] = 0.0, -0.0, np.nan
    assert np.array_equal(packed(torch.from_numpy(logits)).numpy(), binarize(logits))


@pytest.mark.parametrize("compiles", [False, True])
def test_short_batches_have_the_codes_of_the_one_way_and_one_compilation(encoder, pictures, counter, compiles):
    forward = ready(encoder, compile=compiles)
    whole = encoder.codes(pictures, LEVELS)
    for number, count in enumerate((8, 5, 1, 8)):
        codes = coded(forward, pictures[:count], number % SLOTS)
        assert list(codes) == list(LEVELS)
        for level, of_level in codes.items():
            assert of_level.flags.c_contiguous
            assert np.array_equal(of_level, whole[level][:count])
    assert forward.compiled is compiles
    assert counter.frame_count == compiles


@pytest.fixture
def memory(monkeypatch):
    """Let the CPU tell its memory as a GPU does: 4 GB free, 16 images take 160 MB."""
    told = iter([100e6, 260e6])
    for name in ("memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(torch.cpu, name, lambda _: next(told), raising=False)
    monkeypatch.setattr(torch.cpu, "reset_peak_memory_stats", lambda _: None, raising=False)
    monkeypatch.setattr(torch.cpu, "mem_get_info", lambda _: (4e9, 8e9), raising=False)


def test_the_probe_of_memory_costs_no_compilation(encoder, pictures, counter, memory):
    notices: list[str] = []
    forward = ready(encoder, batch=None, compile=True, notify=notices.append)
    assert forward.batch == len(forward.slots[0].squares) == 128  # of 197 that fit half of what is free
    coded(forward, pictures)
    assert counter.frame_count == 1
    assert notices == ["cpu: compiling the network, which takes up to a minute"]


def test_a_batch_is_what_is_wanted_or_what_a_cpu_has(encoder):
    assert ready(encoder, 5).batch == 5
    assert ready(encoder, None).batch == CPU_SLOT


@pytest.fixture
def compiler(monkeypatch):
    """Let `compiler(run)` stand for what the compiler makes of a network, run(network, images)."""

    def make(run):
        monkeypatch.setattr(torch, "compile", lambda net, **kw: lambda images: run(net, images))

    return make


def test_a_network_that_cannot_be_compiled_runs_as_it_is(encoder, pictures, compiler):
    def none(*_):
        raise RuntimeError("no compiler")

    compiler(none)
    notices: list[str] = []
    forward = ready(encoder, compile=True, notify=notices.append)
    assert not forward.compiled
    assert "cannot be compiled here (RuntimeError)" in notices[1]
    assert np.array_equal(coded(forward, pictures)[Level.MID], encoder.codes(pictures)[Level.MID])


def test_a_batch_that_does_not_fit_when_compiled_is_halved(encoder, pictures, compiler):
    sizes = []

    def small(net, images):
        sizes.append(len(images))
        if len(images) > 3:
            raise torch.OutOfMemoryError
        return net(images)

    compiler(small)
    forward = ready(encoder, compile=True)
    assert (forward.batch, forward.compiled, sizes) == (2, True, [8, 4, 2])
    assert np.array_equal(coded(forward, pictures[:2])[Level.MID], encoder.codes(pictures[:2])[Level.MID])


def test_no_memory_for_a_slot_of_one_image_is_told(encoder, compiler):
    def none(*_):
        raise torch.OutOfMemoryError

    compiler(none)
    with pytest.raises(HashgrainError, match="device cpu has no memory for one image"):
        ready(encoder, compile=True)


def test_memory_that_becomes_short_later_costs_the_compiled_network_not_the_codes(
    encoder, pictures, compiler, monkeypatch
):
    short = False

    def sometimes(net, images):
        if short:
            raise torch.OutOfMemoryError
        return net(images)

    compiler(sometimes)
    sizes: list[int] = []

    def counted(images, levels):
        sizes.append(len(images))
        return network(images, levels)

    notices: list[str] = []
    forward, whole = ready(encoder, compile=True, notify=notices.append), encoder.codes(pictures, LEVELS)
    network = encoder.model.network.forward
    monkeypatch.setattr(encoder.model.network, "forward", counted)
    coded(forward, pictures)
    short = True
    for _ in range(2):
        assert all(np.array_equal(codes, whole[level]) for level, codes in coded(forward, pictures).items())
    short = False
    coded(forward, pictures)
    assert not forward.compiled
    assert sizes == [8, *[4, 4] * 3]  # it is remembered
    assert ["memory has become short" in line for line in notices] == [False, True]


def test_codes_are_copies(encoder, pictures):
    forward = ready(encoder)
    codes = coded(forward, pictures)[Level.MID]
    before = codes.copy()
    coded(forward, pictures[::-1].copy())
    assert np.array_equal(codes, before)


def packed_on_fake_cuda(net, size, levels=tuple(Level)):
    with FakeTensorMode(), torch.inference_mode():
        images = torch.zeros((4, size, size, 3), dtype=torch.uint8, device="cuda:0")
        return fake_module(Packer(net, levels))(images)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_and_pooling_stays_on_the_gpu_to_its_packed_codes(name):
    """Devices and types that do not go together are errors of fake tensors, as of a GPU."""
    net = network(name)
    for pooling in Pooling:
        for pool in net.pools.values():
            pool.pooling = pooling
        codes = packed_on_fake_cuda(net, 32 if name == "threeblock" else 64)
        assert (codes.shape, codes.dtype, str(codes.device)) == ((4, 32), torch.uint8, "cuda:0")


@pytest.mark.parametrize("normalisation", Normalisation)
@pytest.mark.parametrize("neighbours", [None, 3])
def test_exits_kernels_and_sines_stay_on_the_gpu(normalisation, neighbours):
    heads = {
        Level.FINE: HeadSpec(16, Activation.SINE, KernelSpec(30, 0.5, neighbours)),
        Level.MID: HeadSpec(24),
        Level.FUSED: HeadSpec(40, kernel=KernelSpec(20, 2.0, neighbours)),
    }
    net = network("threeblock", Pooling.ATTENTION, heads, normalisation, {Level.FINE: (8, 4)})
    for levels in (tuple(heads), (Level.FINE,), (Level.FUSED, Level.MID)):
        codes = packed_on_fake_cuda(net, 32, levels)
        assert (codes.shape[1], str(codes.device)) == (sum(heads[level].bits // 8 for level in levels), "cuda:0")


def faults(code):
    """Return what makes the code for a GPU slow: work of the host, feature maps that are copied into another layout, sizes not known."""
    call = code[code.index("def call(") : code.index("\nrunner = ")]
    found = [
        line.strip()[:150]
        for line in code.splitlines()
        if re.search(
            r"async_compile\.cpp|cpp_fused|device\(type='cpu'|empty_strided_cpu\(|_tensor_constant|\.copy_\(", line
        )
    ]
    made = re.findall(r"assert_tensor_metadata\(\w+, (\(.*?\)), (\(.*?\)), \S+ 'torch\.ops\.aten\.convolution", call)
    if not len(made) == call.count("extern_kernels.convolution(") > 0:
        found.append(f"{len(made)} of {call.count('extern_kernels.convolution(')} convolutions tell their layout")
    for shape, stride in made:
        channels, strides = int(shape.split(", ")[1]), stride[1:-1].split(", ")
        if channels > 1 and strides[1] != "1":  # the map of an attention has one channel
            found.append(f"a convolution's map of {shape} has strides {stride}")
    weights = re.findall(r"extern_kernels\.convolution\(.*, (\w+), stride=", call)
    found += [
        f"the weights {name} are brought into another layout in each forward"
        for name in weights
        if not name.startswith("arg")
    ]
    found += [f"the size {size} is not known" for size in sorted(set(re.findall(r"\bs\d+\b", call)))]
    if not re.search(r"\(16, 32\), \(32, 1\), torch\.uint8\)", call) or not re.search(r"return \(\w+, \)", call):
        found.append("something else than packed codes comes out")
    return found


def test_the_code_for_a_gpu_has_no_host_in_it_and_channels_last_and_static_sizes(tmp_path):
    for name, code in cuda_codes(tmp_path, "threeblock:32", "alexnet:64", "resnet18:64").items():
        assert (name, faults(code)) == (name, [])


@pytest.mark.gpu
def test_a_compiled_network_codes_nearly_as_a_cpu_does(encoder, model_path):
    pictures = np.stack(
        [decode_square(encoded(seed), encoder.model.config.image_size, Limits()) for seed in range(100)]
    )
    gpu = ImageEncoder(load_model(model_path), "cuda", Precision.BF16)
    forward = GpuForward(gpu.model, gpu.device, LEVELS, compile=True)
    forward.prepare()
    assert forward.compiled
    assert forward.batch >= len(pictures)
    codes, others = encoder.codes(pictures, LEVELS), coded(forward, pictures)
    wrong = sum(int(np.bitwise_count(codes[level] ^ others[level]).sum()) for level in LEVELS)
    assert wrong <= 0.015 * sum(8 * of_level.size for of_level in codes.values())


@pytest.mark.slow
def test_the_code_of_a_resnet_50_has_no_host_in_it_and_channels_last_and_static_sizes(tmp_path):
    (code,) = cuda_codes(tmp_path, "resnet50:224").values()
    assert faults(code) == []
