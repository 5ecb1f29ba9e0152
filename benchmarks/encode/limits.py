"""What the machine can do: the bare forward, the bare decode, the bare read.

Forward is the backbone alone, folded and in the precision of the run, on normalised tensors in memory; decode is JPEG bytes in memory
to the network's square. On a CPU both are measured in CPU seconds with every core busy, since cores share caches and clock, and the
forward in both ways of using the cores (one thread per batch; all threads on one batch), of which the cheaper counts.
"""

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from benchmarks.encode.photos import photos_of
from encoder.images.decoding.decode import decode_square
from encoder.images.limits import Limits
from encoder.model.image_encoder import ImageEncoder
from encoder.model.model_file import load_model
from encoder.runtime.cores import worker_count

REPEATS = 6
"""Batches a core and measurement."""
WIDE = Limits()


def cpu_limits(model: Path, tar: Path) -> dict[str, float]:
    """Return CPU seconds per image of forward and decode, images/s that they allow, and bytes/s of the bare read."""
    encoder, cores = ImageEncoder(load_model(model), "cpu"), worker_count()
    size, network = encoder.model.config.image_size, encoder.model.network
    files = [sample.data for sample in itertools.islice(photos_of([tar]), encoder.batch)]
    pictures = np.stack([decode_square(data, size, WIDE) for data in files])
    batch = network.normalise(torch.from_numpy(pictures))

    @torch.inference_mode()
    def forward() -> int:
        for _ in network.backbone(batch):
            pass
        return len(batch)

    def decode() -> int:
        for data in files:
            decode_square(data, size, WIDE)
        return len(files)

    forwards = min(_cpu_seconds(forward, cores, 1), _cpu_seconds(forward, 1, cores))
    decodes = _cpu_seconds(decode, cores, 1)
    return {
        "forward": forwards,
        "decode": decodes,
        "images": cores / (forwards + decodes),
        "read": _read_rate(tar),
    }


def gpu_limits(model: Path, tar: Path, device: str) -> dict[str, float]:
    """Return seconds per image of the compiled forward and of the decode on a GPU, images/s of the slower, bytes/s of the bare read."""
    torch.set_num_threads(1)  # as in the threads that code batches, for which the network was compiled
    loaded = load_model(model)
    levels = tuple(loaded.config.bits)
    encoder = ImageEncoder(loaded, device, compile_for=levels)
    files = [sample.data for sample in itertools.islice(photos_of([tar]), encoder.batch)]
    pictures = [picture for picture in encoder.pictures(files, WIDE) if isinstance(picture, torch.Tensor)]
    images = torch.stack(pictures)

    @torch.inference_mode()
    def forward() -> None:
        encoder.network(images, levels)

    forwards = _gpu_seconds(forward, device) / len(images)
    decodes = _gpu_seconds(lambda: encoder.pictures(files, WIDE), device) / len(files)
    return {"forward": forwards, "decode": decodes, "images": 1 / max(forwards, decodes), "read": _read_rate(tar)}


def _cpu_seconds(work: Callable[[], int], threads: int, intra: int) -> float:
    """Return CPU seconds per image of `work` (which returns its images) run by several threads at once."""
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(intra,)) as pool:
        list(pool.map(lambda _: work(), range(threads)))  # warm up
        started = time.process_time()
        images = sum(pool.map(lambda _: sum(work() for _ in range(REPEATS)), range(threads)))
        return (time.process_time() - started) / images


def _gpu_seconds(work: Callable[[], object], device: str) -> float:
    work()
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(10 * REPEATS):
        work()
    torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / (10 * REPEATS)


def _read_rate(tar: Path) -> float:
    started = time.perf_counter()
    return len(tar.read_bytes()) / (time.perf_counter() - started)
