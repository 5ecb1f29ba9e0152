"""Shards in, code files out: the encoder's main job, on one device or several."""

import shutil
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from encoder.codes.file import SUFFIX, open_codes
from encoder.errors import HashgrainError, Reason, why
from encoder.images.duplicates import Seen, SeenCodes, seen_files
from encoder.images.labels.table import Matched
from encoder.images.readers.formats import reader_for
from encoder.images.shards import Shard
from encoder.levels import Level
from encoder.model.device import resolve_device, resolve_devices, resolve_precision
from encoder.model.gpu_forward import COMPILE_FROM_BYTES
from encoder.model.image_encoder import ImageEncoder
from encoder.model.model_file import load_model
from encoder.model.spec import MODEL_NAME
from encoder.runtime.cores import worker_count
from encoder.runtime.durable import sync_folder
from encoder.runtime.gpu_usage import watching
from encoder.runtime.publish import exclusive, publish, sha256_of, write_failed
from encoder.runtime.telemetry import Telemetry
from encoder.stream.batch import BatchDone
from encoder.stream.coding import Coding
from encoder.stream.devices import Notice, Work, code_on
from encoder.stream.earlier import Earlier, Wanted, image_names, look_back
from encoder.stream.known import KnownCodes
from encoder.stream.pipeline import pipeline_for
from encoder.stream.report import EncodeProgress, EncodeReport
from encoder.stream.settings import EncodeSettings, MaxBad, SkipDuplicates
from encoder.stream.shard import Contents, ShardDone, bits_of, code_shards, labels_table


def encode(
    shards: Sequence[Shard],
    model_path: Path,
    out: Path,
    settings: EncodeSettings,
    progress: Callable[[EncodeProgress], None] = lambda _: None,
    notify: Callable[[str], None] = lambda _: None,
) -> EncodeReport:
    """Encode shards into code files, one each; those that are already there and true are kept.

    Args:
        shards: what to encode, from `encoder.images.expand.expand`.
        model_path: model file; a copy is left in `out`.
        out: folder of the code files.
        settings: how.
        progress: called after each batch.
        notify: called with a line for a person before something takes long.

    Returns:
        Counts over all shards, the kept ones included.

    Raises:
        HashgrainError: `too-many-bad`, `model-mismatch`, `model-invalid`, `shard-clash`, `shard-missing`, `busy`,
            `write-failed`, `bad-value` for a device that is not there, `level-unknown` for a level that the model has
            not, `exists` where a code file has levels that are not asked for, `process-died`.
    """
    with exclusive(out):
        model = load_model(model_path)
        bits = bits_of(model.config, settings)
        _install_model(model_path, out, model.fingerprint, overwrite=settings.overwrite)
        table = labels_table(settings)
        contents = replace(_contents(bits, settings), table=table)
        devices = resolve_devices(settings.device)
        precision = resolve_precision(settings.precision, resolve_device(devices[0]))
        rules = settings.rules(table.digest if table else "")
        earlier = look_back(shards, Wanted(out, model.fingerprint, bits, settings, rules, precision))
        before = image_names([*earlier.replaced, *earlier.superseded])
        report, todo = EncodeReport(telemetry=Telemetry(trace=settings.profile is not None)), list[Shard]()
        for shard in shards:
            if done := earlier.kept.get(shard.name):
                report.skipped += 1
                report.add(*done)
                _remember(contents, out / f"{shard.name}{SUFFIX}", shard.name)
            else:
                todo.append(shard)
        settings = replace(settings, workers=settings.workers or max(1, worker_count() // len(devices)))
        nbytes = sum(reader_for(shard).nbytes() for shard in todo)
        is_worth_compiling = nbytes >= len(devices) * COMPILE_FROM_BYTES
        if len(devices) == 1:
            encoder = ImageEncoder(model, devices[0], settings.precision)
            coding = Coding(encoder, tuple(bits), settings, report.telemetry, KnownCodes(earlier.donors, bits))
            pipeline = pipeline_for(coding, compile=is_worth_compiling, notify=notify)
            coded: Generator[BatchDone | ShardDone | Notice] = code_shards(coding, pipeline, todo, out, contents)
        else:
            matched = table.matched if table else Matched()
            work = Work(model_path, out, settings, tuple(earlier.donors), is_worth_compiling)
            coded = code_on(devices, todo, work, report.telemetry, matched)
        report.devices, report.threads = len(devices), len(devices) * (settings.workers or 1)
        started = time.monotonic()
        with closing(coded), watching(devices) as utilisation:
            start = EncodeProgress(0, len(todo), 0, report.bad, 0, nbytes)
            _follow(coded, report, start, settings.max_bad, progress, notify)
        report.seconds, report.gpu = time.monotonic() - started, utilisation.mean
        # what a superseded file held may be in one that a run made which was ended before it came to this place
        names = [shard.name for shard in todo] + list(earlier.kept if earlier.superseded else ())
        for path in (out / f"{name}{SUFFIX}" for name in names if len(before)):
            before = np.setdiff1d(before, image_names([path]), assume_unique=True)
        report.dropped = len(before)
        _remove(earlier, report, out, prune=settings.prune)
        if settings.profile:
            report.telemetry.save_trace(settings.profile)
    if table and todo:
        for line in table.notices():
            notify(line)
    settings.max_bad.check(report.seen, report.bad, final=True)
    return report


def _remove(earlier: Earlier, report: EncodeReport, out: Path, *, prune: bool) -> None:
    """Remove code files whose images other files hold now, or nobody; all that is to replace them is written."""
    stale = [*earlier.superseded, *(earlier.gone if prune else [])]
    try:
        for path in stale:
            path.unlink()
        if stale:
            sync_folder(out)
    except OSError as err:
        raise write_failed(out, err) from err
    report.removed, report.gone = [path.name for path in stale], [] if prune else [path.name for path in earlier.gone]


def _contents(bits: Mapping[Level, int], settings: EncodeSettings) -> Contents:
    """Return room for what is to be compared."""
    if settings.skip is SkipDuplicates.NONE:
        return Contents()
    if len(resolve_devices(settings.device)) > 1:
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"skipping {settings.skip} duplicates compares all images of a run, and processes of several devices do not see each "
            "other's; give one device",
        )
    if settings.skip is SkipDuplicates.EXACT:
        return Contents(seen_files())
    if Level.FINE not in bits:
        raise HashgrainError(
            Reason.LEVEL_UNKNOWN, "near duplicates are found by fine codes; add the level fine, or take exact"
        )
    if not 0 <= settings.near_radius < bits[Level.FINE]:
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"near_radius {settings.near_radius} is not a number of bits of a fine code; give 0 to {bits[Level.FINE] - 1}",
        )
    return Contents(seen_files(), Seen(SeenCodes(bits[Level.FINE], settings.near_radius)))


