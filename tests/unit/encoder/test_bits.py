import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from encoder.bits import binarize, hamming, pack, unpack
from tests.support import oracles

codes = hnp.arrays(np.uint8, st.tuples(st.integers(0, 9), st.integers(1, 6)))


@given(codes)
def test_pack_inverts_unpack(values):
    assert (pack(unpack(values)) == values).all()


def test_the_lowest_bit_comes_first():
    bits = np.zeros((1, 16), dtype=bool)
    bits[0, [0, 9]] = True
    assert pack(bits).tolist() == [[1, 2]]


def test_a_logit_of_zero_is_bit_one_also_when_negative():
    logits = np.array([[0.0, -0.0, -1e-38, 1e-38, -1, 1, np.inf, -np.inf]], dtype=np.float32)
    assert unpack(binarize(logits)).tolist() == [[True, True, False, True, False, True, True, False]]


@given(codes)
def test_hamming_equals_counting_bits(values):
    assert (hamming(values, values) == oracles.hamming(values, values)).all()


def test_hamming_counts_all_256_bytes():
    every = np.arange(256, dtype=np.uint8)[:, None]
    assert hamming(every, np.zeros((1, 1), dtype=np.uint8))[:, 0].tolist() == [
        bin(byte).count("1") for byte in range(256)
    ]


@given(codes, st.integers(0, 255))
def test_distance_is_symmetric_and_unchanged_by_xor(values, mask):
    distances = hamming(values, values)
    assert (distances == distances.T).all()
    assert (np.diag(distances) == 0).all()
    assert (hamming(values ^ np.uint8(mask), values ^ np.uint8(mask)) == distances).all()
