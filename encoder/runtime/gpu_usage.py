"""How busy GPUs are, as their driver reports it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from statistics import fmean
from typing import Final

EVERY: Final = 1.0
"""Seconds between two questions; the driver's own sample period is 1/6 to 1 second. Source: NVML, `nvmlUtilization_t`."""


class Utilisation:
    """Shares of time in which something ran on the GPUs."""

    def __init__(self) -> None:
        self._shares: list[float] = []

    @property
    def mean(self) -> float | None:
        """Return the mean over devices and time, 0..1; None where nothing is known."""
        return fmean(self._shares) if self._shares else None

    def add(self, share: float) -> None:
        """Take in what a device said."""
        self._shares.append(share)


@contextmanager
def watching(
    devices: Sequence[str], ask: Callable[[str], float] | None = None, every: float = EVERY
) -> Iterator[Utilisation]:
    """Measure how busy CUDA devices are as long as the block runs; without NVML's bindings nothing is known.

    Args:
        devices: as torch names them; others than CUDA's are left alone.
        ask: device to share of time; None: as `torch.cuda.utilization` says.
        every: seconds between two questions.
    """
    found, ended = Utilisation(), threading.Event()
    cuda = [device for device in devices if device.startswith("cuda")]

    def watch() -> None:
        with suppress(Exception):  # a driver that does not tell must not end a run
            while not ended.wait(every):
                for device in cuda:
                    found.add((ask or _asked)(device))

    thread = threading.Thread(target=watch, name="utilisation", daemon=True)
    if cuda:
        thread.start()
    try:
        yield found
    finally:
        ended.set()
        if cuda:
            thread.join()


def _asked(device: str) -> float:
    import torch

    return torch.cuda.utilization(device) / 100