def _remember(contents: Contents, path: Path, shard_name: str) -> None:
    """Take in the contents of a code file that is kept."""
    if contents.files or contents.codes:
        with open_codes(path, proven=True) as file:
            if contents.files and (digests := file.digests()) is not None:
                contents.files.add_all(list(digests), shard_name)
            if contents.codes:
                contents.codes.add_all(list(file.codes(Level.FINE)), shard_name)


def _follow(
    coded: Iterable[BatchDone | ShardDone | Notice],
    report: EncodeReport,
    start: EncodeProgress,
    max_bad: MaxBad,
    progress: Callable[[EncodeProgress], None],
    notify: Callable[[str], None],
) -> None:
    """Count what is done, and stop where too much is bad."""
    done, passed = 0, 0
    seen, bad = report.seen, start.bad
    for each in coded:
        if isinstance(each, Notice):
            notify(each.line)
            continue
        if isinstance(each, ShardDone):
            report.add(each.header, each.reasons)
            done += 1
        else:
            report.encoded += each.images
            report.bytes += each.bytes
            report.taken += each.taken
            report.ways.update(each.ways)
            passed += each.passed
            seen, bad = seen + each.images, bad + each.bad
            max_bad.check(seen, bad, final=False)
        progress(EncodeProgress(done, start.shards_total, report.encoded, bad, passed, start.bytes_total))


def _install_model(model_path: Path, out: Path, fingerprint: str, *, overwrite: bool) -> None:
    """Leave a copy of the model beside the code files; refuse to mix two models in one folder."""
    copy = out / MODEL_NAME
    try:
        if copy.exists() and sha256_of(copy) == fingerprint:
            return
    except OSError as err:
        raise HashgrainError(
            Reason.MODEL_INVALID, f"model file {copy} could not be read ({why(err)}); choose another folder"
        ) from err
    if copy.exists() and not overwrite:
        raise HashgrainError(
            Reason.MODEL_MISMATCH,
            f"{out} holds codes of another model than {model_path}; choose another folder, or overwrite them",
        )
    with publish(copy) as partial:
        shutil.copyfile(model_path, partial)
