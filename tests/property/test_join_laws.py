"""The join of a collection with itself is what comparing all pairs says, at every size, radius and spread of codes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.duplicates import join
from indexer.duplicates.join import groups_of


def all_pairs(codes, radius):
    """Return the first member of each code's group, by comparing all pairs until nothing changes."""
    near = np.bitwise_count(codes[:, None] ^ codes[None]).sum(axis=-1) <= radius
    owners = np.arange(len(codes))
    while True:
        smallest = np.minimum(owners, np.where(near, owners, len(codes)).min(axis=1))
        if (smallest == owners).all():
            return owners
        owners = smallest


@st.composite
def collections(draw):
    """Codes around centres: few far ones, or many near ones; some are equal."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size, rows = draw(st.sampled_from([1, 2, 3, 8, 9, 16, 40])), draw(st.integers(1, 150))
    centres = rng.integers(0, 256, (draw(st.integers(1, 40)), size), dtype=np.uint8)
    flips = rng.random((rows, 8 * size)) < draw(st.sampled_from([0.0, 0.01, 0.05, 0.3]))
    return centres[rng.integers(0, len(centres), rows)] ^ np.packbits(flips, axis=1)


@given(collections(), st.integers(0, 70))
def test_groups_are_those_of_all_pairs(codes, radius):
    np.testing.assert_array_equal(groups_of(codes, radius), all_pairs(codes, radius))


@pytest.mark.parametrize("cost", [0, 1 << 40], ids=["parts", "all pairs"])
def test_both_ways_agree(monkeypatch, cost, rng):
    monkeypatch.setattr(join, "PART_COST", cost)
    monkeypatch.setattr(join, "TASK_ROWS", 7)
    monkeypatch.setattr(join, "CHUNK_PAIRS", 100)
    codes = rng.integers(0, 256, (40, 8), dtype=np.uint8)[rng.integers(0, 40, 600)]
    codes ^= np.packbits(rng.random((600, 64)) < 0.03, axis=1)
    shares: list[float] = []
    np.testing.assert_array_equal(groups_of(codes, 3, shares.append), all_pairs(codes, 3))
    assert shares == sorted(shares)
    assert shares[-1] == 1
