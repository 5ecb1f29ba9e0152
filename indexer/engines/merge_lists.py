"""Inverted lists of several files with the same centroids, joined list by list: no code is assigned again."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.errors import HashgrainError, Reason
from indexer.engines.faiss_file import ListsWriter, lists_layout

NewIds = npt.NDArray[np.int32]
"""int32[entries], the new number of each entry, ascending; -1 for those that go."""


class OldLists(NamedTuple):
    """Inverted lists that are to be joined with others."""

    path: Path
    """Of an IndexBinaryIVF."""
    new_ids: NewIds


def merge_lists(path: Path, parts: Sequence[OldLists], centroids: Codes, entries: int) -> None:
    """Write an IndexBinaryIVF of the entries that stay, list by list: what `write_lists` writes of the joined codes.

    A list is in memory at a time, and 4 bytes per entry.

    Args:
        path: where to.
        parts: all with these centroids; each one's new numbers are larger than those of the one before.
        centroids: uint8[nlist, nbits / 8].
        entries: how many stay.

    Raises:
        HashgrainError: `index-damaged` for lists that do not hold each entry once.
    """
    sizes = np.zeros(len(centroids), dtype=np.int64)
    for part in parts:
        of_part = [np.count_nonzero(ids >= 0) for _, ids in _lists(part)]
        if len(of_part) != len(sizes):
            raise _damaged(part, f"it has {len(of_part):,} lists, {len(sizes):,} are joined")
        sizes += of_part
    with ListsWriter(path, 8 * centroids.shape[1], centroids, sizes) as writer:
        for of_list in zip(*(_lists(part) for part in parts), strict=True):
            codes, ids = (np.concatenate(arrays) for arrays in zip(*of_list, strict=True))
            writer.append(codes[ids >= 0], ids[ids >= 0])
    if int(sizes.sum()) != entries:
        raise _damaged(parts[0], f"it and those joined with it hold {sizes.sum():,} entries that stay, of {entries:,}")


def _lists(part: OldLists) -> Iterator[tuple[Codes, NewIds]]:
    """Yield the codes of the entries of each list, and their new numbers."""
    layout = lists_layout(part.path)
    data = np.memmap(part.path, np.uint8, "r").view(np.ndarray)
    at, width = layout.lists_at, layout.nbits // 8
    for size in layout.sizes.astype(np.int64).tolist():
        codes, after = data[at : at + size * width].reshape(size, width), at + size * width
        ids, at = data[after : after + 8 * size].view("<i8"), after + 8 * size
        if size and not (ids.min() >= 0 and ids.max() < len(part.new_ids)):
            raise _damaged(part, f"its lists hold entries that are not among the {len(part.new_ids):,}")
        yield codes, part.new_ids[ids]


def _damaged(part: OldLists, fault: str) -> HashgrainError:
    return HashgrainError(Reason.INDEX_DAMAGED, f"{part.path} cannot be joined: {fault}; build the index again")
