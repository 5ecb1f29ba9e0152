"""Where a network runs and in which arithmetic: names of devices and precisions, resolved on this machine."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch

from encoder.errors import HashgrainError, Reason
from encoder.model.spec import Precision

Stream: TypeAlias = Any
"""A `torch.cuda.Stream`, or a `torch.cpu.Stream`, which does nothing."""
Event: TypeAlias = Any
"""A `torch.cuda.Event`, or a `torch.cpu.Event`: `record()` and `wait()` are of the stream that `on_stream` chose, and
`synchronize()` lets the calling thread wait."""


def resolve_device(name: str) -> torch.device:
    """Return the device called `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        HashgrainError: `bad-value` when it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):
        device = None
    if device is None or device.type not in {"cpu", "cuda"}:
        there = ["auto", "cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise HashgrainError(Reason.BAD_VALUE, f"device {name!r} is not available here; give one of {', '.join(there)}")
    return device


def resolve_devices(names: str) -> list[str]:
    """Return the devices of a list with commas between; `all` is every CUDA device or, where there is none, the CPU.

    Raises:
        HashgrainError: `bad-value` when one is not there.
    """
    if names == "all":
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]
    return [str(resolve_device(name.strip())) for name in names.split(",")]


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """Return what `auto` means on a device."""
    if precision is not Precision.AUTO:
        return precision
    if device.type == "cpu":
        native = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    else:
        native = torch.cuda.is_bf16_supported()
    return Precision.BF16 if native else Precision.FP32


def fast_dtype(device: str = "cpu") -> torch.dtype:
    """Return the type that `Precision.AUTO` computes in."""
    precision = resolve_precision(Precision.AUTO, torch.device(device))
    return torch.bfloat16 if precision is Precision.BF16 else torch.float32


def new_stream(device: torch.device) -> Stream:
    """Return a queue for work of a device; on a CPU it does nothing, since work is done there when it is called."""
    return torch.cuda.Stream(device) if device.type == "cuda" else torch.cpu.Stream()  # type: ignore[no-untyped-call]


def new_event(device: torch.device) -> Event:
    """Return an event of a device, for which a thread waits asleep; on a CPU it has always happened."""
    return torch.cuda.Event(blocking=True) if device.type == "cuda" else torch.cpu.Event()  # type: ignore[no-untyped-call]


def on_stream(device: torch.device, stream: Stream) -> AbstractContextManager[object]:
    """Let what this thread asks of a device in the block go to a stream."""
    return torch.cuda.stream(stream) if device.type == "cuda" else nullcontext()
