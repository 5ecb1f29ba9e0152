"""What the host does around a GPU that costs nothing: CPU time per image, and how long the interpreter is kept from a thread.

Real are the reader, the digests, the headers, the queues, the slots and their tables, the CPU decode and the code files. Nothing are
nvJPEG (as many tensors go in and out), the resize kernel and the network. Streams of a CPU stand in for those of a GPU.

    python -m benchmarks.encode.null_gpu FOLDER [--images 10000] [--workers 1,2] [--cases equal,turned] [--holds]
"""

import argparse
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, TypeVar, cast

import numpy as np
import torch
from PIL import Image, ImageFilter

from benchmarks.encode.holds import Holds
from encoder.images.archives import hash_thread
from encoder.images.decoding import gpu_decode, gpu_resize
from encoder.images.decoding.decode import square_or_reject
from encoder.images.duplicates import digest_of
from encoder.images.expand import expand
from encoder.images.readers.formats import reader_for
from encoder.images.samples import Sample
from encoder.levels import Level
from encoder.model.gpu_forward import GpuForward
from encoder.model.spec import Precision
from encoder.runtime.telemetry import Telemetry
from encoder.stream import batch, gpu_pipeline
from encoder.stream.coding import Coding
from encoder.stream.gpu_pipeline import GpuPipeline
from encoder.stream.settings import EncodeSettings
from encoder.stream.shard import Contents, code_shards

Result = TypeVar("Result")

CORES: Final = 16
"""Of the machine beside an H200 that a rate is worked out for."""
SHA_RATE: Final = 1.5e9
"""Bytes/s of a thread whose processor has instructions for SHA-256."""
SIZE: Final = 224
BATCH: Final = 512
DIFFERENT: Final = 1000
"""Photos of a tar, which are repeated."""
LABELS: Final = {"caption": "a photo of a thing beside another", "score": 0.5, "tags": ["red", "blue"], "safe": True}
"""Of each photo of the labelled case, beside its number, in a JSON file behind it."""
SHORT: Final = 0.0002
"""Seconds that a probe sleeps."""
PROBE: Final = f"""
import sys, time
while True:
    start = time.perf_counter()
    time.sleep({SHORT})
    print(time.perf_counter() - start - {SHORT})
"""


def main() -> None:
    """Measure each case with each number of workers, after one run that warms up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--cases", help="those to measure, of the first column, with commas between")
    parser.add_argument(
        "--holds", action="store_true", help="say which lines keep the interpreter's lock for long, and no rates"
    )
    given = parser.parse_args()
    null, tars = NullGpu(), photo_tars(given.folder / f"photos-{given.images}", given.images)
    null.run(tars["equal"], given.folder / "codes", 1)
    if given.cases:
        tars = {name: tars[name] for name in given.cases.split(",")}
    if given.holds:
        for name, tar in tars.items():
            null.run(tar, given.folder / "codes", 1, holds := Holds())
            print(f"{name}\n{holds}\n", flush=True)
        return
    print(
        "| photos | workers | CPU us | hashing | CPU decode | the rest | 16 cores feed | a thread wakes late, p99.9 and most, ms |"
    )
    print("|---|--:|--:|--:|--:|--:|---|---|")
    for name, tar in tars.items():
        for workers in map(int, given.workers.split(",")):
            print(f"| {name} | {workers} | {null.run(tar, given.folder / 'codes', workers)} |", flush=True)
            print(f"{name}, {workers} workers, us per image: {null.by_thread()}", file=sys.stderr, flush=True)


class Clock:
    """Sums up the CPU time of calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, work: Callable[..., Result]) -> Callable[..., Result]:
        """Return what does the work and counts its time, which threads may do at once."""

        def run(*args: Any) -> Result:
            start = time.thread_time()
            result = work(*args)
            self.seconds += time.thread_time() - start
            return result

        return run


