"""What is installed here, and what of it a GPU encoder needs and does not find."""

import ctypes
import importlib
import os
import platform
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu_check.check import Check
from encoder.runtime.cores import worker_count

PACKAGES = (
    "torch",
    "torchvision",
    "triton",
    "numpy",
    "PIL",
    "h5py",
    "numba",
    "faiss",
    "safetensors",
    "pyarrow",
    "pi_heif",
)


def versions(check: Check) -> None:
    """Say versions, the GPU, and whether decoders and compilers are there; each by itself, so that none hides the next."""
    check.result("Python", sys.version.split()[0])
    for name in PACKAGES:
        _say(check, name, partial(_version, name))
    check.result("cores", worker_count(), _processor())
    _say(check, "memory", lambda: f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB")
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    check.hold("C compiler, for Triton", compiler or "none", holds=compiler is not None)
    if not check.on_gpu:
        return
    properties = torch.cuda.get_device_properties(check.device)
    check.result("GPU", f"{properties.name}, {properties.multi_processor_count} multiprocessors")
    check.result("GPU memory", properties.total_memory / 2**30, "GiB")
    _say(check, "CUDA of torch", lambda: str(torch.version.cuda))
    _say(check, "driver", _driver)
    _say(check, "capabilities of the driver", lambda: os.environ.get("NVIDIA_DRIVER_CAPABILITIES", "not set"))
    _say(check, "libnvcuvid", lambda: f"{ctypes.CDLL('libnvcuvid.so.1')._name} loads")
    status = _status(check)
    check.hold("hardware decoder of nvJPEG", status or "there", holds=status is None)
    _say(check, "libnvjpeg", lambda: ", ".join(sorted(_mapped("libnvjpeg"))))


def _say(check: Check, what: str, ask: Callable[[], str]) -> None:
    try:
        check.result(what, ask())
    except Exception as err:  # noqa: BLE001  whatever it is, it is missing, and that is to be said
        check.result(what, f"missing ({type(err).__name__}: {err})")


def _version(name: str) -> str:
    module = importlib.import_module(name)
    return str(getattr(module, "__version__", "there"))


def _status(check: Check) -> str | None:
    from encoder.images.decoding.nvjpeg import hardware_status

    try:
        return hardware_status(check.device)
    except Exception as err:  # noqa: BLE001  this call itself is to be proven here
        return f"asking failed ({type(err).__name__}: {err})"


def _driver() -> str:
    return Path("/proc/driver/nvidia/version").read_text().splitlines()[0].partition(":")[2].strip()


def _mapped(library: str) -> set[str]:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[-1] for line in lines if library in line}


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
