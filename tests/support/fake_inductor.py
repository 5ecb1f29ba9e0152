"""The CUDA code that torch's compiler makes of a network, on a machine without a GPU: `python -m tests.support.fake_inductor NAME:SIZE ...`.

`GpuForward` compiles fake tensors, and the compiler is told of an H200. What cannot be known without a device is answered as one
would answer. All of it reaches deep into torch, so it runs in a process of its own and for the version that it was written for.
"""

import json
import os
import sys
from importlib import import_module
from types import SimpleNamespace
from typing import Any

os.environ |= {"TORCHINDUCTOR_COMPILE_THREADS": "1", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}

import torch
import torch._inductor.config as inductor_config
import torch._inductor.graph as inductor_graph
from torch._dynamo import device_interface
from torch._inductor import scheduler
from torch._inductor.compile_fx import compile_fx
from torch._inductor.fx_passes import joint_graph, post_grad
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from encoder.levels import Level
from encoder.model.gpu_forward import GpuForward
from encoder.model.model_file import Model
from encoder.model.spec import BackboneSpec, ModelConfig, Pooling
from tests.support.fake_cuda import HEADS, fake_module, network

H200 = SimpleNamespace(
    name="NVIDIA H200", major=9, minor=0, multi_processor_count=132, max_threads_per_multi_processor=2048, max_threads_per_block=1024,
    regs_per_multiprocessor=65536, warp_size=32, total_memory=143771 << 20, gcnArchName="", shared_memory_per_block=49152,
    shared_memory_per_block_optin=232448, shared_memory_per_multiprocessor=233472, L2_cache_size=62914560, is_integrated=0,
    is_multi_gpu_board=0,
)  # fmt: skip
LEVELS = tuple(Level)


class _Seen(Exception):
    """The code is there; nothing could run it."""


def cuda_code(name: str, size: int, batch: int = 16) -> str:
    """Return what a backbone's forward becomes, as Python that launches kernels."""
    found: list[str] = []
    generate = inductor_graph.GraphLowering.codegen

    def seen(self: Any) -> Any:
        code = generate(self)[0]
        found.append(getattr(code, "value", str(code)))
        raise _Seen

    inductor_graph.GraphLowering.codegen = seen  # type: ignore[method-assign]
    torch._dynamo.reset()
    net = network(name).requires_grad_(False)
    config = ModelConfig(BackboneSpec(name), size, Pooling.ATTENTION, HEADS)
    with FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv()):
        fake_module(net)
        notices: list[str] = []
        forward = GpuForward(
            Model(config, net, ""), torch.device("cuda:0"), LEVELS, batch=batch, compile=True, notify=notices.append
        )
        forward.prepare()
    inductor_graph.GraphLowering.codegen = generate  # type: ignore[method-assign]
    if not found:
        raise RuntimeError(f"no code was made: {notices}")
    return found[0]


def always(answer: Any = None) -> Any:
    """Return a function of its own that answers so whatever it is asked: the compiler keeps notes by function."""
    return lambda *_, **__: answer


def pretend() -> None:
    """Let torch believe in an H200 that is never asked to do anything."""
    cuda: Any = torch.cuda
    cuda.Stream, cuda.Event, cuda.stream = always(torch.cpu.Stream()), always(torch.cpu.Event()), torch.cpu.stream
    for name in ("set_device", "synchronize", "_lazy_init", "set_rng_state"):
        setattr(cuda, name, always())
    cuda.get_rng_state = always(torch.zeros(16, dtype=torch.uint8))
    for name in ("_exchange_device", "_maybe_exchange_device", "current_device"):
        setattr(cuda, name, always(0))
    cuda.is_available, cuda.is_bf16_supported, cuda.is_current_stream_capturing = (
        always(True),
        always(True),
        always(False),
    )
    cuda.device_count, cuda.get_device_capability = always(1), always((9, 0))
    cuda.get_device_properties, cuda._get_device_properties = always(H200), always(H200)
    interface: Any = device_interface.CudaInterface
    interface.Worker.get_device_properties = staticmethod(always(H200))
    interface.get_compute_capability = staticmethod(always(90))
    interface.is_available = staticmethod(always(True))
    interface.current_device = staticmethod(always(0))
    interface.raise_if_triton_unavailable = staticmethod(always())
    others: Any = torch.accelerator
    others.is_available = always(False)  # of its streams the compiler would ask
    inner: Any = torch._C
    inner._cuda_getDeviceCount, inner._cuda_getCurrentRawStream = always(1), always(0)
    # what a machine with cuDNN answers: without a device torch would take its slow kernel, which knows no channels last
    inner._select_conv_backend = always(inner._ConvBackend.Cudnn)
    inner._conv_determine_backend_memory_format = lambda images, weight, _bias: (
        torch.channels_last if _is_channels_last(images) or _is_channels_last(weight) else torch.contiguous_format
    )
    triton: Any = import_module("triton.runtime").driver
    target: Any = import_module("triton.backends.compiler").GPUTarget("cuda", 90, 32)
    triton.set_active(
        SimpleNamespace(
            get_current_target=always(target),
            get_current_device=always(0),
            get_current_stream=always(0),
            get_active_torch_device=always(torch.device("cuda", 0)),
        )
    )
    mode: Any = FakeTensorMode
    mode.avoid_device_init = True
    modules: Any = (scheduler, joint_graph, post_grad)
    for module in modules:
        module.has_triton = always(True)
        module.lazy_init = always()
    options: Any = inductor_config
    options.pattern_matcher = options.joint_graph_constant_folding = options.use_joint_graph_passes = False


def _is_channels_last(tensor: torch.Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def main() -> None:
    """Print the code of each NAME:SIZE as JSON."""
    real: Any = torch.compile

    def backend(graph: Any, inputs: Any) -> Any:
        return compile_fx(graph, inputs)

    torch.compile = lambda net, **options: real(net, backend=backend, **options)  # type: ignore[assignment]
    pretend()
    codes = {}
    for each in sys.argv[1:]:
        name, size = each.split(":")
        codes[each] = cuda_code(name, int(size))
    sys.stdout.write(json.dumps(codes))


if __name__ == "__main__":
    main()
