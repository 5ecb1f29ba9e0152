"""One measurement in a process of its own; its last line is JSON.

usage: child.py ours DEVICE MODEL OUT TARS...                     images/s of `encode`
       child.py theirs DEVICE MODEL FILES WAY WORKERS TARS...     images/s of a loop that a user would write
       child.py memory DEVICE MODEL OUT TARS...                   MB of resident memory: a line over images done, and the peak
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from encoder.images.expand import expand
from encoder.stream.job import encode
from encoder.stream.report import EncodeProgress
from encoder.stream.settings import EncodeSettings

EVERY = 0.25
"""Seconds between two looks at the memory."""
SETTLED = 0.2
"""Share of the images after which memory should not grow."""
STRETCHES = 40
"""Medians, at most, that the line goes through: memory rises and falls with the batches at work, which is no growth."""


def ours(device: str, model: str, out: str, *tars: str) -> float:
    report = encode(expand(tars), Path(model), Path(out), EncodeSettings(device=device))
    return report.encoded / report.seconds


def theirs(device: str, model: str, files: str, way: str, workers: str, *tars: str) -> float:
    from benchmarks.encode.loops import images_per_second

    return images_per_second(device, Path(model), Path(files), way, int(workers), [Path(tar) for tar in tars])


def memory(device: str, model: str, out: str, *tars: str) -> dict[str, float]:
    done, seen, ended = [0], list[tuple[int, int]](), threading.Event()

    def watch() -> None:
        while not ended.wait(EVERY):
            seen.append((done[0], _resident()))

    def follow(at: EncodeProgress) -> None:
        done[0] = at.images

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    report = encode(expand(tars), Path(model), Path(out), EncodeSettings(device=device), follow)
    seconds = time.perf_counter() - started
    ended.set()
    watcher.join()
    return _line(seen, report.seen, report.rejects.total(), seconds)


def _line(seen: Sequence[tuple[int, int]], images: int, rejects: int, seconds: float) -> dict[str, float]:
    settled = np.array([each for each in seen if each[0] >= SETTLED * images], dtype=np.float64)
    medians = np.array(
        [np.median(stretch, axis=0) for stretch in np.array_split(settled, min(STRETCHES, len(settled)))]
    )
    (slope, _), covariance = np.polyfit(medians[:, 0], medians[:, 1], 1, cov=True)
    return {
        "images": images,
        "rejects": rejects,
        "seconds": seconds,
        "slope": float(slope) * 100_000 / 1e6,
        "error": float(covariance[0, 0]) ** 0.5 * 100_000 / 1e6,
        "peak": max(resident for _, resident in seen) / 1e6,
        "first": float(settled[0, 1]) / 1e6,
        "last": float(settled[-1, 1]) / 1e6,
    }


def _resident() -> int:
    """Return bytes. Source: proc(5), statm: pages, the second field is the resident set."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


WAYS: dict[str, Callable[..., object]] = {"ours": ours, "theirs": theirs, "memory": memory}

if __name__ == "__main__":
    print(json.dumps(WAYS[sys.argv[1]](*sys.argv[2:])))
