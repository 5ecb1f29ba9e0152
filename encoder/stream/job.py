"""Shards in, code files out: the encoder's main job, on one device or several."""

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from encoder.codes.file import SUFFIX
from encoder.codes.store import CodeStore, store_at
from encoder.errors import HashgrainError, Reason
from encoder.images.duplicates import Seen, SeenCodes, seen_files
from encoder.images.labels.table import Matched
from encoder.images.readers.formats import reader_for
from encoder.images.shards import Shard
from encoder.levels import Level
from encoder.model.device import resolve_device, resolve_devices, resolve_precision
from encoder.model.gpu_forward import COMPILE_FROM_BYTES
from encoder.model.model_file import load_model
from encoder.model.spec import MODEL_NAME
from encoder.runtime.cores import worker_count
from encoder.runtime.gpu_usage import watching
from encoder.runtime.telemetry import Telemetry
from encoder.stream.batch import BatchDone
from encoder.stream.devices import Notice, Work, code_on, coded_by
from encoder.stream.earlier import Earlier, Wanted, image_names, look_back
from encoder.stream.report import EncodeProgress, EncodeReport
from encoder.stream.settings import EncodeEngine, EncodeSettings, MaxBad, SkipDuplicates
from encoder.stream.shard import Contents, ShardDone, bits_of, labels_table

if TYPE_CHECKING:
    from encoder.stream.ray_engine import Cluster


def encode(
    shards: Sequence[Shard],
    model_path: Path,
    out: Path | str,
    settings: EncodeSettings,
    progress: Callable[[EncodeProgress], None] = lambda _: None,
    notify: Callable[[str], None] = lambda _: None,
) -> EncodeReport:
    """Encode shards into code files, one each; those that are already there and true are kept.

    Args:
        shards: what to encode, from `encoder.images.expand.expand`.
        model_path: model file; a copy is left in `out`.
        out: folder or URL of the code files; with `EncodeEngine.RAY` a folder that all machines share.
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
    store = store_at(out)
    with ExitStack() as stack:
        stack.enter_context(store.held())
        model = load_model(model_path)
        bits = bits_of(model.config, settings)
        _install_model(model_path, store, model.fingerprint, overwrite=settings.overwrite)
        table = labels_table(settings)
        cluster = stack.enter_context(_cluster(settings)) if settings.engine is EncodeEngine.RAY else None
        devices = [] if cluster else resolve_devices(settings.device)
        contents = replace(_contents(bits, settings, alone=len(devices) == 1), table=table)
        precision = (
            cluster.precision() if cluster else resolve_precision(settings.precision, resolve_device(devices[0]))
        )
        rules = settings.rules(table.digest if table else "")
        earlier = look_back(shards, Wanted(store, model.fingerprint, bits, settings, rules, precision))
        before = image_names(store, [*earlier.replaced, *earlier.superseded])
        report, todo = EncodeReport(telemetry=Telemetry(trace=settings.profile is not None)), list[Shard]()
        for shard in shards:
            if done := earlier.kept.get(shard.name):
                report.skipped += 1
                report.add(*done)
                _remember(contents, store, shard.name)
            else:
                todo.append(shard)
        report.devices = cluster.devices if cluster else len(devices)
        nbytes = sum(reader_for(shard).nbytes() for shard in todo)
        matched = table.matched if table else Matched()
        workers = settings.workers or max(1, worker_count() // max(1, len(devices)))
        report.threads = cluster.threads if cluster else len(devices) * workers
        own = replace(settings, precision=precision) if cluster else replace(settings, workers=workers)
        work = Work(
            model_path,
            str(store),
            own,
            tuple(earlier.donors),
            nbytes >= report.devices * COMPILE_FROM_BYTES,
            aside=cluster is not None,
        )
        coded: Generator[BatchDone | ShardDone | Notice]
        if cluster:
            coded = cluster.code(todo, work, model.fingerprint, report.telemetry, matched)
        elif len(devices) > 1:
            coded = code_on(devices, todo, work, report.telemetry, matched)
        else:
            work = replace(work, settings=replace(own, device=devices[0]))
            coded = coded_by(work, model, todo, report.telemetry, contents, notify)
        started = time.monotonic()
        with closing(coded), watching(devices) as utilisation:
            start = EncodeProgress(0, len(todo), 0, report.bad, 0, nbytes)
            _follow(coded, report, start, settings.max_bad, progress, notify)
        report.seconds, report.gpu = time.monotonic() - started, utilisation.mean
        names = [shard.name for shard in todo] + list(earlier.kept if earlier.superseded else ())
        report.dropped = _dropped(store, before, names)
        _remove(earlier, report, store, prune=settings.prune)
        if settings.profile:
            report.telemetry.save_trace(settings.profile)
    if table and todo:
        for line in table.notices():
            notify(line)
    settings.max_bad.check(report.seen, report.bad, final=True)
    return report


def _dropped(store: CodeStore, before: npt.NDArray[np.uint64], names: Iterable[str]) -> int:
    """Return how many of the images that had codes before have none in these files.

    What a superseded file held may be in one that a run made which was ended before it came to this place.
    """
    for name in names if len(before) else ():
        before = np.setdiff1d(before, image_names(store, [name]), assume_unique=True)
    return len(before)


def _remove(earlier: Earlier, report: EncodeReport, store: CodeStore, *, prune: bool) -> None:
    """Remove code files whose images other files hold now, or nobody; all that is to replace them is written."""
    stale = [*earlier.superseded, *(earlier.gone if prune else [])]
    store.remove(stale)
    report.removed = [f"{name}{SUFFIX}" for name in stale]
    report.gone = [] if prune else [f"{name}{SUFFIX}" for name in earlier.gone]


def _cluster(settings: EncodeSettings) -> "AbstractContextManager[Cluster]":
    """Join a cluster; what it takes is loaded only then."""
    from encoder.stream.ray_engine import joined

    return joined(settings)


def _contents(bits: Mapping[Level, int], settings: EncodeSettings, *, alone: bool) -> Contents:
    """Return room for what is to be compared."""
    if settings.skip is SkipDuplicates.NONE:
        return Contents()
    if not alone:
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"skipping {settings.skip} duplicates compares all images of a run, and processes of several devices do not see each "
            "other's; give one device, of this machine",
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


def _remember(contents: Contents, store: CodeStore, shard_name: str) -> None:
    """Take in the contents of a code file that is kept."""
    if contents.files or contents.codes:
        with store.opened(shard_name, proven=True) as file:
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


def _install_model(model_path: Path, store: CodeStore, fingerprint: str, *, overwrite: bool) -> None:
    """Leave a copy of the model beside the code files; refuse to mix two models in one folder."""
    there = store.sha256(MODEL_NAME)
    if there == fingerprint:
        return
    if there and not overwrite:
        raise HashgrainError(
            Reason.MODEL_MISMATCH,
            f"{store} holds codes of another model than {model_path}; choose another folder, or overwrite them",
        )
    store.put(model_path, MODEL_NAME)
