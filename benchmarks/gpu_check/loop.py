"""What a user would write on a GPU: a DataLoader over the same tars, torchvision's transforms, autocast, codes that are packed."""

from typing import Final

from benchmarks.encode.loops import images_per_second
from benchmarks.gpu_check.check import Check
from benchmarks.gpu_check.driver import kept
from benchmarks.gpu_check.photos import Kind, model_of, repeated
from encoder.runtime.cores import worker_count

IMAGES: Final = 16_000
BATCH: Final = 256
TIMES: Final = 2.0
"""How far the loop is to be behind."""


def loop(check: Check) -> None:
    """Measure the loop with as many workers as there are cores, and say how far it is behind."""
    tars = repeated(check, Kind.EQUAL, check.count(IMAGES, 16))
    folder = check.folder / "loop"
    folder.mkdir(exist_ok=True)
    device, batch = check.device.type, check.count(BATCH, 8)
    rate = images_per_second(device, model_of(check), folder / "files", "tars tuned", worker_count(), tars, batch=batch)
    check.result("DataLoader loop, equal", rate, "images/s")
    found = {each["measured"]: each["value"] for outcome in kept(check.folder) for each in outcome.results}
    if ours := found.get(f"{Kind.EQUAL}, 1 process"):
        times = float(ours) / rate
        check.hold("encode is faster", times, "times", holds=times >= TIMES or not check.on_gpu)
