"""What a stage is given, and how it says what it found: a line per figure, written at once, so that none is lost with the stage."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MARK = "RESULT "
"""A line of a stage's output that begins with it holds JSON, see `Check.result`."""


class NotHeldError(Exception):
    """What was to hold did not."""


@dataclass(frozen=True)
class Check:
    """Where a stage runs and how much it does.

    Args:
        folder: of photos, models and whatever else stages make for each other.
        name: of the device, with its number, or cpu, on which only what has a meaning there is tried.
        scale: of all counts; 1 on a GPU.
    """

    folder: Path
    name: str
    scale: float

    @cached_property
    def device(self) -> "torch.device":
        """The device."""
        import torch

        return torch.device(self.name)

    @property
    def on_gpu(self) -> bool:
        """Whether there is a GPU to be measured."""
        return self.name != "cpu"

    def count(self, full: int, least: int = 1) -> int:
        """Return how many of `full` are to be done."""
        return max(least, round(full * self.scale))

    def seconds(self, full: float) -> float:
        """Return how long to measure."""
        return full if self.scale >= 1 else full / 10

    def result(self, measured: str, value: float | str, unit: str = "") -> None:
        """Write a figure or a word."""
        _write({"measured": measured, "value": value, "unit": unit})

    def hold(self, measured: str, value: float | str, unit: str = "", *, holds: bool) -> None:
        """Write something that has to hold; the stage goes on, and fails at its end."""
        _write({"measured": measured, "value": value, "unit": unit, "holds": holds})
        if not holds:
            _NOT_HELD.append(f"{measured}: {value} {unit}".strip())

    def synchronise(self) -> None:
        """Wait for the device."""
        if self.on_gpu:
            import torch

            torch.cuda.synchronize(self.device)


_NOT_HELD: list[str] = []


def raise_not_held() -> None:
    """Raise where something did not hold."""
    if _NOT_HELD:
        raise NotHeldError("not held: " + "; ".join(_NOT_HELD))


def _write(found: dict[str, object]) -> None:
    """Write one line in one piece, since a stage may be killed at any moment, and its processes write, too."""
    os.write(1, (MARK + json.dumps(found) + "\n").encode())