class NullGpu:
    """A pipeline whose device does nothing; for as long as the process lives, nvJPEG, the kernel and the network do nothing."""

    def __init__(self) -> None:
        self.hashing, self.decode, self.start = Clock(), Clock(), Clock()
        self._images, self._seconds = 1, dict[str, float]()
        sha256, timed = hashlib.sha256, self.hashing.timed

        class TimedHash:
            def __init__(self) -> None:
                of_hash = sha256()
                self.update, self.hexdigest = timed(of_hash.update), of_hash.hexdigest

        _replace(hash_thread, "hashlib", SimpleNamespace(sha256=TimedHash))
        _replace(batch, "digest_of", timed(digest_of))
        _replace(gpu_pipeline, "square_or_reject", self.decode.timed(square_or_reject))
        self._pictures = dict[int, torch.Tensor]()
        tiny = [torch.zeros((3, 1, 1), dtype=torch.uint8) for _ in range(BATCH)]

        def decode_jpeg(files: list[torch.Tensor], *_: object, **__: object) -> list[torch.Tensor]:
            torch._foreach_neg(tiny[: len(files)])  # as many tensors go to C++, and as many are made there
            return [self._pictures[file.numel()] for file in files]

        _replace(gpu_decode, "decode_jpeg", decode_jpeg)
        _replace(gpu_resize, "_resize", type("Launch", (), {"__getitem__": lambda *_: lambda *_, **__: None})())

    def run(self, tar: Path, out: Path, workers: int, watch: Holds | None = None) -> str:
        """Code a tar and return a line of figures."""
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        self._decode_ahead(tar)
        coding, pipeline = _pipeline(workers, self.start)
        self.hashing.seconds = self.decode.seconds = self.start.seconds = self._images = 0
        started, of_caller, wall = time.process_time(), time.thread_time(), time.perf_counter()
        with Lateness() as late, watch or nullcontext():
            for done in code_shards(coding, pipeline, expand([str(tar)]), out, Contents()):
                self._images += getattr(done, "images", 0)
                self._seconds = _seconds_by_thread(of_caller)
        cpu, took = time.process_time() - started - late.seconds - self.start.seconds, time.perf_counter() - wall
        hashing, decode = self._each(self.hashing.seconds), self._each(self.decode.seconds)
        rest = self._each(cpu) - hashing - decode
        feeds = min(
            (CORES / (rest + hashing) * 1e6, "cores"),
            (SHA_RATE / (tar.stat().st_size / self._images), "the SHA-256 thread"),
            (1e6 / self._each(self._seconds["MainThread"]), "the reading thread"),
        )
        return (
            f"{self._each(cpu):.0f} | {hashing:.0f} | {decode:.0f} | {rest:.1f} | {feeds[0]:,.0f}/s, then {feeds[1]} is the limit "
            f"(here {self._images / took:,.0f}/s) | {late}"
        )

    def _decode_ahead(self, tar: Path) -> None:
        """Have a picture without content, of the right size, for each file of a tar by its length."""
        pixels = torch.zeros(3 << 20, dtype=torch.uint8)
        self._pictures.clear()
        [shard] = expand([str(tar)])
        for sample in islice((each for each in reader_for(shard) if isinstance(each, Sample)), DIFFERENT):
            width, height = Image.open(io.BytesIO(sample.data)).size
            self._pictures[len(sample.data)] = pixels[: 3 * width * height].view(3, height, width)

    def by_thread(self) -> str:
        """Return CPU us per image of the last run, by thread."""
        order = sorted(self._seconds.items(), key=lambda item: -item[1])
        return ", ".join(f"{name} {self._each(seconds):.1f}" for name, seconds in order)

    def _each(self, seconds: float) -> float:
        return 1e6 * seconds / self._images


class Lateness:
    """How much later than it asked for a thread wakes, and a thread of another process, which knows nothing of our lock."""

    def __enter__(self) -> "Lateness":
        self._lags, self._stop, self.seconds = list[float](), threading.Event(), 0.0
        self._other = subprocess.Popen([sys.executable, "-c", PROBE], stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._probe, name="probe")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._other.kill()
        written = self._other.communicate()[0]
        self._others = [float(line) for line in written.splitlines()[:-1]]

    def __str__(self) -> str:
        return f"{_worst(self._lags)}; in another process {_worst(self._others)}"

    def _probe(self) -> None:
        while not self._stop.is_set():
            start = time.perf_counter()
            time.sleep(SHORT)
            self._lags.append(time.perf_counter() - start - SHORT)
        self.seconds = time.thread_time()


