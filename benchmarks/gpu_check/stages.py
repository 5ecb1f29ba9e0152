"""The stages of the check, and the process that runs one of them.

usage: python -m benchmarks.gpu_check.stages PLACE FOLDER DEVICE SCALE
"""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.gpu_check.check import Check, NotHeldError, raise_not_held

HERE: Final = "benchmarks.gpu_check."


@dataclass(frozen=True)
class Stage:
    """A part of the check, in a process of its own."""

    name: str
    limit: float
    """Seconds after which it is killed."""
    place: str
    """Module and function, `module:function`."""
    shows: str


STAGES: Final = (
    Stage("versions", 20, HERE + "versions:versions", "what is installed, and whether the hardware decoder is there"),
    Stage("prepare", 55, HERE + "photos:prepare", "draws photos, fits a model, makes codes, compiles the scan"),
    Stage(
        "decode-right",
        45,
        HERE + "decode_right:decode_right",
        "pixels against Pillow's, damaged files, the race of streams",
    ),
    Stage("tests", 45, HERE + "tests:tests", "the tests that need a GPU"),
    Stage(
        "decode-rate",
        65,
        HERE + "decode_rate:decode_rate",
        "nvJPEG alone by batch, threads and processes; kernel; routing",
    ),
    Stage("forward-rate", 90, HERE + "forward:forward_rate", "the network eager and compiled; codes against a CPU's"),
    Stage(
        "encode",
        125,
        HERE + "encode:encode_photos",
        "the whole pipeline on equal, varied, progressive, turned, damaged photos",
    ),
    Stage("loop", 25, HERE + "loop:loop", "a DataLoader loop as a user writes it, on the same photos"),
    Stage("search", 40, HERE + "search:search", "10 M codes on the GPU against the scan"),
    Stage("training", 30, HERE + "training:training", "training steps against bare passes"),
)
MOST_SECONDS: Final = 540
"""What all stages may take together: nine minutes."""


def run_stage(place: str, check: Check) -> None:
    """Run a stage in this process."""
    module, _, function = place.partition(":")
    run: Callable[[Check], None] = getattr(importlib.import_module(module), function)
    run(check)
    raise_not_held()


def main() -> None:
    place, folder, device, scale = sys.argv[1:]
    try:
        run_stage(place, Check(Path(folder), device, float(scale)))
    except NotHeldError as err:
        sys.exit(str(err))


if __name__ == "__main__":
    main()
