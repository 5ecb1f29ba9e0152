"""Shards to code files on one device: read, decode, forward and write overlap, and results come back in order.

What a CPU writes depends only on the shard, the model, the precision and the batch size, never on timing or on what other shards
are coded beside it. A batch never spans two shards for that reason. Codes that an earlier run made are taken over as they are.
"""

from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from encoder.codes.file import SUFFIX, CodeFileWriter
from encoder.codes.header import CodeHeader, ShardRecord
from encoder.codes.rules import Rules
from encoder.codes.store import CodeStore, FolderStore
from encoder.errors import HashgrainError, Reason, Reject
from encoder.images.duplicates import AS_ONE_IN, Seen, digest_of
from encoder.images.labels.table import LabelTable
from encoder.images.readers.formats import reader_for
from encoder.images.samples import LateLabels, Sample, batches
from encoder.images.shards import Shard
from encoder.levels import Level
from encoder.model.image_encoder import ImageEncoder
from encoder.model.spec import ModelConfig
from encoder.runtime.hash_map import HashMap
from encoder.runtime.telemetry import Stage
from encoder.stream.batch import Batch, BatchDone, Job
from encoder.stream.coding import Coding, Pipeline
from encoder.stream.earlier import prefix_of
from encoder.stream.settings import EncodeSettings


@dataclass(frozen=True, slots=True)
class ShardDone:
    """A shard has its code file."""

    header: CodeHeader
    reasons: Counter[Reject]


@dataclass(frozen=True, slots=True)
class Contents:
    """What was seen and coded so far."""

    files: Seen | None = None
    """Digests of image files, where the same bytes are skipped."""
    codes: Seen | None = None
    """Fine codes, where near ones are skipped."""
    table: LabelTable | None = None
    """Labels that win over those in the shard."""


def code_shards(
    coding: Coding,
    pipeline: Pipeline,
    shards: Iterable[Shard],
    out: Path,
    contents: Contents,
    store: CodeStore | None = None,
) -> Generator[BatchDone | ShardDone]:
    """Write a code file for each shard and yield what is done, in order.

    Args:
        coding: by what and how.
        pipeline: the way of its device, which is entered and left here.
        shards: what to code; the next one is drawn while the last is still at work.
        out: folder that the code files are written in.
        store: where they are put then; None: they stay there.
        contents: of earlier images; those of this run are added.

    Raises:
        HashgrainError: `shard-missing`, `write-failed`.
    """
    encoder, settings, telemetry = coding.encoder, coding.settings, coding.telemetry
    bits = {level: encoder.model.config.bits[level] for level in coding.levels}
    rules = settings.rules(contents.table.digest if contents.table else "")
    beside = store or FolderStore(out)
    with pipeline:
        read = telemetry.each(Stage.READ, _batches(shards, settings, pipeline, contents.files))
        for job, of_shard in groupby(pipeline.coded(read), key=lambda batch: batch.job):
            rows = HashMap()
            with CodeFileWriter(out, bits) as writer:
                for batch in of_shard:
                    with telemetry.span(Stage.WRITE):
                        if contents.codes:
                            _skip_near(batch, contents.codes)
                        _write(writer, batch, rows, contents.table)
                    yield batch.done()
                with telemetry.span(Stage.WRITE):
                    writer.bad_labels.extend(job.reader.bad_labels)
                    written = out / f"{job.shard.name}{SUFFIX}"
                    header = writer.finish(written, _header(job, encoder, beside, rules))
                    if store:
                        store.put(written)
                        written.unlink()
                rows.clear()
                yield ShardDone(header, writer.reasons)


def labels_table(settings: EncodeSettings) -> LabelTable | None:
    """Read the table of labels of a run, if it has one.

    Raises:
        HashgrainError: as `table_files.read_table`.
    """
    if settings.labels_table is None:
        return None
    from encoder.images.labels.table_files import read_table

    return read_table(settings.labels_table, settings.labels_key)


