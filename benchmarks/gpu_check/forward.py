"""The network alone: eager, compiled for any batch, compiled for one, and as CUDA graphs; and its codes against a CPU's in fp32."""

import time
from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu_check.check import Check
from benchmarks.gpu_check.photos import Kind, files_of, model_of, side_of
from encoder.images.decoding.decode import decode_square
from encoder.images.limits import Limits
from encoder.model.gpu_forward import GpuForward, Packer, Slot
from encoder.model.image_encoder import ImageEncoder
from encoder.model.model_file import load_model
from encoder.model.spec import Precision

BATCH: Final = 512
SECONDS: Final = 2.0
MOST_BITS: Final = 0.015
"""Share of bits in which codes in bf16 on a GPU may differ from a CPU's in fp32."""
STATIC: Final = "static, as the pipeline runs it"


def forward_rate(check: Check) -> None:
    """Measure from what costs nothing to compile to what costs most; what comes later may fail or be killed."""
    _codes(check)
    images = torch.randint(0, 256, (check.count(BATCH, 8), *[side_of(check)] * 2, 3), dtype=torch.uint8)
    images = images.to(check.device)
    packer = _packer(check)
    _measure(check, "eager", packer, images)
    _static(check)
    if not check.on_gpu:
        return
    for way, options in (("CUDA graphs", {"mode": "reduce-overhead"}), ("dynamic", {"dynamic": True})):
        torch._dynamo.reset()
        began = time.perf_counter()
        compiled: Callable[[Tensor], Tensor] = torch.compile(packer, **{"dynamic": False, **options})  # type: ignore[call-overload]
        with torch.inference_mode():
            compiled(images)
        check.synchronise()
        check.result(f"{way}: compiled in", time.perf_counter() - began, "s")
        _measure(check, way, compiled, images)


def _packer(check: Check) -> Packer:
    encoder = ImageEncoder(load_model(model_of(check)), str(check.device))
    return Packer(encoder.model.network, tuple(encoder.model.config.bits))


def _static(check: Check) -> None:
    """Measure the forward of the pipeline, compiled where a GPU is; the first time says what compiling costs a user."""
    encoder = ImageEncoder(load_model(model_of(check)), str(check.device))
    forward = GpuForward(
        encoder.model,
        check.device,
        tuple(encoder.model.config.bits),
        batch=None if check.on_gpu else check.count(BATCH, 8),
        compile=check.on_gpu,
        notify=lambda line: check.result("notice", line),
    )
    began = time.perf_counter()
    forward.prepare()
    check.result(f"{STATIC}: ready after", time.perf_counter() - began, "s")
    check.hold(f"{STATIC}: compiled", str(forward.compiled), holds=forward.compiled or not check.on_gpu)
    check.result(f"{STATIC}: batch", forward.batch)
    _measure(check, STATIC, lambda _: _through_slot(forward), forward.slots[0].squares)


def _through_slot(forward: GpuForward) -> None:
    """Fill and run a slot whose turn it is, as the pipeline does, without waiting."""
    slot: Slot = forward.slots[0]
    slot.filled.record()
    forward.run(slot, forward.batch)


def _measure(check: Check, way: str, work: Callable[[Tensor], object], images: Tensor) -> None:
    with torch.inference_mode():
        work(images)
        check.synchronise()
        if check.on_gpu:
            torch.cuda.reset_peak_memory_stats(check.device)
        began, done = time.perf_counter(), 0
        while done < 2 * len(images) or time.perf_counter() - began < check.seconds(SECONDS):
            work(images)
            done += len(images)
            if done % (8 * len(images)) == 0:
                check.synchronise()
        check.synchronise()
    check.result(f"{way}, {len(images)} per batch", done / (time.perf_counter() - began), "images/s")
    if check.on_gpu:
        check.result(f"{way}: memory", torch.cuda.max_memory_allocated(check.device) / 2**30, "GiB")


def _codes(check: Check) -> None:
    """Compare codes of the same pixels, so that only the network differs."""
    files = files_of(check, Kind.VARIED, check.count(256, 16))
    squares = np.stack([decode_square(data, side_of(check), Limits()) for data in files])
    truth = ImageEncoder(load_model(model_of(check)), "cpu", Precision.FP32).codes(squares)
    for precision in (Precision.FP32, Precision.BF16):
        codes = ImageEncoder(load_model(model_of(check)), str(check.device), precision).codes(squares)
        apart = sum(int(np.bitwise_count(codes[level] ^ truth[level]).sum()) for level in truth)
        share = apart / sum(8 * found.size for found in truth.values())
        what = f"codes in {precision} against fp32 on a CPU: bits that differ"
        check.hold(what, 100 * share, "%", holds=share <= MOST_BITS)
