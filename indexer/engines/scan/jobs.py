"""Which codes are compared with which queries, laid out for the kernels."""

from dataclasses import dataclass

import numpy as np

from indexer.engines.scan.extents import Extents
from indexer.engines.scan.kernels import (
    JOB_FIELDS,
    QUERIES_START,
    QUERIES_STOP,
    ROWS,
    START,
    STOP,
    Words,
    group_by_extent,
)


@dataclass(frozen=True, slots=True)
class Jobs:
    """Pieces of extents, each with the queries that want it."""

    table: Words
    """uint64[j, JOB_FIELDS], see `kernels`."""
    query_ids: Words
    """uint64[], numbers of queries."""

    @property
    def pairs(self) -> int:
        """How many codes are compared with a query."""
        columns = self.table.T
        return int((columns[STOP] - columns[START]) @ (columns[QUERIES_STOP] - columns[QUERIES_START]))


def flat_jobs(extents: Extents, queries: int, piece: int) -> Jobs:
    """Let every query see every code, in row order, at most `piece` codes a job."""
    table = [
        (extent, start, min(start + piece, rows), 0, queries)
        for extent, rows in enumerate(extents.table[:, ROWS].tolist())
        for start in range(0, rows, piece)
    ]
    return Jobs(np.array(table, dtype=np.uint64).reshape(-1, JOB_FIELDS), np.arange(queries, dtype=np.uint64))


def list_jobs(members: Extents, probed: Words, first: int, last: int) -> Jobs:
    """Let every query see lists first:last of those it probes, uint64[nq, lists per query].

    A job is a list, for all queries that probe it.
    """
    return Jobs(*group_by_extent(members.table, probed, np.uint64(first), np.uint64(last)))
