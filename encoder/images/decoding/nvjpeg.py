"""Whether nvJPEG has its hardware decoder here, which torchvision takes or does without, silently."""

import ctypes
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import torch


def hardware_status(device: torch.device) -> str | None:
    """Return None where nvJPEG decodes in hardware, or in a few words why it does not.

    It asks as torchvision does, of the very library that torchvision has loaded.

    Args:
        device: a CUDA device.
    """
    import torchvision.io  # noqa: F401  loads the library

    try:
        library = ctypes.CDLL(_loaded("libnvjpeg"))
        handle = ctypes.c_void_p()
        with torch.cuda.device(device) if torch.cuda.is_available() else nullcontext():
            status = library.nvjpegCreateEx(_HARDWARE, None, None, 0, ctypes.byref(handle))
            if status == 0:
                library.nvjpegDestroy(handle)
    except (OSError, AttributeError, LookupError) as err:
        return f"this torchvision has no nvJPEG that can be asked ({err})"
    return None if status == 0 else _REASONS.get(status, f"nvJPEG's status is {status}")


def _loaded(name: str) -> str:
    """Return the path of a shared library that this process has loaded."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and Path(fields[5]).name.startswith(name):
            return fields[5]
    raise LookupError(f"{name} is not loaded")


_HARDWARE: Final = 3
_REASONS: Final = {
    1: "nvJPEG cannot be initialised (status 1)",
    5: "no memory for nvJPEG (status 5)",
    6: "nvJPEG finds no GPU that it can use (status 6)",
    7: 'the GPU has no hardware decoder, or the driver does not show it: a container needs its capability "video" (status 7)',
}
"""Source: nvjpegBackend_t and nvjpegStatus_t in nvjpeg.h."""
