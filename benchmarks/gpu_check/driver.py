"""Runs stages one after another, each in a process group of its own that is killed at its limit; what it wrote by then is kept."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu_check.check import MARK
from benchmarks.gpu_check.stages import HERE, Stage

ROOT: Final = Path(__file__).parents[2]
"""Of the working copy: stages import from it, and run its tests."""
RESULTS: Final = "gpu-check.json"
DONE: Final = "done"
PATIENCE: Final = 4
"""How many times the limits hold on a CPU: machines with GPUs have many cores, and few of them are busy."""


@dataclass
class Outcome:
    """What became of a stage."""

    stage: str
    ended: str = "still running"
    """`done`, or why not."""
    seconds: float = 0.0
    last: str = ""
    """Its last line."""
    results: list[dict[str, Any]] = field(default_factory=list)


def run_stages(stages: Sequence[Stage], folder: Path, device: str, scale: float) -> list[Outcome]:
    """Run stages; after each line of result, all that is known stands in RESULTS, of other stages that ran there earlier, too.

    Args:
        stages: in order.
        folder: where they leave what they make; compiled kernels and networks, too.
        device: cpu, or cuda with its number.
        scale: of all counts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = {stage.name for stage in stages}
    outcomes = [each for each in kept(folder) if each.stage not in names]
    for stage in stages:
        outcome = Outcome(stage.name)
        outcomes.append(outcome)
        limit = stage.limit * (PATIENCE if device == "cpu" else 1)
        print(f"== {stage.name}: {stage.shows} (at most {limit:.0f} s)", flush=True)
        command = [sys.executable, "-m", f"{HERE}stages", stage.place, str(folder.resolve()), device, str(scale)]
        for line in _lines(command, limit, outcome, _environment(folder.resolve(), device)):
            if line.startswith(MARK):
                outcome.results.append(json.loads(line.removeprefix(MARK)))
                _keep(outcomes, folder)
        _keep(outcomes, folder)
        print(f"== {stage.name}: {outcome.ended} after {outcome.seconds:.1f} s", flush=True)
    return outcomes


def _lines(command: Sequence[str], limit: float, outcome: Outcome, environment: dict[str, str]) -> Iterator[str]:
    """Yield the lines of a command as it writes them, which are shown, too; kill it and all that it started at the limit."""
    began = time.monotonic()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        errors="replace",
        env=environment,
        cwd=ROOT,
    ) as process:
        timer = threading.Timer(limit, _kill, [process.pid])
        timer.start()
        try:
            for line in process.stdout or ():
                print(line, end="", flush=True)
                outcome.last = line.strip() or outcome.last
                yield line
            status = process.wait()
        finally:
            timer.cancel()
            _kill(process.pid)  # what it left running
    outcome.seconds = time.monotonic() - began
    if status == 0:
        outcome.ended = DONE
    else:
        outcome.ended = f"killed at its limit of {limit:.0f} s" if outcome.seconds >= limit else f"failed ({status})"


def _kill(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _environment(folder: Path, device: str) -> dict[str, str]:
    """Return the environment of a stage: compiled things are kept in the folder, and Triton is interpreted where there is no GPU."""
    mine = {
        "PYTHONUNBUFFERED": "1",
        "NUMBA_CACHE_DIR": str(folder / "kernels"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "compiled"),
        "TRITON_CACHE_DIR": str(folder / "compiled" / "triton"),
        "TORCH_HOME": str(folder),  # no stage loads published weights; this would say so
    }
    if device == "cpu":
        mine["TRITON_INTERPRET"] = "1"
    return os.environ | mine


def _keep(outcomes: Sequence[Outcome], folder: Path) -> None:
    partial = folder / f"{RESULTS}.partial"
    partial.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    partial.replace(folder / RESULTS)


def kept(folder: Path) -> list[Outcome]:
    """Return what earlier stages of this run found."""
    path = folder / RESULTS
    return [Outcome(**each) for each in json.loads(path.read_text())] if path.exists() else []
