"""Shards to code files on one device: read, decode, forward and write overlap, and results come back in order.

What a CPU writes depends only on the shard, the model, the precision and the batch size, never on timing or on what other shards
are coded beside it. A batch never spans two shards for that reason. Codes that an earlier run made are taken over as they are.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.codes.file import SUFFIX, CodeFileWriter, Place
from encoder.codes.header import CodeHeader, ShardRecord
from encoder.codes.rules import Rules
from encoder.errors import HashgrainError, Reason, Reject
from encoder.images.decoding.decode import RejectedImage
from encoder.images.duplicates import AS_ONE_IN, Seen, digest_of
from encoder.images.labels.table import LabelTable
from encoder.images.labels.values import Labels
from encoder.images.limits import Limits
from encoder.images.readers.formats import reader_for
from encoder.images.samples import LateLabels, Sample, ShardReader, batches
from encoder.images.shards import Shard, relative_to
from encoder.levels import Level
from encoder.model.image_encoder import ImageEncoder, Picture
from encoder.model.spec import ModelConfig
from encoder.runtime.parallel import ordered_map
from encoder.runtime.telemetry import Stage, Telemetry
from encoder.stream.earlier import prefix_of
from encoder.stream.known import KnownCodes
from encoder.stream.settings import EncodeSettings

BATCH_BYTES = 64 << 20
"""A batch is closed early at this many bytes of image files, so that memory stays bounded for large pictures."""


@dataclass(frozen=True, slots=True)
class BatchDone:
    """A batch has its codes."""

    images: int
    """Seen, rejects included."""
    bad: int
    """Rejects, without those that are skipped for their content."""
    bytes: int
    """Of the image files."""
    passed: int
    """Bytes of the shard that are dealt with: a tar of small images has as many between them."""
    taken: int = 0
    """Images whose code an earlier run made."""


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
    known: KnownCodes = field(default_factory=KnownCodes)
    """Codes that earlier runs made."""
    table: LabelTable | None = None
    """Labels that win over those in the shard."""


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
    """Consecutive entries of one shard; its last batch is empty."""

    job: _Job
    entries: list[Sample | LateLabels] = field(default_factory=list)
    codes: Mapping[Level, Codes] = field(default_factory=dict)
    """Codes of the entries that are images without a reject, in order; filled in by a worker."""
    digests: list[bytes] = field(default_factory=list)
    """`digest_of` these images; filled in by a worker."""
    taken: int = 0
    """How many of the codes were there before; filled in by a worker."""

    def done(self) -> BatchDone:
        """Return what it counts for."""
        samples = [entry for entry in self.entries if isinstance(entry, Sample)]
        bad = sum(sample.reject is not None and sample.reject.bad for sample in samples)
        size = sum(sample.size for sample in samples)
        span = samples[-1].offset + samples[-1].size - samples[0].offset if samples else 0
        # offsets in a compressed tar are not of its own bytes, those of a folder's files are 0
        passed = size if self.job.reader.sequential else max(size, span)
        return BatchDone(len(samples), bad, size, passed, self.taken)


def code_shards(
    encoder: ImageEncoder,
    shards: Iterable[Shard],
    out: Path,
    settings: EncodeSettings,
    telemetry: Telemetry,
    contents: Contents,
) -> Generator[BatchDone | ShardDone]:
    """Write a code file for each shard and yield what is done, in order.

    Args:
        encoder: the network.
        shards: what to code; the next one is drawn while the last is still at work.
        out: folder of the code files.
        settings: how.
        telemetry: where the time goes is written down here.
        contents: of earlier images; those of this run are added.

    Raises:
        HashgrainError: `shard-missing`, `write-failed`.
    """
    bits = bits_of(encoder.model.config, settings)
    read = telemetry.each(Stage.READ, _batches(shards, settings, settings.batch or encoder.batch, contents.files))
    coded = ordered_map(
        _coder(encoder, tuple(bits), settings.limits, telemetry, contents.known), read, settings.workers
    )
    rules = settings.rules(contents.table.digest if contents.table else "")
    for job, of_shard in groupby(coded, key=lambda batch: batch.job):
        rows: dict[int, int] = {}
        with CodeFileWriter(out, bits) as writer:
            for batch in of_shard:
                with telemetry.span(Stage.WRITE):
                    if contents.codes:
                        _skip_near(batch, contents.codes)
                    _write(writer, batch, rows, contents.table)
                yield batch.done()
            with telemetry.span(Stage.WRITE):
                writer.bad_labels.extend(job.reader.bad_labels)
                header = writer.finish(out / f"{job.shard.name}{SUFFIX}", _header(job, encoder, out, rules))
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


def _batches(shards: Iterable[Shard], settings: EncodeSettings, count: int, files: Seen | None) -> Iterator[_Batch]:
    for shard in shards:
        reader = reader_for(shard, settings.limits)
        job = _Job(shard, reader, reader.stamp(), prefix_of(shard.name, settings))
        for entries in batches(_skip_same(job, files) if files else reader, count, BATCH_BYTES):
            yield _Batch(job, entries)
        yield _Batch(job)  # so that a shard without an image has a batch, too


def _skip_same(job: _Job, files: Seen) -> Iterator[Sample | LateLabels]:
    """Reject the images of a shard whose bytes came before."""
    for entry in job.reader:
        if (
            isinstance(entry, Sample)
            and entry.data
            and (earlier := files.in_shard(np.frombuffer(digest_of(entry.data), np.uint8), job.shard.name))
        ):
            entry.rejected(Reject.SAME_CONTENT, f"{AS_ONE_IN}{earlier}")
        yield entry


def _coder(
    encoder: ImageEncoder, levels: Sequence[Level], limits: Limits, telemetry: Telemetry, known: KnownCodes
) -> Callable[[_Batch], _Batch]:
    """Return the work of one batch: take the codes that are known, decode the other images and code them, drop the bytes."""

    def code(batch: _Batch) -> _Batch:
        images = [entry for entry in batch.entries if isinstance(entry, Sample) and entry.reject is None]
        digests = [digest_of(entry.data) for entry in images]
        numbers = known.find(digests)
        pictures: list[Picture] = []
        with telemetry.span(Stage.DECODE):
            new = [entry for entry, number in zip(images, numbers.tolist(), strict=True) if number < 0]
            for entry, seen in zip(new, encoder.pictures([entry.data for entry in new], limits), strict=True):
                if isinstance(seen, RejectedImage):
                    entry.rejected(seen.reject, seen.detail)
                else:
                    pictures.append(seen)
        coded = np.array([entry.reject is None for entry in images], dtype=np.bool_)
        batch.digests = [digest for digest, has_code in zip(digests, coded.tolist(), strict=True) if has_code]
        batch.taken = int((numbers >= 0).sum())
        numbers = numbers[coded]
        if pictures:
            with telemetry.span(Stage.FORWARD):
                batch.codes = encoder.codes(pictures, levels)
        if batch.taken:
            batch.codes = {
                level: _merged(batch.codes.get(level), known.codes(level, numbers), numbers) for level in levels
            }
        for entry in images:
            entry.data = b""
        return batch

    return code


def _merged(new: Codes | None, known: Codes, numbers: npt.NDArray[np.int64]) -> Codes:
    """Return the codes of a batch in order: `known` where there is a number, which is 0 or more, and `new` elsewhere."""
    codes = known.copy()
    if new is not None:
        codes[numbers < 0] = new
    return codes


def _skip_near(batch: _Batch, codes: Seen) -> None:
    """Reject the images of a batch whose fine code is near an earlier one's."""
    coded = [entry for entry in batch.entries if isinstance(entry, Sample) and entry.reject is None]
    different = []
    for number, entry in enumerate(coded):
        if earlier := codes.in_shard(batch.codes[Level.FINE][number], batch.job.shard.name):
            entry.rejected(Reject.NEAR_CONTENT, f"{AS_ONE_IN}{earlier}")
        else:
            different.append(number)
    batch.codes = {level: of_level[different] for level, of_level in batch.codes.items()}
    batch.digests = [batch.digests[number] for number in different]