def bits_of(config: ModelConfig, settings: EncodeSettings) -> dict[Level, int]:
    """Return the bits of each level to code.

    Raises:
        HashgrainError: `level-unknown`.
    """
    bits = config.bits
    for level in settings.levels or ():
        if level not in bits:
            has = ", ".join(bits)
            raise HashgrainError(Reason.LEVEL_UNKNOWN, f"the model has no level {level} (has: {has}); name those")
    return {level: bits[level] for level in settings.levels or bits}


def _batches(
    shards: Iterable[Shard], settings: EncodeSettings, pipeline: Pipeline, files: Seen | None
) -> Iterator[Batch]:
    for shard in shards:
        reader = reader_for(shard, settings.limits)
        reader.hasher, reader.views = pipeline.hasher, pipeline.views
        job = Job(shard, reader, reader.stamp(), prefix_of(shard.name, settings))
        for entries in batches(_skip_same(job, files) if files else reader, pipeline.batch, pipeline.batch_bytes):
            yield Batch(job, entries)
        yield Batch(job)  # so that a shard without an image has a batch, too


def _skip_same(job: Job, files: Seen) -> Iterator[Sample | LateLabels]:
    """Reject the images of a shard whose bytes came before."""
    for entry in job.reader:
        if (
            isinstance(entry, Sample)
            and entry.content
            and (earlier := files.in_shard(np.frombuffer(digest_of(entry.content), np.uint8), job.shard.name))
        ):
            entry.rejected(Reject.SAME_CONTENT, f"{AS_ONE_IN}{earlier}")
        yield entry


def _skip_near(batch: Batch, codes: Seen) -> None:
    """Reject the images of a batch whose fine code is near an earlier one's."""
    different = []
    for number, entry in enumerate(batch.images()):
        if earlier := codes.in_shard(batch.codes[Level.FINE][number], batch.job.shard.name):
            entry.rejected(Reject.NEAR_CONTENT, f"{AS_ONE_IN}{earlier}")
        else:
            different.append(number)
    batch.codes = {level: of_level[different] for level, of_level in batch.codes.items()}
    batch.digests = [batch.digests[number] for number in different]


def _write(writer: CodeFileWriter, batch: Batch, rows: HashMap, table: LabelTable | None) -> None:
    """Write a batch in order; `rows` remembers where each key went, for labels that come late."""
    prefix, images = batch.job.key_prefix, batch.images()
    places = np.array([(image.offset, image.size) for image in images], dtype=np.uint64).reshape(len(images), 2)
    keys = [prefix + image.key for image in images]
    row = writer.add_rows(keys, places, b"".join(batch.digests), batch.codes)

    def label(row: int, entry: Sample | LateLabels) -> None:
        labels = entry.labels | table.labels(entry.key, writer.bad_labels) if table else entry.labels
        if labels:
            writer.label(row, labels, prefix + entry.key)

    for entry in batch.entries:
        if isinstance(entry, LateLabels):
            if (of_image := rows.get(hash(entry.key))) is not None:
                label(of_image, entry)
        elif entry.reject is not None:
            writer.reject(prefix + entry.key, entry.reject, entry.detail)
        else:
            rows[hash(entry.key)] = row
            if table or entry.labels:
                label(row, entry)
            row += 1


def _header(job: Job, encoder: ImageEncoder, store: CodeStore, rules: Rules) -> CodeHeader:
    """Describe a shard that has been read; the writer fills counts and levels in."""
    shard, reader = job.shard, job.reader
    return CodeHeader(
        fingerprint=encoder.model.fingerprint,
        precision=encoder.precision,
        bits={},
        shard=ShardRecord(
            name=shard.name,
            kind=shard.kind,
            path=shard.path,
            size=reader.size,
            sha256=reader.sha256,
            stamp=job.stamp,
            damage=reader.damage,
            key_prefix=job.key_prefix,
            relative=store.relative(shard.path),
        ),
        seen=0,
        rows=0,
        rejects=0,
        bad_labels=0,
        rules=rules,
        skipped=dict(reader.skipped),
    )