def _worst(lags: list[float]) -> str:
    return f"{1e3 * np.percentile(lags, 99.9):.1f}, {1e3 * max(lags):.1f}" if lags else "none"


def _replace(module: object, name: str, by: object) -> None:
    assert hasattr(module, name), name  # noqa: S101  else nothing would be replaced
    setattr(module, name, by)


def _pipeline(workers: int, start: Clock) -> tuple[Coding, GpuPipeline]:
    bits = dict.fromkeys(Level, 64)
    config = SimpleNamespace(image_size=SIZE, bits=bits)
    model = SimpleNamespace(config=config, network=torch.nn.Identity(), fingerprint="f" * 64)
    device, levels = torch.device("cpu"), tuple(Level)
    encoder = SimpleNamespace(model=model, device=device, precision=Precision.BF16)
    forward = GpuForward(cast(Any, model), device, levels, batch=BATCH)
    codes = torch.zeros((BATCH, sum(bits.values()) // 8), dtype=torch.uint8)
    _replace(forward, "_packer", lambda images: codes[: len(images)])
    _replace(forward, "prepare", start.timed(forward.prepare))  # memory of slots, once per run
    coding = Coding(cast(Any, encoder), levels, EncodeSettings(workers=workers), Telemetry())
    return coding, GpuPipeline(coding, forward, gpu_decode.GpuDecoder(device, SIZE))


def _seconds_by_thread(of_caller: float) -> dict[str, float]:
    seconds: Counter[str] = Counter()
    for thread in threading.enumerate():
        if thread.ident is not None and thread.name != "probe":
            used = time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
            seconds[thread.name] += used - (of_caller if thread is threading.main_thread() else 0)  # type: ignore[assignment]
    return dict(seconds)


def photo_tars(folder: Path, images: int) -> dict[str, Path]:
    """Return tars of so many drawn photos of about 70 kB, each of which stands several times in its tar."""
    rng = np.random.default_rng(5)
    sizes = rng.integers((350, 300), (650, 480), (DIFFERENT, 2)).tolist()
    equal = [_photo(500, 375, seed) for seed in range(20)]
    exif = [Image.Exif() for _ in range(8)]
    for turn, each in enumerate(exif):
        each[0x0112] = 1 + turn
    files = {
        "equal": lambda: equal,
        "varied": lambda: [_photo(width, height, seed) for seed, (width, height) in enumerate(sizes)],
        "turned": lambda: [_photo(500, 375, seed, exif=exif[seed % 8]) for seed in range(24)],
        "progressive": lambda: [
            *equal[:15],
            *(_photo(500, 375, seed, progressive=True) for seed in range(15, 20)),
        ],
    }
    files["labelled"] = files["equal"]
    folder.mkdir(parents=True, exist_ok=True)
    tars = {name: folder / f"{name}.tar" for name in files}
    for name, tar in tars.items():
        if not tar.exists():
            different = {len(file): file for file in files[name]()}  # see `_decode_ahead`
            _write(tar, list(different.values()), images, LABELS if name == "labelled" else {})
    return tars


def _photo(width: int, height: int, seed: int, **options: Any) -> bytes:
    rng, stream = np.random.default_rng(seed), io.BytesIO()
    small = Image.fromarray(rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8))
    smooth = small.resize((width, height), Image.Resampling.BICUBIC).filter(ImageFilter.UnsharpMask(3))
    grain = np.asarray(smooth).astype(int) + rng.integers(-6, 7, (height, width, 1))
    Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", **{"quality": 92, **options})
    return stream.getvalue()


def _write(path: Path, files: list[bytes], images: int, labels: Mapping[str, object]) -> None:
    partial = path.with_suffix(".partial")
    with tarfile.open(partial, "w") as tar:
        for number in range(images):
            members = {f"{number:06d}.jpg": files[number % len(files)]}
            if labels:
                members[f"{number:06d}.json"] = json.dumps({"number": number, **labels}).encode()
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    partial.rename(path)


if __name__ == "__main__":
    main()
