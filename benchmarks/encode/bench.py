"""The cases of the benchmark, each kept when it is done."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.encode.limits import cpu_limits, gpu_limits
from benchmarks.encode.photos import large_photos, repeated, some_bad
from encoder.codes.file import SUFFIX
from encoder.hashing.fit_model import FitSettings, fit
from encoder.hashing.names import HashKind
from encoder.images.expand import expand
from encoder.images.shards import Shard
from encoder.model.device import fast_dtype
from encoder.model.spec import BackboneSpec
from encoder.runtime.cores import worker_count
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings

WAYS = ("files", "files tuned", "tars", "tars tuned")
STARTS, HELPS = 3, 11
"""How often each is timed."""
FIRST = (256, 64)
"""Photos of the first shard: a code file is there when all of them are coded."""


class Bench:
    """Photos, models and what was measured.

    Args:
        folder: of everything made here.
        shards: photos, as `encoder encode` takes them; tars.
        weights: of the first network; the others are random, which costs the same time.
        device: cpu or cuda.
        rounds: measurements of each thing.
    """

    def __init__(self, folder: Path, shards: Sequence[str], weights: str, device: str, rounds: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.weights, self.device, self.rounds = folder, weights, device, rounds
        self.tars = [Path(shard.path) for shard in expand(shards)]
        self.kept = folder / f"encode-{device}.json"
        self.done: dict[str, Any] = json.loads(self.kept.read_text()) if self.kept.exists() else {}
        precision = str(fast_dtype(device)).removeprefix("torch.")
        self.done["machine"] = (
            f"{worker_count()} cores, {_processor()}, torch {torch.__version__}, {precision} on {device}"
        )

    def roofline(self, networks: Sequence[str], images: int, large: int) -> None:
        """Measure what `encode` reaches of what its parts could do."""
        photos = {"photos": repeated(self.tars, self.folder / "photos", images)}
        if large:
            photos["12 megapixels"] = large_photos(self.tars, self.folder / f"large-{large}", large)
        for network in networks:
            for name, tars in photos.items():
                self._once("roofline", f"{network}, {name}", partial(self._reached, network, tars))

    def memory(self, network: str, images: int) -> None:
        """Measure resident memory in a process of its own."""
        tars = repeated(some_bad(self.tars, self.folder / "bad"), self.folder / "bad-photos", images)
        model = self._model(network)

        def measure() -> Any:
            return _child("memory", self.device, str(model), str(self._scratch()), *map(str, tars))

        self._once("memory", network, measure)

    def peers(self, networks: Sequence[str], images: int) -> None:
        """Measure what a user would write beside `encode`, on the same photos, each in a process of its own."""
        tars = repeated(self.tars, self.folder / f"peer-{images}", images)
        for network in networks:
            self._once("peers", network, partial(self._beside, network, tars))

    def start(self, networks: Sequence[str]) -> None:
        """Measure how long a user waits for the first code file, and for help."""
        for network, photos in product(networks, FIRST):
            tar = repeated(self.tars, self.folder / f"start-{photos}", photos, exactly=True)[0]
            first = partial(self._first, self._model(network), tar)
            self._once("start", f"{network}, {photos} photos", partial(_median, first, STARTS))
        for program in ("encoder", "indexer"):
            self._once("start", f"{program} --help", partial(_median, partial(_help, program), HELPS))

    def _reached(self, network: str, tars: Sequence[Path]) -> dict[str, Any]:
        model, shards = self._model(network), _shards(tars)
        limits, rates = [self._limits(model, tars[0])], []
        for _ in range(self.rounds):
            report = encode(shards, model, self._scratch(), EncodeSettings(device=self.device))
            rates.append(report.encoded / report.seconds)
            limits.append(self._limits(model, tars[0]))
        median = {name: statistics.median(limit[name] for limit in limits) for name in limits[0]}
        return {"limits": median, "rates": rates, "images": report.encoded, "shares": report.shares()}

    def _limits(self, model: Path, tar: Path) -> dict[str, float]:
        return cpu_limits(model, tar) if self.device == "cpu" else gpu_limits(model, tar, self.device)

    def _beside(self, network: str, tars: Sequence[Path]) -> dict[str, Any]:
        model, names = self._model(network), [str(tar) for tar in tars]
        files = self.folder / f"files-of-{tars[0].parent.name}"
        rates: dict[str, list[float]] = {}
        workers: dict[str, int] = {}
        for round_ in range(self.rounds):
            rates.setdefault("encode", []).append(_child("ours", self.device, str(model), str(self._scratch()), *names))
            for way in WAYS:
                for count in (0, worker_count()) if round_ == 0 else (workers[way],):
                    rate = _child("theirs", self.device, str(model), str(files), way, str(count), *names)
                    if way not in workers or rate > rates[way][0]:
                        rates[way], workers[way] = [rate] if round_ == 0 else rates[way], count
                    if round_:
                        rates[way].append(rate)
        return {"rates": rates, "workers": workers}

    def _first(self, model: Path, tar: Path) -> float:
        out, begun = self._scratch(), time.perf_counter()
        options = ["--model", str(model), "--out", str(out), "--device", self.device]
        command = [sys.executable, "-m", "encoder", "encode", str(tar), *options]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while not list(out.glob(f"*{SUFFIX}")):
                if process.poll():
                    raise SystemExit(f"{command} failed")
                time.sleep(0.01)
            return time.perf_counter() - begun

    def _model(self, network: str) -> Path:
        """Fit a model: which bits it makes is no matter here."""
        name, _, size = network.partition("@")
        path = self.folder / f"{name}-{size}.safetensors"
        if not path.exists():
            weights = self.weights if name in Path(self.weights).name else "none"
            settings = FitSettings(BackboneSpec(name), weights, HashKind.LSH, image_size=int(size), sample=256)
            fit(expand([str(self.tars[0])]), settings, path, lambda *_: None)
        return path

    def _scratch(self) -> Path:
        """Return a folder for code files that is not there yet."""
        number = sum(1 for _ in self.folder.glob("codes-*"))
        path = self.folder / f"codes-{number:04d}"
        path.mkdir()
        return path

    def _once(self, part: str, name: str, measure: Callable[[], Any]) -> None:
        cases = self.done.setdefault(part, {})
        if name not in cases:
            cases[name] = measure()
            print(f"{part}: {name}: {json.dumps(cases[name])}", flush=True)
            self.kept.write_text(json.dumps(self.done, indent=1))


def _median(measure: Callable[[], float], times: int) -> float:
    return statistics.median(measure() for _ in range(times))


def _shards(tars: Sequence[Path]) -> list[Shard]:
    return list(expand([str(tar) for tar in tars]))


def _child(*arguments: str) -> Any:
    command = [sys.executable, "-m", "benchmarks.encode.child", *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def _help(program: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", program, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []  # noqa: PTH110
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
