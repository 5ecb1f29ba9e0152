"""Why a hit is near its query, as it goes over the wire."""

from encoder.levels import Level
from indexer import wire
from indexer.explain import HeatMap, explain
from indexer.index import Index
from indexer.query import Query


def explanation(index: Index, query: Query, key: str, level: Level | str | None = None) -> wire.Explanation:
    """Return what `indexer.explain.explain` does, in plain data. It decodes two pictures and runs the network twice.

    Args:
        index: the generation that answered.
        query: an image or a key, with its region if it has one.
        key: of the hit.
        level: which code; None: fused, or the only one there is.

    Raises:
        HashgrainError: as `explain`.
    """
    found = explain(index, query, key, level)
    return wire.Explanation(found.level, found.bits, found.agreeing, _map(found.query), _map(found.hit))


def _map(of: HeatMap) -> wire.WireHeatMap:
    grids = tuple(tuple(tuple(row) for row in grid.tolist()) for grid in of.grids)
    return wire.WireHeatMap(grids, of.box, of.total)
