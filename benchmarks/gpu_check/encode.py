"""The whole pipeline: shards to code files, by kind of photo and number of processes, beside what its parts can do."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.gpu_check.check import Check
from benchmarks.gpu_check.driver import kept
from benchmarks.gpu_check.forward import MOST_BITS, STATIC
from benchmarks.gpu_check.photos import Kind, model_of, repeated, tars_of
from encoder.codes.file import list_code_files, open_codes
from encoder.images.expand import expand
from encoder.model.spec import Precision
from encoder.stream import job
from encoder.stream.job import encode
from encoder.stream.report import EncodeProgress, EncodeReport
from encoder.stream.settings import EncodeSettings

IMAGES: Final = 40_000
CASES: Final = (
    (Kind.EQUAL, 1, IMAGES),
    (Kind.VARIED, 1, IMAGES),
    (Kind.PROGRESSIVE, 1, IMAGES // 4),
    (Kind.TURNED, 1, IMAGES // 2),
    (Kind.DAMAGED, 1, IMAGES // 4),
    (Kind.LARGE, 1, 1000),
    (Kind.EQUAL, 2, 2 * IMAGES),
    (Kind.EQUAL, 4, 2 * IMAGES),
    (Kind.VARIED, 4, 2 * IMAGES),
)
"""Kind, processes on the one GPU, images."""
SETTLED: Final = 0.2
"""Share of the images after which the rate is measured: before, processes start and the network is compiled."""


def encode_photos(check: Check) -> None:
    """Run what proves most first, since a later case may be killed."""
    for kind in (Kind.VARIED, Kind.TURNED):
        _codes(check, kind)
    _compile_always()
    for kind, processes, images in CASES:
        if processes == 1 or check.on_gpu:
            _case(check, kind, processes, images)


def _codes(check: Check, kind: Kind) -> None:
    """Hold codes from files to codes on the GPU against those of a CPU in fp32."""
    shards, found = expand([str(tars_of(check, kind)[0])]), []
    for name, device, precision in (("cpu", "cpu", Precision.FP32), ("here", str(check.device), Precision.AUTO)):
        out = _emptied(check.folder / "codes" / f"{kind}-{name}")
        encode(shards, model_of(check), out, EncodeSettings(device=device, precision=precision))
        with open_codes(list_code_files([out])[0]) as file:
            found.append((list(file.keys()), {level: file.codes(level) for level in file.header.bits}))
    (keys, truth), (keys_here, codes) = found
    check.hold(f"{kind}: rows as on a CPU", len(keys_here), holds=keys == keys_here)
    if keys == keys_here:
        apart = sum(int(np.bitwise_count(codes[level] ^ truth[level]).sum()) for level in truth)
        share = apart / sum(8 * each.size for each in truth.values())
        what = f"{kind}: bits that differ from a CPU in fp32, decode included"
        check.hold(what, 100 * share, "%", holds=share <= MOST_BITS)


def _case(check: Check, kind: Kind, processes: int, images: int) -> None:
    name = f"{kind}, {processes} {'process' if processes == 1 else 'processes'}"
    shards = expand([str(tar) for tar in repeated(check, kind, check.count(images, 16))])
    out, seen = _emptied(check.folder / "codes" / "rate"), list[tuple[float, int]]()

    def follow(at: EncodeProgress) -> None:
        seen.append((time.perf_counter(), at.images))

    began = time.perf_counter()
    devices = ",".join([str(check.device)] * processes)
    report = encode(shards, model_of(check), out, EncodeSettings(device=devices), follow, print)
    rate = _settled(seen) or report.encoded / report.seconds
    check.result(name, rate, "images/s")
    check.result(f"{name}: first code file and all else before it settled", _start(seen, began), "s")
    for part, limit in _limits(check).items():
        check.result(f"{name}: of the {part}", 100 * rate / limit, "%")
    _say(check, name, report)
    whole = report.seen == report.rows + report.rejects.total()
    check.hold(f"{name}: images", report.seen, holds=whole and (kind is Kind.DAMAGED or not report.bad))


def _say(check: Check, name: str, report: EncodeReport) -> None:
    """Write what the report knows of how images went and where time went."""
    ways = getattr(report, "ways", {})
    for way, number in sorted(ways.items()):
        check.result(f"{name}: {way}", 100 * number / max(1, report.encoded), "% of images")
    if report.gpu is not None:
        check.result(f"{name}: GPU busy", 100 * report.gpu, "% of the time")
    for stage, share in report.shares().items():
        check.result(f"{name}: {stage}", 100 * share, "% of the threads' time")


def _settled(seen: Sequence[tuple[float, int]]) -> float | None:
    """Return images per second after the start; None where too little was done to say."""
    if not seen or len(settled := [at for at in seen if at[1] >= SETTLED * seen[-1][1]]) < 3:
        return None
    (began, first), (ended, last) = settled[0], settled[-1]
    return (last - first) / (ended - began) if last > first else None


def _start(seen: Sequence[tuple[float, int]], began: float) -> float:
    settled = [at for at in seen if at[1] >= SETTLED * seen[-1][1]]
    return (settled[0][0] if settled else time.perf_counter()) - began


def _limits(check: Check) -> dict[str, float]:
    """Return what the parts reach by themselves, as earlier stages measured it."""
    found = {each["measured"]: each["value"] for outcome in kept(check.folder) for each in outcome.results}
    forward = next((value for name, value in found.items() if name.startswith(f"{STATIC}, ")), None)
    parts = {"bare forward": forward, "bare decode": found.get("bare decode, best")}
    return {name: float(value) for name, value in parts.items() if value}


def _compile_always() -> None:
    """Let a few thousand photos be worth compiling for, as millions are."""
    setattr(job, "COMPILE_FROM_BYTES", 0)  # noqa: B010  it is asked there, also for other processes


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
