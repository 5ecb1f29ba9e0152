"""Segments to slices: contiguous groups, the largest as small as can be."""

from indexer.storage.manifest import Manifest


def cut(manifest: Manifest, slices: int) -> list[range]:
    """Return the segments of each slice, in row order: their numbers among all segments of the generation.

    Args:
        manifest: of the generation.
        slices: how many at most, at least 1; there are fewer where there are fewer segments. None is without a segment.

    Returns:
        Contiguous ranges over all segments, the most rows of one as few as can be.
    """
    rows = [segment.rows for segment in manifest.segments]
    least, most = max(rows), sum(rows)
    while least < most:  # by halves: a bound on the rows of a slice is kept by few enough slices, or is not
        middle = (least + most) // 2
        if len(_within(rows, middle)) <= slices:
            most = middle
        else:
            least = middle + 1
    groups = _within(rows, least)
    while len(groups) < min(slices, len(rows)):  # every worker that there is takes a share
        largest = max((group for group in groups if len(group) > 1), key=lambda group: _size(rows, group))
        halves = min(
            ((largest[:at], largest[at:]) for at in range(1, len(largest))),
            key=lambda pair: max(_size(rows, half) for half in pair),
        )
        at = groups.index(largest)
        groups[at : at + 1] = halves
    return groups


def _within(rows: list[int], bound: int) -> list[range]:
    """Return as few groups as do for at most so many rows each."""
    groups, start, held = list[range](), 0, 0
    for number, count in enumerate(rows):
        if held + count > bound:
            groups.append(range(start, number))
            start, held = number, 0
        held += count
    return [*groups, range(start, len(rows))]


def _size(rows: list[int], group: range) -> int:
    return sum(rows[group.start : group.stop])
