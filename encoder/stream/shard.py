"""Shards to code files on one device: read, decode, forward and write overlap, and results come back in order.

What a CPU writes depends only on the shard, the model, the precision and the batch size, never on timing or on what other shards
are coded beside it. A batch never spans two shards for that reason.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from encoder.bits import Codes
from encoder.codes.file import SUFFIX, CodeFileWriter, CodeHeader, ShardRecord
from encoder.errors import HashgrainError, Reason, Reject
from encoder.images.decode import RejectedImage
from encoder.images.duplicates import Seen, digest
from encoder.images.limits import Limits
from encoder.images.readers.formats import reader_for
from encoder.images.samples import LateLabels, Sample, ShardReader, batches
from encoder.images.shards import Shard
from encoder.levels import Level
from encoder.model.image_encoder import ImageEncoder, Picture
from encoder.model.spec import ModelConfig
from encoder.runtime.parallel import ordered_map
from encoder.runtime.telemetry import Stage, Telemetry
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


@dataclass(frozen=True, slots=True)
class ShardDone:
    """A shard has its code file."""

    header: CodeHeader
    reasons: Counter[Reject]


@dataclass(frozen=True, slots=True)
class Contents:
    """What was seen so far, where contents that came before are skipped."""

    files: Seen | None = None
    """Digests of image files."""
    codes: Seen | None = None
    """Fine codes."""


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

    def done(self) -> BatchDone:
        """Return what it counts for."""
        samples = [entry for entry in self.entries if isinstance(entry, Sample)]
        bad = sum(sample.reject is not None and sample.reject.bad for sample in samples)
        size = sum(sample.size for sample in samples)
        span = samples[-1].offset + samples[-1].size - samples[0].offset if samples else 0
        # offsets in a gzip'd tar are not of its own bytes, those of a folder's files are 0
        return BatchDone(len(samples), bad, size, size if self.job.reader.sequential else max(size, span))


def code_shards(
    encoder: ImageEncoder,
    shards: Iterable[Shard],
    out: Path,
    settings: EncodeSettings,
    telemetry: Telemetry,
    contents: Contents = Contents(),
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
    coded = ordered_map(_coder(encoder, tuple(bits), settings.limits, telemetry), read, settings.workers)
    for job, of_shard in groupby(coded, key=lambda batch: batch.job):
        rows: dict[int, int] = {}
        with CodeFileWriter(out, bits) as writer:
            for batch in of_shard:
                with telemetry.span(Stage.WRITE):
                    if contents.codes:
                        _skip_near(batch, contents.codes)
                    _write(writer, batch, rows)
                yield batch.done()
            with telemetry.span(Stage.WRITE):
                header = writer.finish(out / f"{job.shard.name}{SUFFIX}", _header(job, encoder))
            yield ShardDone(header, writer.reasons)


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


def key_prefix(shard: Shard, settings: EncodeSettings) -> str:
    """Return what stands before each key of a shard."""
    return f"{shard.name}/" if settings.prefix_keys else ""


def _batches(shards: Iterable[Shard], settings: EncodeSettings, count: int, files: Seen | None) -> Iterator[_Batch]:
    for shard in shards:
        reader = reader_for(shard, settings.limits)
        job = _Job(shard, reader, reader.stamp(), key_prefix(shard, settings))
        for entries in batches(_skip_same(job, files) if files else reader, count, BATCH_BYTES):
            yield _Batch(job, entries)
        yield _Batch(job)  # so that a shard without an image has a batch, too


def _skip_same(job: _Job, files: Seen) -> Iterator[Sample | LateLabels]:
    """Reject the images of a shard whose bytes came before."""
    for entry in job.reader:
        if isinstance(entry, Sample) and entry.data and (earlier := files.in_shard(digest(entry.data), job.shard.name)):
            entry.rejected(Reject.SAME_CONTENT, f"as one in {earlier}")
        yield entry


def _coder(
    encoder: ImageEncoder, levels: Sequence[Level], limits: Limits, telemetry: Telemetry
) -> Callable[[_Batch], _Batch]:
    """Return the work of one batch: decode its images, note why one cannot be, code the others, drop the bytes."""

    def code(batch: _Batch) -> _Batch:
        images = [entry for entry in batch.entries if isinstance(entry, Sample) and entry.reject is None]
        pictures: list[Picture] = []
        with telemetry.span(Stage.DECODE):
            for entry, seen in zip(images, encoder.pictures([entry.data for entry in images], limits), strict=True):
                entry.data = b""
                if isinstance(seen, RejectedImage):
                    entry.reject, entry.detail = seen.reject, seen.detail
                else:
                    pictures.append(seen)
        if pictures:
            with telemetry.span(Stage.FORWARD):
                batch.codes = encoder.codes(pictures, levels)
        return batch

    return code


def _skip_near(batch: _Batch, codes: Seen) -> None:
    """Reject the images of a batch whose fine code is near an earlier one's."""
    coded = [entry for entry in batch.entries if isinstance(entry, Sample) and entry.reject is None]
    different = []
    for number, entry in enumerate(coded):
        if earlier := codes.in_shard(batch.codes[Level.FINE][number], batch.job.shard.name):
            entry.rejected(Reject.NEAR_CONTENT, f"as one in {earlier}")
        else:
            different.append(number)
    batch.codes = {level: of_level[different] for level, of_level in batch.codes.items()}


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
            path=shard.path,
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
