from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.bits import binarize, pack, unpack
from pipelines.evaluation.health import code_health, quantisation_error, rank_correlation
from tests.support import oracles

seeds = st.integers(0, 2**32 - 1)


@st.composite
def codes(draw):
    """Two or more rows whose bits are lopsided, constant, equal or independent."""
    rng = np.random.default_rng(draw(seeds))
    rows, nbits = draw(st.integers(2, 30)), draw(st.sampled_from([8, 16]))
    bits = rng.random((rows, nbits)) < rng.choice([0, 0.1, 0.5, 1], nbits)
    bits[:, 1] = bits[:, 0] ^ draw(st.booleans())
    return pack(bits)


@given(codes())
def test_health_is_what_its_definitions_say(given_codes):
    bits, health = unpack(given_codes), code_health(given_codes)
    shares = bits.mean(axis=0)
    assert (health.rows, health.nbits) == bits.shape
    assert health.distinct == len({row.tobytes() for row in bits}) / len(bits)
    assert health.mean_balance == pytest.approx(shares.mean())
    assert abs(health.worst_balance - 0.5) == pytest.approx(np.abs(shares - 0.5).max())
    entropies = [-sum(p * np.log2(p) for p in (share, 1 - share) if p > 0) for share in shares]
    assert health.mean_entropy == pytest.approx(np.mean(entropies))
    pairs = [int((one != other).sum()) for one, other in combinations(bits, 2)]
    assert health.mean_distance == pytest.approx(np.mean(pairs))
    assert health.quantisation_error is None


@given(codes())
def test_correlations_are_those_of_the_bits_that_vary(given_codes):
    bits, health = unpack(given_codes), code_health(given_codes)
    varying = [column for column in bits.T.astype(float) if column.min() < column.max()]
    sizes = [abs(np.corrcoef(one, other)[0, 1]) for one, other in combinations(varying, 2)] or [0.0]
    assert health.mean_correlation == pytest.approx(np.mean(sizes), abs=1e-12)
    assert health.max_correlation == pytest.approx(max(sizes), abs=1e-12)


@given(codes())
def test_effective_bits_are_the_participation_ratio_of_the_eigenvalues(given_codes):
    eigenvalues = np.linalg.eigvalsh(np.cov(unpack(given_codes).T, bias=True))
    expected = eigenvalues.sum() ** 2 / (eigenvalues**2).sum() if eigenvalues.sum() > 1e-9 else 0
    assert code_health(given_codes).effective_bits == pytest.approx(expected)


def test_effective_bits_of_fair_bits_are_daugman_s_degrees_of_freedom(rng):
    logits = rng.standard_normal((40_000, 6)) @ rng.standard_normal((6, 32))
    given_codes = binarize(logits.astype(np.float32))
    differing = np.bitwise_count(given_codes[0::2] ^ given_codes[1::2]).sum(axis=1) / 32
    assert code_health(given_codes).effective_bits == pytest.approx(0.25 / differing.var(), rel=0.05)


def test_every_code_once_is_in_perfect_health():
    health = code_health(np.arange(256, dtype=np.uint8)[:, None])
    assert (health.distinct, health.mean_balance, health.worst_balance, health.mean_entropy) == (1, 0.5, 0.5, 1)
    assert (health.mean_correlation, health.max_correlation) == (0, 0)
    assert health.effective_bits == pytest.approx(8)
    assert health.mean_distance == pytest.approx(4 * 256 / 255)


def test_one_code_for_all_is_in_the_worst():
    health = code_health(np.full((10, 2), 0b1111, np.uint8))
    assert (health.distinct, health.mean_entropy, health.effective_bits, health.mean_distance) == (0.1, 0, 0, 0)
    assert (health.mean_correlation, health.max_correlation) == (0, 0)
    assert health.worst_balance in {0, 1}


def test_a_bit_said_twice_counts_once():
    twice = np.arange(16)[:, None] >> np.array([0, 1, 2, 3, 0, 1, 2, 3]) & 1 == 1
    health = code_health(pack(twice))
    assert health.max_correlation == 1
    assert health.effective_bits == pytest.approx(4)


def test_blocks_of_rows_add_up(rng, monkeypatch):
    given_codes = rng.integers(0, 256, (50, 2), dtype=np.uint8)
    whole = code_health(given_codes)
    monkeypatch.setattr("pipelines.evaluation.health.BLOCK", 7)
    assert code_health(given_codes) == whole


@given(seeds, st.integers(1, 12), st.sampled_from([1e-3, 1.0, 1e3]))
def test_the_quantisation_error_is_the_angle_to_the_code(seed, rows, scale):
    logits = (scale * np.random.default_rng(seed).standard_normal((rows, 16))).astype(np.float32)
    signs = np.where(unpack(binarize(logits)), 1.0, -1.0)
    cosines = [
        u @ b / (np.linalg.norm(u) * np.linalg.norm(b)) for u, b in zip(logits.astype(float), signs, strict=True)
    ]
    assert quantisation_error(logits) == pytest.approx(1 - np.mean(cosines))
    assert code_health(np.zeros((2, 2), np.uint8), logits).quantisation_error == quantisation_error(logits)


def test_the_quantisation_error_has_its_ends():
    assert quantisation_error(np.array([[2, -2, 2, 2]], np.float32)) == 0
    assert quantisation_error(np.array([[9, 0, 0, 0]], np.float32)) == pytest.approx(0.5)
    assert quantisation_error(np.zeros((3, 4), np.float32)) == 1


def spearman(one, other):
    """Pearson's correlation of ranks by definition; equals get the mean of their ranks."""
    ranks = [[(row < value).sum() + ((row == value).sum() + 1) / 2 for value in row] for row in (one, other)]
    return 0.0 if min(map(np.ptp, ranks)) == 0 else np.corrcoef(np.array(ranks))[0, 1]


@given(seeds, st.integers(3, 30), st.integers(1, 6), st.integers(1, 20))
def test_rank_correlation_is_spearman_s_over_the_sample(seed, rows, queries, items):
    rng = np.random.default_rng(seed)
    one = rng.integers(0, 256, (rows, 1), dtype=np.uint8)
    other = rng.integers(0, 4, (rows, 2), dtype=np.uint8)
    order = np.random.default_rng(seed).permutation(rows)
    asking = order[: min(queries, rows // 2)]
    asked = order[len(asking) :][:items]
    rankings = [oracles.hamming(level[asking], level[asked]) for level in (one, other)]
    expected = np.mean([spearman(*pair) for pair in zip(*rankings, strict=True)])
    assert rank_correlation(one, other, seed, queries, items) == pytest.approx(expected, abs=1e-12)


def test_levels_that_say_the_same_correlate_and_strangers_do_not(rng):
    one, stranger = rng.integers(0, 256, (2, 500, 8), dtype=np.uint8)
    assert rank_correlation(one, one) == pytest.approx(1)
    assert rank_correlation(one, np.repeat(one, 2, axis=1)) == pytest.approx(1)
    assert rank_correlation(one, np.concatenate([one, stranger], axis=1)) == pytest.approx(np.sqrt(0.5), abs=0.05)
    assert abs(rank_correlation(one, stranger)) < 0.05
    assert rank_correlation(one, np.zeros_like(one)) == 0
