"""Which kernels each kind of search calls, and with what types: so that they can be loaded or compiled before there is a query."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import numba
import numpy as np

from indexer.engines.kit import Kind, Kit
from indexer.engines.scan import kernels
from indexer.engines.scan.kernel_cache import NotKeptError, only_kept, writable
from indexer.engines.scan.kernels import Candidates, LevelCodes, QueryBatch, ScanPlan

Call = tuple[Callable[..., Any], tuple[Any, ...]]
"""A kernel, and arguments that have the types of any."""

WORD: Final = np.uint64(1)
LINE, TABLE, CUBE = (np.zeros((1,) * axes, dtype=np.uint64) for axes in (1, 2, 3))
BATCH: Final = QueryBatch(TABLE, LINE, WORD, WORD, WORD, WORD)
PLAN: Final = ScanPlan(TABLE, TABLE, LINE, TABLE, LINE)
CANDIDATES: Final = Candidates(TABLE, LINE, LINE, TABLE, LINE, LINE)
ANY: Final[list[Call]] = [
    (kernels.no_candidates, (BATCH, WORD)),
    (kernels.smallest, (CANDIDATES, WORD)),
    (kernels.unpack_keys, (TABLE,)),
]


def load(kit: Kit) -> bool:
    """Load kernels from where they are kept; compile none.

    Returns:
        Whether all are there.
    """
    with only_kept():
        try:
            compile_kit(kit)
        except NotKeptError:
            return False
    return True


def kits_for(bits: Iterable[int]) -> list[Kit]:
    """Return all that searches of codes of so many bits call."""
    sizes = sorted({-(-each // 8) for each in bits})
    return list(dict.fromkeys([*(Kit.of(Kind.LISTS, size) for size in sizes), Kit.of(Kind.SUMS, 0)]))


def compile_kit(kit: Kit) -> None:
    """Load kernels, or compile them and keep them."""
    for kernel, arguments in _calls(kit):
        kernel.compile(tuple(map(numba.typeof, arguments)))  # type: ignore[attr-defined] # a dispatcher of numba


def folder_of_kernels() -> Path | None:
    """Return the folder that kernels are kept in; None: no folder can be written."""
    return writable(kernels.scan.py_func)  # type: ignore[attr-defined]


def _calls(kit: Kit) -> list[Call]:
    size, width = WORD, (0,) * kit.words
    scan: list[Call] = [
        *ANY,
        (kernels.scan, (PLAN, CANDIDATES, size, width)),
        (kernels.top_k, (TABLE, BATCH, size, width)),
    ]
    if kit.kind is Kind.SUMS:
        return [*ANY, (kernels.scan_weighted, (PLAN, CANDIDATES, LevelCodes(CUBE, TABLE, LINE, LINE, LINE)))]
    if kit.kind is Kind.FLAT:
        return scan
    return [
        *scan,
        (kernels.group_by_extent, (TABLE, TABLE, WORD, WORD)),
        (kernels.nearest_lists, (TABLE, LINE, TABLE, WORD, size, width)),
        (kernels.top_k_of_nearest_lists, (TABLE, TABLE, LINE, BATCH, size, width)),
    ]
