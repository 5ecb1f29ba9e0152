"""Writing one level of a segment: its codes, which rows share them, and its inverted lists."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path

from encoder.bits import Codes
from indexer.engines.faiss_cpu import FlatIndex, write_ivf
from indexer.engines.faiss_file import write_flat
from indexer.settings import BuildSettings, Dedupe, IndexKind
from indexer.storage.columns import write_column
from indexer.storage.manifest import LevelRecord
from indexer.storage.shared_codes import Postings, share_codes

FLAT_BELOW = 1_000_000
"""Entries below which `auto` means flat: an exact scan then takes about a millisecond a query (docs/BENCHMARKS.md)."""
DEFAULT_PROBE_SHARE = 64
"""One list in so many is probed when nobody says otherwise; at least `MIN_NPROBE`."""
MIN_NPROBE = 8
WORTH_SHARING = 0.5
"""Entries a row at most for `auto` to let rows share them: less would not be saved than the rows of an entry cost."""


def write_level(
    stem: Path,
    nbits: int,
    rows: int,
    blocks: Iterable[Codes],
    settings: BuildSettings,
    progress: Callable[[float, str], None],
) -> LevelRecord:
    """Write the files of a level.

    Args:
        stem: what the paths of its files begin with: the segment's folder, and the level's name.
        nbits: of a code.
        rows: of the segment.
        blocks: the codes of all rows, uint8[n, nbits / 8] each.
        settings: how.
        progress: called with a share done and a few words.

    Returns:
        What the manifest says of it.
    """
    progress(0.0, f"{stem.name}: {rows:,} codes")
    flat_path = stem.with_suffix(".flat.faiss")
    write_flat(flat_path, nbits, rows, blocks)
    postings = _shared(FlatIndex(flat_path).codes, settings.dedupe)
    if postings is not None:
        _write_postings(stem, postings)
        _keep_firsts(flat_path, postings)
    flat = FlatIndex(flat_path)
    nlist, nprobe = _lists(flat.ntotal, settings)
    if nlist is not None:
        write_ivf(
            stem.with_suffix(".ivf.faiss"),
            flat,
            nlist,
            settings.seed,
            lambda done, total: progress(done / total, f"{stem.name}: inverted lists"),
        )
    return LevelRecord(
        nbits,
        flat=flat_path.name,
        ivf=None if nlist is None else f"{stem.name}.ivf.faiss",
        nlist=nlist,
        nprobe=nprobe,
        postings=None if postings is None else stem.name,
    )


def _shared(codes: Codes, dedupe: Dedupe) -> Postings | None:
    """Return the rows of each distinct code if they are to share entries."""
    if dedupe is Dedupe.OFF or not len(codes):
        return None
    postings = share_codes(codes)
    return postings if dedupe is Dedupe.ON or len(postings) <= WORTH_SHARING * len(codes) else None


def _write_postings(stem: Path, postings: Postings) -> None:
    for part, values in (("entries", postings.entries), ("rows", postings.rows), ("starts", postings.starts)):
        write_column(stem.with_suffix(f".{part}.npy"), values)


def _keep_firsts(path: Path, postings: Postings) -> None:
    """Keep the code of the first row of each entry alone."""
    flat = FlatIndex(path)
    distinct = path.with_suffix(".distinct")
    write_flat(distinct, flat.nbits, len(postings), [flat.codes[postings.firsts()]])
    distinct.replace(path)


def usual_nlist(entries: int) -> int:
    """Return the power of two nearest to the square root."""
    return 1 << max(0, round(math.log2(entries) / 2))


def _lists(entries: int, settings: BuildSettings) -> tuple[int | None, int | None]:
    """Return nlist and nprobe; None for a level without inverted lists."""
    kind = settings.kind
    if kind is IndexKind.AUTO:
        kind = IndexKind.FLAT if entries < FLAT_BELOW and settings.nlist is None else IndexKind.IVF
    if kind is IndexKind.FLAT or entries == 0:
        return None, None
    nlist = min(entries, settings.nlist or usual_nlist(entries))
    return nlist, min(nlist, max(MIN_NPROBE, nlist // DEFAULT_PROBE_SHARE))
