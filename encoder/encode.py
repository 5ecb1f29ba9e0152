"""Shards in, code files out: the encoder's main job.

Read, decode and forward overlap (`encoder.parallel`); results come back in order, so a code file depends only on its
shard, the model, the precision and the batch size, never on timing. A batch never spans two shards for that reason.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np

from encoder.bits import Codes
from encoder.codefile import SUFFIX, CodeFileWriter, CodeHeader, ShardRecord, open_codes
from encoder.config import Precision
from encoder.counting import EncodeProgress, EncodeReport, MaxBad
from encoder.decode import Limits, RejectedImage, decode_square
from encoder.errors import HashgrainError, Reason, Reject
from encoder.inference import ImageEncoder
from encoder.levels import Level
from encoder.model import Model, load_model
from encoder.parallel import ordered_map
from encoder.publish import exclusive, publish, sha256_of
from encoder.reading import LateLabels, Sample, ShardReader
from encoder.shards import Shard

MODEL_NAME = "model.safetensors"
"""The copy of the model that stands beside the code files, and later in the index."""
BATCH_BYTES = 64 << 20
"""A batch is closed early at this many bytes of image files, so that memory stays bounded for large pictures."""


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """How to encode."""

    batch: int = 32
    workers: int | None = None
    """Threads; None: one a core."""
    device: str = "auto"
    precision: Precision = Precision.AUTO
    limits: Limits = field(default_factory=Limits)
    max_bad: MaxBad = field(default_factory=MaxBad)
    prefix_keys: bool = False
    """Put "SHARD/" before each key, for shards whose keys start over."""
    overwrite: bool = False
    """Replace code files that another model or another shard made, or that have more levels."""
    levels: tuple[Level, ...] | None = None
    """Which to code; None: all that the model has. Stages above the highest are not computed."""


@dataclass(eq=False, slots=True)
class _Job:
    """A shard on its way to its code file."""

    shard: Shard
    reader: ShardReader
    stamp: str
    """Taken before the shard was read, so that the next run notices a change meanwhile."""
    key_prefix: str


@dataclass(slots=True)
class _Batch:
    """Consecutive entries of one shard; every shard has at least one batch, which may be empty."""

    job: _Job
    entries: list[Sample | LateLabels] = field(default_factory=list)
    codes: Mapping[Level, Codes] = field(default_factory=dict)
    """Codes of the entries that are images without a reject, in order; filled in by a worker."""


def encode(
    shards: Sequence[Shard],
    model_path: Path,
    out: Path,
    settings: EncodeSettings,
    progress: Callable[[EncodeProgress], None] = lambda _: None,
) -> EncodeReport:
    """Encode shards into code files, one each; those that are already there and true are kept.

    Args:
        shards: what to encode, from `encoder.shards.expand`.
        model_path: model file; a copy is left in `out`.
        out: folder of the code files.
        settings: how.
        progress: called after each batch.

    Returns:
        Counts over all shards, the kept ones included.

    Raises:
        HashgrainError: `too-many-bad`, `model-mismatch`, `model-invalid`, `shard-clash`, `shard-missing`, `busy`,
            `write-failed`, `bad-value` for a device that is not there, `level-unknown` for a level that the model has
            not, `exists` where a code file has levels that are not asked for.
    """
    with exclusive(out):
        model = load_model(model_path)
        bits = _bits(model, settings)
        _install_model(model_path, out, model.fingerprint, overwrite=settings.overwrite)
        report, todo = EncodeReport(), []
        for shard in shards:
            if kept := _kept(shard, out, model.fingerprint, bits, settings):
                report.skipped += 1
                report.add(*kept)
            else:
                todo.append(shard)
        encoder = ImageEncoder(model, settings.device, settings.precision)
        started, bytes_done, bytes_total = time.monotonic(), 0, sum(map(_size, todo))
        batches = ordered_map(_coder(encoder, tuple(bits), settings.limits), _batches(todo, settings), settings.workers)
        for done, (job, of_shard) in enumerate(groupby(batches, key=lambda batch: batch.job)):
            rows: dict[int, int] = {}
            with CodeFileWriter(out, bits) as writer:
                for batch in of_shard:
                    _write(writer, batch, rows)
                    samples = [entry for entry in batch.entries if isinstance(entry, Sample)]
                    report.encoded += len(samples)
                    bytes_done += sum(sample.size for sample in samples)
                    rejects = report.rejects.total() + writer.rejects
                    settings.max_bad.check(report.seen + writer.rows + writer.rejects, rejects, final=False)
                    progress(EncodeProgress(done, len(todo), report.encoded, rejects, bytes_done, bytes_total))
                header = writer.finish(out / f"{job.shard.name}{SUFFIX}", _header(job, encoder))
                report.add(header, writer.reasons)
        report.seconds = time.monotonic() - started
    settings.max_bad.check(report.seen, report.rejects.total(), final=True)
    return report


def _bits(model: Model, settings: EncodeSettings) -> dict[Level, int]:
    """Return the bits of each level to code."""
    bits = model.config.bits
    for level in settings.levels or ():
        if level not in bits:
            has = ", ".join(bits)
            raise HashgrainError(
                Reason.LEVEL_UNKNOWN, f"the model has no level {level} (has: {has}); name those in --levels"
            )
    return {level: bits[level] for level in settings.levels or bits}


def _install_model(model_path: Path, out: Path, fingerprint: str, *, overwrite: bool) -> None:
    """Leave a copy of the model beside the code files; refuse to mix two models in one folder."""
    copy = out / MODEL_NAME
    if copy.exists() and sha256_of(copy) == fingerprint:
        return
    if copy.exists() and not overwrite:
        raise HashgrainError(
            Reason.MODEL_MISMATCH,
            f"{out} holds codes of another model than {model_path}; choose another --out, or --overwrite to redo them",
        )
    with publish(copy) as partial:
        shutil.copyfile(model_path, partial)


def _kept(
    shard: Shard, out: Path, fingerprint: str, bits: Mapping[Level, int], settings: EncodeSettings
) -> tuple[CodeHeader, Counter[Reject]] | None:
    """Return the counts of a shard's code file if it is whole and still what this run would write."""
    path = out / f"{shard.name}{SUFFIX}"
    if not path.exists():
        return None
    try:
        with open_codes(path) as file:
            header, reasons = file.header, Counter(row.reject for row in file.rejects())
    except HashgrainError:
        return None  # damaged: redone
    record = header.shard
    if record.path != str(shard.path) and not settings.overwrite and Path(record.path).exists():
        raise HashgrainError(
            Reason.SHARD_CLASH,
            f"{path} holds the codes of {record.path}; encode {shard.path} into another folder (--out), or give --overwrite",
        )
    same = (
        header.fingerprint == fingerprint
        and record.key_prefix == _prefix(shard, settings)
        and record.path == str(shard.path)
    )
    if same and header.bits.keys() > bits.keys() and not settings.overwrite:
        has = ",".join(header.bits)
        raise HashgrainError(
            Reason.EXISTS,
            f"{path} has the levels {has}, of which {','.join(bits)} would remain; choose another --out, or give --overwrite",
        )
    return (header, reasons) if same and header.bits == bits and record.stamp == shard.stamp() else None


