"""Rows added to an index and removed from it: any number of steps, one new generation at the end, nothing on an exception."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from encoder.bits import Bits, pack
from encoder.codes.gone import missing_shards
from encoder.errors import HashgrainError, Reason
from encoder.images.limits import Limits
from encoder.levels import Level
from encoder.plural import plural
from encoder.runtime import durable
from encoder.runtime.publish import exclusive
from indexer.build import STAY, choose, limits_of, prove
from indexer.changes.compact import CompactReport, compact_due
from indexer.filters.expression import label_fields
from indexer.filters.parser import parse
from indexer.matches import Rows
from indexer.settings import KEEP, BuildSettings, OnDuplicate
from indexer.storage.code_file_rows import CodeFileRows
from indexer.storage.columns import write_column
from indexer.storage.current import check_sizes, read_current
from indexer.storage.digests import Digests
from indexer.storage.generation import NextGeneration, next_generation
from indexer.storage.labels import LabelField
from indexer.storage.level_writer import SharedLists
from indexer.storage.manifest import Manifest, SegmentRecord
from indexer.storage.row_source import RowSource
from indexer.storage.row_table import AskedKeys
from indexer.storage.row_writer import settle_labels
from indexer.storage.segment import Segment
from indexer.storage.segment_writer import settings_of, shared_lists, write_segment


@dataclass(frozen=True, slots=True)
class Added:
    """What one addition did."""

    rows: int
    """That are new in the index."""
    replaced: int
    """Earlier rows that are removed because a new one has their key."""
    left_out: int
    """Rows that were given and are not in the index because another one has their key."""
    notices: tuple[str, ...] = ()
    """What a person should know of the labels."""
    missing: tuple[str, ...] = ()
    """What a person should know of shards that are not where they were."""


@dataclass(slots=True)
class WriterReport:
    """What a writer has done so far; `generation` is the one that it published, once it has."""

    generation: str
    rows: int
    """Of the index, without those removed."""
    added: int = 0
    removed: int = 0
    """Rows, those replaced included."""
    bytes: int = 0
    """Written, beside what was taken over."""
    compaction: CompactReport | None = None
    """Of the segments that were joined after it; None: not tried."""


@dataclass(slots=True)
class _Part:
    """A segment as it will be."""

    segment: Segment
    live: Bits | None
    """bool[rows]; None: all."""
    changed: bool = False
    """Whether `live` has to be written."""

    @property
    def alive(self) -> int:
        return self.segment.record.rows if self.live is None else int(self.live.sum())

    def remove(self, rows: Bits) -> int:
        """Remove the rows of which bool[rows] is true, and return how many of them were there."""
        if gone := int((rows if self.live is None else rows & self.live).sum()):
            live = np.ones(self.segment.record.rows, dtype=np.bool_) if self.live is None else self.live
            self.live, self.changed = live & ~rows, True
        return gone


class Writer:
    """Changes an index; use `writer`. Steps apply in order, and each sees what those before it did.

    Args:
        index: folder of the index, held by the caller.
        base: folder and manifest of the current generation.
        new: the generation that is being written.
    """

    def __init__(self, index: Path, base: tuple[Path, Manifest], new: NextGeneration) -> None:
        self.folder, self._index, self._new = new.folder, index, new
        generation, self.manifest = base
        prove = Digests(generation, self.manifest.files).check
        segments = [Segment(generation, record, prove) for record in self.manifest.segments]
        self._parts = [_Part(segment, segment.live) for segment in segments]
        self._before = self.segments
        self._lists: dict[Level, SharedLists] | None = None
        self.report = WriterReport(generation.name, self.manifest.live)

    @property
    def segments(self) -> list[Segment]:
        """The segments as they are now, those included that this writer wrote."""
        return [part.segment for part in self._parts]

    @property
    def live(self) -> list[Bits | None]:
        """bool[rows] of each segment, the rows that have not been removed; None: all."""
        return [part.live for part in self._parts]

    def add(
        self, codes: Sequence[Path], *, on_duplicate: OnDuplicate = OnDuplicate.REPLACE, allow_damaged: bool = False
    ) -> Added:
        """Add the rows of code files, after those that there are.

        Args:
            codes: code files, from `encoder.codes.file.list_code_files`.
            on_duplicate: what to do with a key that is in the index, or in several of the rows.
            allow_damaged: take code files of shards that were not whole.

        Raises:
            HashgrainError: as `indexer.build.build`; `codes-mismatch` for another model or other bits than the index has.
        """
        if not codes:
            return Added(0, 0, 0)
        headers = prove(codes, BuildSettings(allow_damaged=allow_damaged))
        sources = choose([CodeFileRows(path, header, self._index) for path, header in headers.items()], on_duplicate)
        repeated = sum(header.rows for header in headers.values()) - sum(source.rows for source in sources)
        self._widen(limits_of(headers.values()))
        added = self.add_rows(sources, headers[codes[0]].fingerprint, on_duplicate=on_duplicate)
        missing = tuple(missing_shards(headers).notices(STAY))
        return replace(added, left_out=added.left_out + repeated, missing=missing)

    def add_rows(
        self, sources: Sequence[RowSource], fingerprint: str, *, on_duplicate: OnDuplicate = OnDuplicate.REPLACE
    ) -> Added:
        """Add rows from anywhere, after those that there are.

        Args:
            sources: in the order of the rows; no two rows have one key.
            fingerprint: of the model that made the codes; "" where nobody knows it.
            on_duplicate: what to do with a key that is in the index.

        Raises:
            HashgrainError: `codes-mismatch`, `duplicate-keys`.
        """
        for source in sources:
            self._check(source, fingerprint)
        there = [self._rows_of(AskedKeys.of(source.keys(), source.hashes())) for source in sources]
        if on_duplicate is OnDuplicate.ERROR:
            self._refuse_known(sources, there)
        chosen, left_out = list(sources), 0
        if on_duplicate is OnDuplicate.FIRST:
            chosen = [source.only(rows < 0) for source, rows in zip(sources, there, strict=True)]
            left_out = sum(int((rows >= 0).sum()) for rows in there)
        count, notices, added = sum(source.rows for source in chosen), list[str](), list[_Part]()
        if count:
            fields, notices = settle_labels(chosen)
            added = [_Part(Segment(self.folder, self._write(chosen, fields)), None)]
        replaced = (
            0
            if on_duplicate is OnDuplicate.FIRST
            else self.remove_rows(np.concatenate([np.empty(0, np.int64), *there]))
        )
        self._parts += added
        self.report.added += count
        self.report.rows += count
        return Added(count, replaced, left_out, tuple(notices))

    def remove(self, keys: Iterable[str] = (), *, where: str | None = None, missing_ok: bool = False) -> int:
        """Remove rows by their keys, and those that pass a filter.

        Args:
            keys: of rows that are in the index.
            where: a filter, see docs/FILTERS.md; None: none.
            missing_ok: keys that are not there are no error.

        Returns:
            How many rows were removed.

        Raises:
            HashgrainError: `key-unknown` with the first one that is not there; `bad-value` for a filter that cannot be read.
        """
        names = list(dict.fromkeys(keys))
        there = self._rows_of(AskedKeys.of(names))
        if not missing_ok and (unknown := there < 0).any():
            first = names[int(np.argmax(unknown))]
            raise HashgrainError(
                Reason.KEY_UNKNOWN,
                f"{int(unknown.sum()):,} of {len(names):,} keys are not in {self._index}, first {first!r}; "
                "give keys as they are spelled in the shards, or let those be missing",
            )
        if where is not None:
            condition = parse(where, label_fields(part.segment.record for part in self._parts))
        removed = self.remove_rows(there)
        if where is not None:
            from indexer.filters.evaluate import passing

            for part in self._parts:
                removed += self._removed(part, passing(condition, part.segment.table, part.segment.record.shards))
        return removed

    def remove_rows(self, rows: Rows) -> int:
        """Remove rows by their numbers over all segments, int64[n], -1 for none; return how many were there."""
        removed = base = 0
        for part in self._parts:
            after = base + part.segment.record.rows
            if len(mine := rows[(rows >= base) & (rows < after)]):
                mask = np.zeros(after - base, dtype=np.bool_)
                mask[mine - base] = True
                removed += self._removed(part, mask)
            base = after
        return removed

    def publish(self, what: str | None, keep: int) -> None:
        """Make what was done the current generation; nothing where nothing was done."""
        if self.segments == self._before and not any(part.changed for part in self._parts):
            return
        records = [self._record(part) for part in self._parts]
        manifest = self._new.publish(
            replace(self.manifest, segments=records),
            what or ("add" if self.report.added else "remove"),
            added=self.report.added,
            removed=self.report.removed,
            keep=keep,
        )
        self.report.generation, self.report.bytes = self._new.name, self._new.bytes_written
        self.manifest = manifest

    def _check(self, source: RowSource, fingerprint: str) -> None:
        if fingerprint != self.manifest.fingerprint:
            raise HashgrainError(
                Reason.CODES_MISMATCH,
                f"{source.name} was made by model {fingerprint[:12] or 'unknown'}, the index {self._index} by "
                f"{self.manifest.fingerprint[:12] or 'one unknown'}; encode all shards with one model",
            )
        for level, nbits in self.manifest.bits.items():
            if source.bits.get(level) != nbits:
                raise HashgrainError(
                    Reason.CODES_MISMATCH,
                    f"{source.name} has {source.bits.get(level, 'no')} bits at level {level}, the index {self._index} has {nbits}; "
                    "encode all shards with one model and the same levels",
                )

    def _write(self, sources: Sequence[RowSource], fields: Sequence[LabelField]) -> SegmentRecord:
        """Write a segment whose lists have the centroids of the others."""
        if self._lists is None:
            self._lists = shared_lists(self.segments)
        folder = self.folder / self._new.segment_name()
        return write_segment(folder, sources, fields, settings_of(self.manifest), self._lists)

    def _rows_of(self, asked: AskedKeys) -> Rows:
        """Return int64[n], the row that each key has now, over all segments; -1 for those that are not there."""
        found, base = np.full(len(asked.texts), -1, dtype=np.int64), 0
        for part in self._parts:
            rows = part.segment.table.rows_of(asked)
            there = rows >= 0
            if part.live is not None:
                there &= part.live[rows]  # of a key that is not there, row -1 is asked in vain
            found[there] = base + rows[there]
            base += part.segment.record.rows
        return found

    def _refuse_known(self, sources: Sequence[RowSource], there: Sequence[Rows]) -> None:
        for source, rows in zip(sources, there, strict=True):
            if (known := rows >= 0).any():
                raise HashgrainError(
                    Reason.DUPLICATE_KEYS,
                    f"{self._index} has {plural(int(known.sum()), 'key')} of {source.name} already, first "
                    f"{source.keys()[int(np.argmax(known))]!r}; replace those rows, or add with the first of each key",
                )

    def _removed(self, part: _Part, rows: Bits) -> int:
        gone = part.remove(rows)
        self.report.removed += gone
        self.report.rows -= gone
        return gone

    def _record(self, part: _Part) -> SegmentRecord:
        """Return what the manifest says of a segment, its bitmap written."""
        record = part.segment.record
        levels = dict(record.levels)
        for level, lists in (
            self._lists or {}
        ).items():  # of version 3, whose one segment has the centroids that all have now
            if levels[level].ivf is not None and levels[level].trained is None:
                levels[level] = replace(levels[level], trained=lists.record.trained)
        record = replace(record, levels=levels)
        if not part.changed or part.live is None:
            return record
        name = f"{record.name}/live.npy"
        if not (self.folder / record.name).exists():
            durable.make_folder(self.folder / record.name)
        write_column(self.folder / name, pack(part.live))
        return replace(record, live=name, removed=record.rows - part.alive)

    def _widen(self, limits: Limits) -> None:
        of = self.manifest.limits
        widest = Limits(max(of.max_bytes, limits.max_bytes), max(of.max_pixels, limits.max_pixels))
        self.manifest = replace(self.manifest, limits=widest)


@contextmanager
def writer(path: Path, *, keep: int = KEEP, what: str | None = None, compact: bool = True) -> Iterator[Writer]:
    """Change an index: what was done when the block ends becomes the current generation, at once for every reader.

    After it, while it is current already, segments are joined where that is due: seldom, and never a cause for an exception.

    Args:
        path: folder of the index.
        keep: generations that stay on the disk, the new one included.
        what: what the history calls the change; None: `add` where rows were added, else `remove`.
        compact: whether segments are joined.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`, `busy`, `write-failed`. Whatever is raised, the index stays as it was.
    """
    read_current(path)  # where there is none, no folder is made
    with exclusive(path):
        folder, manifest = read_current(path)
        check_sizes(folder, manifest.files)
        with next_generation(path, (folder, manifest)) as new:
            opened = Writer(path, (folder, manifest), new)
            yield opened
            opened.publish(what, keep)
    if compact and opened.report.generation != folder.name:
        opened.report.compaction = compact_due(path, keep)
