"""What was seen before, found among many without comparing all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.bits import hamming
from encoder.images.duplicates import DIGEST_BYTES, SeenCodes, digest_of, seen_files


@given(data=st.data(), size=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
def test_the_first_code_within_the_radius_is_found(data, size, seed):
    rng = np.random.default_rng(seed)
    radius = data.draw(st.integers(0, min(8 * size - 1, 12)))
    centres = rng.integers(0, 256, (4, size), dtype=np.uint8)
    flips = np.packbits(rng.random((60, 8 * size)) < data.draw(st.sampled_from([0.02, 0.1, 0.3])), axis=1)
    codes = centres[rng.integers(0, 4, 60)] ^ flips
    seen = SeenCodes(8 * size, radius)
    for count, code in enumerate(codes):
        near = np.flatnonzero(hamming(code[None], codes[:count])[0] <= radius)
        assert seen.find(code) == (near[0] if len(near) else None)
        seen.add(code)


def test_it_grows():
    codes = np.arange(5000, dtype="<u8").view(np.uint8).reshape(5000, 8)
    seen = SeenCodes(64, 0)
    for code in codes:
        assert seen.find(code) is None
        seen.add(code)
    assert [seen.find(code) for code in codes[::999]] == list(range(0, 5000, 999))


def code_of(data):
    return np.frombuffer(digest_of(data), np.uint8)


def test_the_shard_of_the_earlier_one_is_told():
    seen = seen_files()
    for shard, data in (("a", b"1"), ("a", b"2"), ("b", b"3"), ("a", b"4")):
        assert seen.in_shard(code_of(data), shard) is None
    assert [seen.in_shard(code_of(data), "c") for data in (b"2", b"3", b"4", b"1", b"5", b"5")] == [
        "a",
        "b",
        "a",
        "a",
        None,
        "c",
    ]


@pytest.mark.parametrize("data", [b"", b"x" * 10_000])
def test_a_digest_has_its_bytes(data):
    assert len(digest_of(data)) == DIGEST_BYTES