def _batches(shards: Sequence[Shard], settings: EncodeSettings) -> Iterator[_Batch]:
    for shard in shards:
        job = _Job(shard, ShardReader(shard, settings.limits), shard.stamp(), _prefix(shard, settings))
        batch, size = _Batch(job), 0
        for entry in job.reader:
            batch.entries.append(entry)
            size += len(entry.data) if isinstance(entry, Sample) else 0
            if len(batch.entries) >= settings.batch or size >= BATCH_BYTES:
                yield batch
                batch, size = _Batch(job), 0
        yield batch


def _coder(encoder: ImageEncoder, levels: Sequence[Level], limits: Limits) -> Callable[[_Batch], _Batch]:
    """Return the work of one batch: decode its images, note why one cannot be, code the others, drop the bytes."""
    size = encoder.model.config.image_size

    def code(batch: _Batch) -> _Batch:
        pictures = []
        for entry in batch.entries:
            if isinstance(entry, Sample) and entry.reject is None:
                try:
                    pictures.append(decode_square(entry.data, size, limits))
                except RejectedImage as err:
                    entry.reject, entry.detail = err.reject, err.detail
                entry.data = b""
        if pictures:
            batch.codes = encoder.encode(np.stack(pictures), levels)
        return batch

    return code


def _write(writer: CodeFileWriter, batch: _Batch, rows: dict[int, int]) -> None:
    """Write a batch in order; `rows` remembers where each key went, for labels that come late."""
    prefix, coded = batch.job.key_prefix, 0
    for entry in batch.entries:
        if isinstance(entry, LateLabels):
            if (row := rows.get(hash(entry.key))) is not None:
                writer.label(row, entry.labels)
        elif entry.reject is not None:
            writer.reject(prefix + entry.key, entry.reject, entry.detail)
        else:
            bits = {level: codes[coded].tobytes() for level, codes in batch.codes.items()}
            rows[hash(entry.key)] = writer.add(prefix + entry.key, (entry.offset, entry.size), entry.labels, bits)
            coded += 1


def _header(job: _Job, encoder: ImageEncoder) -> CodeHeader:
    """Describe a shard that has been read; the writer fills counts and levels in."""
    shard, reader = job.shard, job.reader
    return CodeHeader(
        fingerprint=encoder.model.fingerprint,
        precision=encoder.precision,
        bits={},
        shard=ShardRecord(
            name=shard.name,
            kind=shard.kind,
            path=str(shard.path),
            size=reader.size,
            sha256=reader.sha256,
            stamp=job.stamp,
            damage=reader.damage,
            key_prefix=job.key_prefix,
        ),
        seen=0,
        rows=0,
        rejects=0,
        bad_labels=reader.bad_labels,
    )


def _prefix(shard: Shard, settings: EncodeSettings) -> str:
    return f"{shard.name}/" if settings.prefix_keys else ""


def _size(shard: Shard) -> int:
    if not shard.files:
        return shard.path.stat().st_size
    return sum((shard.path / name).stat().st_size for name in shard.files if (shard.path / name).exists())
