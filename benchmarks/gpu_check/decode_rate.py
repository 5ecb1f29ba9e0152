"""How fast nvJPEG decodes by itself, by batch, threads and processes; the kernel by itself; routing by itself; and the lock."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from benchmarks.gpu_check.check import Check
from benchmarks.gpu_check.photos import Kind, drawn, files_of, jpeg
from encoder.images.decoding.gpu_decode import route
from encoder.images.decoding.gpu_resize import resize_squares
from encoder.images.limits import Limits

LIMITS: Final = Limits()
BATCHES: Final = (64, 256, 1024)
THREADS: Final = (1, 2, 4)
PROCESSES: Final = (1, 2, 4)
SECONDS: Final = 1.0
"""Of each measurement, after a batch to warm up."""
NAP: Final = 0.0002
"""Of the probe that finds out how long others hold the interpreter's lock."""


def decode_rate(check: Check) -> None:
    """Measure the parts of decoding, each by itself."""
    _routing(check)
    best = 0.0
    for processes in PROCESSES if check.on_gpu else PROCESSES[:2]:
        best = max(best, _bare(check, processes))
    check.result("bare decode, best", best, "images/s")
    _large(check)
    _kernel(check)


def _routing(check: Check) -> None:
    for kind in (Kind.EQUAL, Kind.VARIED):
        files = files_of(check, kind, check.count(2000, 50))
        began = time.thread_time()
        routed = route(files, LIMITS, hardware=True)
        spent = time.thread_time() - began
        check.result(f"routing, {kind}", 1e6 * spent / len(files), "us of CPU per file")
        check.result(f"routing, {kind}: to nvJPEG", len(routed.rows) / len(files), "of all")


def _batches(check: Check) -> list[int]:
    return [check.count(batch, 4) for batch in BATCHES]


def _encoded(check: Check, kind: Kind, count: int) -> list[Tensor]:
    """Return what nvJPEG would get, as `route` gives it."""
    return route(files_of(check, kind, count), LIMITS, hardware=True).encoded


def _bare(check: Check, processes: int) -> float:
    """Measure `decode_jpeg` alone in so many processes at once, and in several threads where there is one; return the best."""
    context = get_context("spawn")
    barrier, found = context.Barrier(processes), context.Queue()
    started = [context.Process(target=_child, args=(check, processes, barrier, found)) for _ in range(processes)]
    for process in started:
        process.start()
    threads, best = THREADS if processes == 1 else THREADS[:1], 0.0
    for batch in _batches(check):
        for count in threads:
            rate = sum(found.get(timeout=60) for _ in started)
            check.result(f"bare decode, {batch} per batch, processes {processes}, threads {count}", rate, "images/s")
            best = max(best, rate)
    if processes == 1:
        check.result("waits of another thread meanwhile, 99.9 %", found.get(timeout=60), "ms beyond its nap")
    for process in started:
        process.join()
    return best


def _child(check: Check, processes: int, barrier: Barrier, found: "Queue[float]") -> None:
    encoded = _encoded(check, Kind.EQUAL, max(_batches(check)))
    for batch in _batches(check):
        for threads in THREADS if processes == 1 else THREADS[:1]:
            _decode(check, encoded[:batch])
            barrier.wait()
            found.put(_rate(check, partial(_decode, check, encoded[:batch]), batch, threads))
    if processes == 1:
        found.put(_lateness(check, partial(_decode, check, encoded)))


def _decode(check: Check, encoded: Sequence[Tensor]) -> list[Tensor]:
    images: list[Tensor] = decode_jpeg(list(encoded), ImageReadMode.RGB, device=check.device)
    return images


def _rate(check: Check, work: Callable[[], object], images: int, threads: int = 1) -> float:
    """Return images per second of `work`, done over and over in several threads."""
    ends = time.perf_counter() + check.seconds(SECONDS)

    def run(_: int) -> int:
        done = 0
        while not done or time.perf_counter() < ends:
            work()
            done += images
        return done

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(run, range(threads)))
    check.synchronise()
    return done / (time.perf_counter() - began)


def _lateness(check: Check, work: Callable[[], object]) -> float:
    """Return how late naps of another thread end while `work` runs, the 99.9th percentile in ms: a held lock shows here."""
    late, ended = list[float](), threading.Event()

    def nap() -> None:
        while not ended.is_set():
            began = time.perf_counter()
            time.sleep(NAP)
            late.append(time.perf_counter() - began - NAP)

    probe = threading.Thread(target=nap)
    probe.start()
    _rate(check, work, 1)
    ended.set()
    probe.join()
    return 1e3 * float(np.percentile(late, 99.9))


def _large(check: Check) -> None:
    encoded = _encoded(check, Kind.LARGE, check.count(32, 2))
    _decode(check, encoded)
    rate = _rate(check, partial(_decode, check, encoded), len(encoded))
    check.result("bare decode, 12 megapixels", rate, "images/s")


def _kernel(check: Check) -> None:
    """Measure the resize of images that lie on the device: the launch and its table by themselves, and until it is done."""
    size = 224 if check.on_gpu else 8
    for kind, most in ((Kind.EQUAL, 256), (Kind.VARIED, 256), (Kind.LARGE, 16)):
        files = (
            files_of(check, kind, most) if check.on_gpu else [jpeg(drawn(24, 18, 0))]
        )  # interpreted, it takes a second
        routed = route(files, LIMITS, hardware=True)
        images = _decode(check, routed.encoded)
        squares = torch.zeros((len(images), size, size, 3), dtype=torch.uint8, device=check.device)
        table = torch.zeros((len(images), 8), dtype=torch.int64, pin_memory=check.on_gpu)

        launch = partial(resize_squares, images, routed.headers, range(len(images)), squares, table)
        _done(check, launch)
        check.result(f"kernel, {kind}", _rate(check, partial(_done, check, launch), len(images)), "images/s")
        began = time.thread_time()
        launch()
        check.result(f"kernel, {kind}: launch", 1e6 * (time.thread_time() - began) / len(images), "us of CPU per image")
        check.synchronise()


def _done(check: Check, launch: Callable[[], None]) -> None:
    launch()
    check.synchronise()
