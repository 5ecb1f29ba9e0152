"""Throughput of `encode` against the roofline of this machine, in one run.

usage: encode.py SHARDS... [--weights FILE] [--backbone resnet50] [--size 160] [--batch 32] [--rounds 3]

On a CPU the roofline is cores / (CPU seconds an image of the bare forward + CPU seconds an image of the bare decode):
forward is the backbone alone on normalised tensors in memory, same batch and precision; decode is JPEG bytes in memory to
the network's square. Both are measured with every core busy, since cores share caches and clock, and the forward in both
ways of using the cores (one thread a batch; all threads one batch), of which the cheaper counts. Rounds alternate between
the three measurements; medians are printed.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from encoder.coding import EncodeSettings
from encoder.config import BackboneSpec, Precision
from encoder.cores import worker_count
from encoder.decode import Limits, decode_square
from encoder.encode import encode
from encoder.fit import FitSettings, fit
from encoder.inference import ImageEncoder
from encoder.model import load_model
from encoder.reading import Sample, ShardReader
from encoder.shards import expand

REPEATS = 6
"""Batches per core and measurement."""


def cpu_seconds(work: Callable[[], int], threads: int, intra: int) -> float:
    """Return CPU seconds an image of `work` (which returns its images) run by several threads at once."""
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(intra,)) as pool:
        list(pool.map(lambda _: work(), range(threads)))  # warm up
        started = time.process_time()
        images = sum(pool.map(lambda _: sum(work() for _ in range(REPEATS)), range(threads)))
        return (time.process_time() - started) / images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="+")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", type=Precision, default=Precision.AUTO)
    arguments = parser.parse_args()
    shards, cores = expand(arguments.shards), worker_count()
    with tempfile.TemporaryDirectory() as scratch:
        model_path = Path(scratch, "model.safetensors")
        settings = FitSettings(
            BackboneSpec(arguments.backbone),
            arguments.weights,
            image_size=arguments.size,
            sample=256,
            batch=arguments.batch,
        )
        fit(shards, settings, model_path, lambda *_: None)
        encoder = ImageEncoder(load_model(model_path), "cpu", arguments.precision)
        samples = [sample for sample in ShardReader(shards[0]) if isinstance(sample, Sample) and sample.reject is None]
        files = [sample.data for sample in samples[: arguments.batch]]
        pictures = np.stack([decode_square(data, arguments.size, Limits()) for data in files])
        batch = encoder.model.network.normalise(torch.from_numpy(pictures))

        @torch.inference_mode()
        def forward() -> int:
            for _ in encoder.model.network.backbone(batch):
                pass
            return len(batch)

        def decode() -> int:
            for data in files:
                decode_square(data, arguments.size, Limits())
            return len(files)

        forwards, together, decodes, rates = [], [], [], []
        for number in range(arguments.rounds):
            forwards.append(cpu_seconds(forward, cores, 1))
            together.append(cpu_seconds(forward, 1, cores))
            decodes.append(cpu_seconds(decode, cores, 1))
            run_settings = EncodeSettings(batch=arguments.batch, device="cpu", precision=arguments.precision)
            report = encode(shards, model_path, Path(scratch, f"codes-{number}"), run_settings)
            rates.append(report.encoded / report.seconds)
    bare_forward = min(statistics.median(forwards), statistics.median(together))
    bare_decode, rate = statistics.median(decodes), statistics.median(rates)
    roofline = cores / (bare_forward + bare_decode)
    print(
        f"{arguments.backbone}, {arguments.size} px, batch {arguments.batch}, {encoder.precision}, {cores} cores, {report.encoded:,} images a round, {arguments.rounds} rounds\n"
    )
    print("| measured | median | min | max |")
    print("|---|---|---|---|")
    for name, values in (
        ("bare forward, one thread a batch, CPU ms an image", [1e3 * value for value in forwards]),
        ("bare forward, all threads one batch, CPU ms an image", [1e3 * value for value in together]),
        ("bare decode, CPU ms an image", [1e3 * value for value in decodes]),
        ("encode, images/s", rates),
    ):
        print(f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} |")
    print(f"\nroofline {roofline:.1f} images/s; encode reaches {rate / roofline:.1%}")


if __name__ == "__main__":
    main()
