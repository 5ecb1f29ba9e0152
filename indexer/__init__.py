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

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from encoder.enum_names import named
from encoder.errors import HashgrainError, Reason
from encoder.images.limits import Limits
from encoder.levels import Level
from indexer.options import QueryOptions
from indexer.query import Answer, ByCode, ByImage, ByKey, Hit, Query
from indexer.settings import KEEP, Combine, CombineSettings, Engine, OnDuplicate, SearchSettings, Trust, Verify

if TYPE_CHECKING:
    from indexer.changes.writer import Writer
    from indexer.index import Index

__all__ = [
    "Answer",
    "ByCode",
    "ByImage",
    "ByKey",
    "Combine",
    "CombineSettings",
    "Engine",
    "HashgrainError",
    "Hit",
    "Level",
    "Limits",
    "OnDuplicate",
    "Query",
    "QueryOptions",
    "Reason",
    "SearchSettings",
    "Verify",
    "open",
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
