"""Code files in, answers out: FAISS binary indexes on disk and Hamming search over them.

    import indexer

    index = indexer.open("index")
    for hit in index.query(Path("photo.jpg"), level="fine", k=5):
        hit.key, hit.distance, hit.image()
    found = index.search(indexer.Level.FINE, codes, indexer.SearchSettings(k=5, where="label.fine = 3"))
    found[0].rows, found[0].distances

    with indexer.writer("index") as writer:  # one new generation at the end, nothing on an exception
        writer.add([Path("codes/new.h5")])
        writer.remove(["shard-3/photo.jpg"], where='label.fine = "blurred"')

Any number of threads may share an index. Importing this loads neither FAISS nor numba nor torch.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoder.enum_names import named
from encoder.errors import HashgrainError, Reason
from encoder.images.limits import Limits
from encoder.images.region import Region, RegionMode
from encoder.levels import Level
from indexer.options import QueryOptions
from indexer.query import Answer, ByCode, ByExamples, ByImage, ByKey, Hit, Query
from indexer.settings import (
    KEEP,
    BitOrder,
    Combine,
    CombineSettings,
    CompactSettings,
    Engine,
    ExportForm,
    OnDuplicate,
    SearchSettings,
    SyncSettings,
    Trust,
    Verify,
)

if TYPE_CHECKING:
    from encoder.bits import Codes
    from indexer.changes.compact import CompactReport
    from indexer.changes.export import ExportReport
    from indexer.changes.imports import ImportReport
    from indexer.changes.sync import SyncReport
    from indexer.changes.writer import Writer
    from indexer.index import Index
    from indexer.storage.manifest import Change

__all__ = [
    "Answer",
    "BitOrder",
    "ByCode",
    "ByExamples",
    "ByImage",
    "ByKey",
    "Combine",
    "CombineSettings",
    "Engine",
    "ExportForm",
    "HashgrainError",
    "Hit",
    "Level",
    "Limits",
    "OnDuplicate",
    "Query",
    "QueryOptions",
    "Reason",
    "Region",
    "RegionMode",
    "SearchSettings",
    "Verify",
    "compact",
    "export",
    "gc",
    "history",
    "import_codes",
    "open",
    "rollback",
    "sync",
    "writer",
]


def open(  # noqa: A001 - reads as indexer.open, like io.open
    path: str | PathLike[str],
    model: str | PathLike[str] | None = None,
    limits: Limits | None = None,
    notify: Callable[[str], None] = lambda _: None,
    *,
    verify: Verify | str = Verify.QUICK,
    images_under: Sequence[str | PathLike[str]] | None = None,
    allow_url: Sequence[str] = (),
) -> "Index":
    """Open the current generation of an index for search.

    Args:
        path: folder of the index.
        model: model file for query images, in place of the copy in the index.
        limits: what a query image may be, and an image that is shown; None: what was encoded might be.
        notify: called with a line for a person when a GPU hands over to the scan.
        verify: which files are proven by their SHA-256 when they are first used: `quick` those up to 32 MiB (`index.unverified`
            names the others), `full` all, `off` none.
        images_under: folders that pictures may be read from; None: those of the shards, if this user built the index, else none.
        allow_url: schemes (`https`) at which pictures may be read.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`.
    """
    from indexer.index import Index

    trust = Trust(named(Verify, verify, "verify"), images_under, allow_url)
    return Index(Path(path), None if model is None else Path(model), limits, notify=notify, trust=trust)


def writer(path: str | PathLike[str], *, keep: int = KEEP, compact: bool = True) -> "AbstractContextManager[Writer]":
    """Change an index: rows that are added and removed in the block are there, and gone, for every reader that opens it after.

    Once they are, segments are joined where that is due: most changes join none, now and then one writes what many before it wrote.

    Args:
        path: folder of the index.
        keep: generations that stay on the disk, the new one included: what can be rolled back to.
        compact: whether segments are joined; else `indexer compact` does it at a quiet time.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`, `busy` while another process writes, `write-failed`. Whatever is raised
            in the block, the index stays as it was.
    """
    from indexer.changes.writer import writer

    return writer(Path(path), keep=keep, compact=compact)


def sync(
    path: str | PathLike[str],
    codes: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    keep_gone: bool = False,
    on_duplicate: OnDuplicate | str = OnDuplicate.ERROR,
    allow_damaged: bool = False,
    dry_run: bool = False,
    compact: bool = True,
    keep: int = KEEP,
) -> "SyncReport":
    """Make an index what code files say now, in one generation; where there is no index, build it.

    Args:
        path: folder of the index.
        codes: a folder of code files, or several files and folders: all that the index is to have rows of.
        keep_gone: keep the rows of shards that are gone while the folder that they stood in is there.
        on_duplicate: what to do with a key of several code files: `error`, or `first` to keep the row that there is.
        allow_damaged: take code files of shards that were not whole.
        dry_run: only say what would change.
        compact: whether segments are joined after it where that is due.
        keep: generations that stay on the disk, the new one included.

    Raises:
        HashgrainError: whatever is raised, the index stays as it was.
    """
    from encoder.codes.file import list_code_files
    from indexer.changes.sync import sync

    how = named(OnDuplicate, on_duplicate, "on_duplicate")
    settings = SyncSettings(keep_gone, allow_damaged, dry_run, how, compact, keep)
    several = [codes] if isinstance(codes, str | PathLike) else codes
    return sync(Path(path), list_code_files([Path(each) for each in several]), settings)


def import_codes(
    path: str | PathLike[str],
    levels: "Mapping[Level | str, str | PathLike[str] | Codes]",
    *,
    bit_order: BitOrder | str | None = None,
    keys: str | PathLike[str] | Sequence[str] | None = None,
    labels: str | PathLike[str] | None = None,
    key_column: str | None = None,
    model: str | PathLike[str] | None = None,
    on_duplicate: OnDuplicate | str = OnDuplicate.REPLACE,
    keep: int = KEEP,
) -> "ImportReport":
    """Add codes that were made elsewhere to an index, or make one of them. No image is needed.

    Args:
        path: folder of the index.
        levels: codes of each level: an array, uint8[rows, nbits / 8], or a file: .npy, .npz, Parquet (`PATH#NAME` for one array or
            column of several), or FAISS's IndexBinaryFlat.
        bit_order: which bit of a byte is the first, `little` (lowest) or `big`; None: FAISS's own, of its file alone.
        keys: of the rows, or a file with one per line; None: those of the table of labels, else `row-000000000` and so on.
        labels: a table of labels, whose rows are found by key.
        key_column: of the table; None: `key` or `file_name`.
        model: the model that made the codes, so that photos can be queries.
        on_duplicate: what to do with a key that the index has.
        keep: generations that stay on the disk, the new one included.

    Raises:
        HashgrainError: whatever is raised, the index stays as it was.
    """
    from indexer.changes.imports import ImportRequest, import_codes

    request = ImportRequest(
        {named(Level, level, "level"): _path_or(codes) for level, codes in levels.items()},
        None if bit_order is None else named(BitOrder, bit_order, "bit_order"),
        _path_or(keys),
        None if labels is None else Path(labels),
        key_column,
        None if model is None else Path(model),
        on_duplicate=named(OnDuplicate, on_duplicate, "on_duplicate"),
        keep=keep,
    )
    return import_codes(Path(path), request)


def export(
    path: str | PathLike[str],
    out: str | PathLike[str],
    form: ExportForm | str = ExportForm.NPY,
    levels: Sequence[Level | str] | None = None,
    *,
    overwrite: bool = False,
) -> "ExportReport":
    """Write codes, keys and labels of an index as files that anybody reads, without removed rows.

    Args:
        path: folder of the index.
        out: folder to make.
        form: `npy`, `faiss` or `parquet`.
        levels: whose codes; None: all.
        overwrite: replace the export that is there.

    Raises:
        HashgrainError: `exists`, `level-unknown`, `index-missing`, `index-damaged`, `write-failed`.
    """
    from indexer.changes.export import export

    chosen = None if levels is None else [named(Level, level, "level") for level in levels]
    return export(Path(path), Path(out), named(ExportForm, form, "form"), chosen, overwrite=overwrite)


def compact(path: str | PathLike[str], settings: CompactSettings = CompactSettings()) -> "CompactReport":
    """Join segments of an index and leave out removed rows: what is due, or all. Answers stay the same.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`, `busy`, `write-failed`.
    """
    from indexer.changes.compact import compact

    return compact(Path(path), settings)


def history(path: str | PathLike[str]) -> "list[tuple[Change, bool]]":
    """Return what was done to an index, oldest first, and whether the generation that each change made is still on the disk.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`.
    """
    from indexer.changes.history import history

    return history(Path(path))


def rollback(path: str | PathLike[str], to: int | str, *, keep: int = KEEP) -> "Change":
    """Take up an earlier generation again, as a new one: by its number or name, or -1 to undo the last change.

    Raises:
        HashgrainError: `bad-value`, `generation-missing`, `index-missing`, `index-damaged`, `busy`, `write-failed`.
    """
    from indexer.changes.history import rollback

    return rollback(Path(path), to, keep)


def gc(path: str | PathLike[str], keep: int = KEEP) -> list[str]:
    """Remove all generations but the newest ones, and return their names; those that somebody reads stay.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`, `busy`.
    """
    from indexer.changes.history import gc

    return gc(Path(path), keep)


def _path_or(given: Any) -> Any:
    """Return a name of a file as a path, and all else as it is."""
    return Path(given) if isinstance(given, str | PathLike) else given
