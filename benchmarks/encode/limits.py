"""What the machine can do: the bare forward, the bare decode, the bare read.

Forward is the backbone alone, folded and in the precision of the run, on normalised tensors in memory; decode is JPEG bytes in memory
to the network's square, or on a GPU to pixels. On a CPU both are measured in CPU seconds with every core busy, since cores share caches and clock, and the
forward in both ways of using the cores (one thread per batch; all threads on one batch), of which the cheaper counts.
"""

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torchvision.io import ImageReadMode, decode_jpeg

from benchmarks.encode.photos import photos_of
from encoder.images.decoding.decode import decode_square
from encoder.images.decoding.gpu_decode import route
from encoder.images.limits import Limits
from encoder.model.gpu_forward import GpuForward
from encoder.model.image_encoder import ImageEncoder
from encoder.model.model_file import load_model
from encoder.runtime.cores import worker_count

REPEATS = 6
"""Batches a core and measurement."""
DECODED_TOGETHER = 256
"""Photos per call of nvJPEG."""
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
    """Return seconds per image of bare forward and bare decode on a GPU, images/s of the slower, and bytes/s of the bare read.

    Forward is the backbone, compiled for one shape. Decode is torchvision's call alone, of the photos that nvJPEG's hardware takes.
    """
    torch.set_num_threads(1)
    encoder = ImageEncoder(load_model(model), device)
    plan = GpuForward(encoder.model, encoder.device, tuple(encoder.model.config.bits))
    plan.prepare()  # for the batch that a run would take
    network, size = encoder.model.network, encoder.model.config.image_size
    pictures = torch.zeros((plan.batch, size, size, 3), dtype=torch.uint8, device=encoder.device)
    bare = torch.compile(lambda batch: list(network.backbone(batch)), dynamic=False)
    with torch.inference_mode():
        batch = network.normalise(pictures)
        forwards = _gpu_seconds(lambda: bare(batch), encoder.device) / len(batch)
    files = [sample.data for sample in itertools.islice(photos_of([tar]), plan.batch)]
    encoded = route(files, WIDE, hardware=True).encoded
    if not encoded:
        raise SystemExit(f"none of the first {len(files)} photos of {tar} is one that nvJPEG's hardware takes")

    def decode() -> None:
        for start in range(0, len(encoded), DECODED_TOGETHER):
            decode_jpeg(encoded[start : start + DECODED_TOGETHER], ImageReadMode.RGB, device=encoder.device)

    decodes = _gpu_seconds(decode, encoder.device) / len(encoded)
    return {"forward": forwards, "decode": decodes, "images": 1 / max(forwards, decodes), "read": _read_rate(tar)}


def _cpu_seconds(work: Callable[[], int], threads: int, intra: int) -> float:
    """Return CPU seconds per image of `work` (which returns its images) run by several threads at once."""
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(intra,)) as pool:
        list(pool.map(lambda _: work(), range(threads)))  # warm up
        started = time.process_time()
        images = sum(pool.map(lambda _: sum(work() for _ in range(REPEATS)), range(threads)))
        return (time.process_time() - started) / images


def _gpu_seconds(work: Callable[[], object], device: torch.device) -> float:
    synchronize = torch.get_device_module(device).synchronize
    work()
    synchronize(device)
    started = time.perf_counter()
    for _ in range(10 * REPEATS):
        work()
    synchronize(device)
    return (time.perf_counter() - started) / (10 * REPEATS)


def _read_rate(tar: Path) -> float:
    started = time.perf_counter()
    return len(tar.read_bytes()) / (time.perf_counter() - started)
