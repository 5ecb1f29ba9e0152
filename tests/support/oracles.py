"""Slow, obvious answers that the fast ones are held against. Imports nothing of the project."""

import numpy as np


def hamming(queries, database):
    """Count differing bits one pair at a time."""
    return np.array(
        [
            [sum(int(a ^ b).bit_count() for a, b in zip(q.tolist(), d.tolist(), strict=True)) for d in database]
            for q in queries
        ],
        dtype=np.int32,
    ).reshape(len(queries), len(database))


def nearest(query, database, k=None, radius=None):
    """Return (rows, distances) by (distance, row): all within the radius, at most k."""
    distances = hamming([query], database)[0]
    order = [row for _, row in sorted((int(d), row) for row, d in enumerate(distances))]
    if radius is not None:
        order = [row for row in order if distances[row] <= radius]
    order = order[:k]
    return order, [int(distances[row]) for row in order]
