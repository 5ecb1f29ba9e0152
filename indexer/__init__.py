"""Code files in, answers out: FAISS binary indexes on disk and Hamming search over them.

    import indexer

    index = indexer.open("index")
    found = index.search(indexer.Level.FINE, codes, indexer.SearchSettings(k=5, where="label.fine = 3"))
    found[0].rows, found[0].distances

Several threads may search an index at once. Importing this loads neither FAISS nor numba nor torch.
"""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from encoder.levels import Level
from indexer.settings import Combine, CombineSettings, Engine, SearchSettings

if TYPE_CHECKING:
    from indexer.index import Index

__all__ = ["Combine", "CombineSettings", "Engine", "Level", "SearchSettings", "open"]


def open(path: str | PathLike[str]) -> "Index":  # noqa: A001 - reads as indexer.open, like io.open
    """Open the current generation of an index for search.

    Args:
        path: folder of the index.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`.
    """
    from indexer.index import Index

    return Index(Path(path))
