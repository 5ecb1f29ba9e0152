"""Writing a segment of rows that come from anywhere: builds, additions and compactions all end here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from encoder.bits import Codes
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from encoder.runtime import durable
from indexer.engines.faiss_file import read_centroids
from indexer.settings import BuildSettings, IndexKind
from indexer.storage.labels import LabelField
from indexer.storage.level_writer import LevelRows, SharedLists, digest_of, write_level
from indexer.storage.manifest import LevelRecord, Manifest, SegmentRecord, ShardSpan, Trained
from indexer.storage.row_source import PART_ROWS, RowSource
from indexer.storage.row_writer import write_rows
from indexer.storage.segment import Segment


def write_segment(
    folder: Path,
    sources: Sequence[RowSource],
    fields: Sequence[LabelField],
    settings: BuildSettings,
    shared: Mapping[Level, SharedLists] | None = None,
    progress: Callable[[float, str], None] = lambda *_: None,
) -> SegmentRecord:
    """Write a segment.

    Args:
        folder: of the segment, which is made here; its name is the segment's.
        sources: in the order of the rows; all have the levels with the same bits.
        fields: `settle_labels` of the sources.
        settings: which levels, and how.
        shared: centroids of the levels whose lists share those of other segments; None: all lists are trained here.
        progress: called with a share done and a few words.

    Returns:
        What the manifest says of it.
    """
    progress(0.0, "keys, places and labels")
    durable.make_folder(folder)
    write_rows(folder, sources, fields)
    bits, rows = sources[0].bits, sum(source.rows for source in sources)
    wanted, levels = settings.levels or tuple(bits), dict[Level, LevelRecord]()
    for level in wanted:
        share = len(levels) / len(wanted)

        def part(done: float, what: str, share: float = share) -> None:
            progress(share + done / len(wanted), what)

        lists = None if shared is None else shared.get(level)
        codes = LevelRows(rows, bits[level], blocks(sources, level))
        levels[level] = write_level(folder / level, codes, settings, part, lists)
    return SegmentRecord(folder.name, rows, levels, list(fields), _joined_spans(sources))


def settings_of(manifest: Manifest) -> BuildSettings:
    """Return how later segments of an index are made: lists where there are some, or where they were asked for by name."""
    kind = IndexKind.IVF if manifest.kind is IndexKind.IVF else IndexKind.FLAT
    return BuildSettings(kind=kind, levels=tuple(manifest.bits), dedupe=manifest.dedupe, seed=manifest.seed)


def shared_lists(segments: Sequence[Segment]) -> dict[Level, SharedLists]:
    """Return the centroids of the levels of an index that have lists: those of the first segment that has some.

    Raises:
        HashgrainError: `index-damaged` where they are not those that were trained.
    """
    shared = {}
    for level in segments[0].levels:
        having = (segment for segment in segments if segment.record.levels[level].ivf is not None)
        if (segment := next(having, None)) is None:
            continue
        record = segment.record.levels[level]
        path = segment.folder / str(record.ivf)
        centroids = read_centroids(path)
        trained = record.trained or Trained(digest_of(centroids), segment.levels[level].flat.ntotal)
        if digest_of(centroids) != trained.centroids:
            raise HashgrainError(
                Reason.INDEX_DAMAGED, f"the centroids of {path} are not those that were trained; build the index again"
            )
        shared[level] = SharedLists(centroids, replace(record, trained=trained))
    return shared


def blocks(sources: Sequence[RowSource], level: Level) -> Iterator[Codes]:
    """Yield the codes of a level in the order of the rows, uint8[at most PART_ROWS, nbits / 8] each."""
    for source in sources:
        with source.held():
            for start in range(0, source.rows, PART_ROWS):
                yield source.codes(level, start, min(start + PART_ROWS, source.rows))


def _joined_spans(sources: Sequence[RowSource]) -> list[ShardSpan]:
    """Return the spans of all sources; one that goes on with the shard before it is not named again."""
    spans, row = list[ShardSpan](), 0
    for source in sources:
        for span in source.spans():
            placed = replace(span, first_row=row + span.first_row)
            if not spans or replace(spans[-1], first_row=placed.first_row) != placed:
                spans.append(placed)
        row += source.rows
    return spans