def _write(writer: CodeFileWriter, batch: _Batch, rows: dict[int, int], table: LabelTable | None) -> None:
    """Write a batch in order; `rows` remembers where each key went, for labels that come late."""
    prefix, coded = batch.job.key_prefix, 0

    def labels_of(key: str) -> Labels:
        return table.labels(key, writer.bad_labels) if table else {}

    for entry in batch.entries:
        if isinstance(entry, LateLabels):
            if (row := rows.get(hash(entry.key))) is not None:
                writer.label(row, entry.labels | labels_of(entry.key), prefix + entry.key)
        elif entry.reject is not None:
            writer.reject(prefix + entry.key, entry.reject, entry.detail)
        else:
            bits = {level: codes[coded].tobytes() for level, codes in batch.codes.items()}
            place = Place(entry.offset, entry.size, batch.digests[coded])
            labels = entry.labels | labels_of(entry.key)
            rows[hash(entry.key)] = writer.add(prefix + entry.key, place, labels, bits)
            coded += 1


def _header(job: _Job, encoder: ImageEncoder, out: Path, rules: Rules) -> CodeHeader:
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
            relative=relative_to(out, shard.path),
        ),
        seen=0,
        rows=0,
        rejects=0,
        bad_labels=0,
        rules=rules,
        skipped=dict(reader.skipped),
    )
