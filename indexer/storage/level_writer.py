"""Writing one level of a segment: its codes, which rows share them, and its inverted lists."""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from indexer.engines.faiss_cpu import FlatIndex, assign, train, write_lists
from indexer.engines.faiss_file import write_flat
from indexer.engines.merge_lists import OldLists, merge_lists
from indexer.settings import BuildSettings, Dedupe, IndexKind
from indexer.storage.columns import write_column
from indexer.storage.manifest import LevelRecord, Trained
from indexer.storage.shared_codes import Postings, share_codes

FLAT_BELOW = 1_000_000
"""Entries below which `auto` means flat: an exact scan then takes about a millisecond a query (docs/BENCHMARKS.md)."""
DEFAULT_PROBE_SHARE = 64
"""One list in so many is probed when nobody says otherwise; at least `MIN_NPROBE`."""
MIN_NPROBE = 8
WORTH_SHARING = 0.5
"""Entries a row at most for `auto` to let rows share them: less would not be saved than the rows of an entry cost."""


class SharedLists(NamedTuple):
    """Centroids that the lists of a level have in every segment, and what is known of such lists."""

    centroids: Codes
    """uint8[nlist, nbits / 8]."""
    record: LevelRecord
    """Whose nprobe, `tuned` and `trained` they have."""
    joined: Sequence[OldLists] = ()
    """Lists with these centroids that hold the codes already, if none of them is shared; none: each code is assigned."""


class LevelRows(NamedTuple):
    """The codes of a level that are to be written."""

    rows: int
    nbits: int
    blocks: Iterable[Codes]
    """uint8[n, nbits / 8] each, in the order of the rows."""


def write_level(
    stem: Path,
    codes: LevelRows,
    settings: BuildSettings,
    progress: Callable[[float, str], None],
    shared: SharedLists | None = None,
) -> LevelRecord:
    """Write the files of a level.

    Args:
        stem: what the paths of its files begin with: the segment's folder, and the level's name.
        codes: of all rows of the segment.
        settings: how.
        progress: called with a share done and a few words.
        shared: the centroids of the lists; None: where the settings want lists, centroids are trained on the codes.

    Returns:
        What the manifest says of it.
    """
    rows, nbits, blocks = codes
    progress(0.0, f"{stem.name}: {rows:,} codes")
    flat_path = stem.with_suffix(".flat.faiss")
    write_flat(flat_path, nbits, rows, blocks)
    postings = _shared(FlatIndex(flat_path).codes, settings.dedupe)
    if postings is not None:
        _write_postings(stem, postings)
        _keep_firsts(flat_path, postings)
    record = LevelRecord(nbits, flat_path.name, None, None, None, postings=None if postings is None else stem.name)
    flat = FlatIndex(flat_path)
    new = shared is None
    if shared is None and (lists := wanted_lists(flat.ntotal, settings)) is not None:
        shared = new_lists(record, train(flat.codes, lists.nlist, settings.seed), lists.nprobe, flat.ntotal)
    if shared is None:
        return record
    centroids, like, joined = shared
    name, what = f"{stem.name}.ivf.faiss", f"{stem.name}: inverted lists"
    if joined and postings is None:
        progress(0.0, what)
        merge_lists(stem.with_name(name), joined, centroids, rows)
    else:
        nearest = assign(flat.codes, centroids, lambda done, total: progress(done / total, what))
        write_lists(stem.with_name(name), flat.codes, nearest, centroids)
        if new and like.trained is not None:
            balance = imbalance_of(np.bincount(nearest, minlength=len(centroids)))
            like = replace(like, trained=replace(like.trained, imbalance=balance))
    return replace(record, ivf=name, nlist=len(centroids), nprobe=like.nprobe, tuned=like.tuned, trained=like.trained)


def new_lists(record: LevelRecord, centroids: Codes, nprobe: int, entries: int) -> SharedLists:
    """Return centroids that were trained over so many entries, of which nothing has been measured."""
    trained = Trained(digest_of(centroids), entries)
    return SharedLists(centroids, replace(record, nlist=len(centroids), nprobe=nprobe, tuned=None, trained=trained))


def digest_of(centroids: Codes) -> str:
    """Return the SHA-256 by which equal centroids are known."""
    return hashlib.sha256(centroids.tobytes()).hexdigest()


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


class Lists(NamedTuple):
    """How many lists there are to be, and how many of them are probed when nobody says."""

    nlist: int
    nprobe: int


def wanted_lists(entries: int, settings: BuildSettings) -> Lists | None:
    """Return how many lists so many entries are to have; None for none."""
    kind = settings.kind
    if kind is IndexKind.AUTO:
        kind = IndexKind.FLAT if entries < FLAT_BELOW and settings.nlist is None else IndexKind.IVF
    if kind is IndexKind.FLAT or entries == 0:
        return None
    nlist = min(entries, settings.nlist or usual_nlist(entries))
    return Lists(nlist, usual_nprobe(nlist))


def usual_nprobe(nlist: int) -> int:
    """Return how many of so many lists are probed when nothing has been measured of them."""
    return min(nlist, max(MIN_NPROBE, nlist // DEFAULT_PROBE_SHARE))


def imbalance_of(sizes: npt.NDArray[np.integer]) -> float:
    """Return nlist * sum(size^2) / sum(size)^2: how many times more codes are compared than in lists of one size.

    Args:
        sizes: [nlist], entries of each list.

    Source: FAISS's imbalance factor, faiss/invlists/InvertedLists.cpp.
    """
    exact = sizes.astype(np.float64)
    return float(len(exact) * (exact**2).sum() / max(1.0, exact.sum() ** 2))
