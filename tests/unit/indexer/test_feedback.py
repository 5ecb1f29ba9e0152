import numpy as np
import pytest

from encoder.bits import pack, unpack
from encoder.levels import Level
from indexer.feedback import DISLIKE, LARGEST_WEIGHT, START, direction, of_codes, of_logits, weigh


def codes(*rows):
    return pack(np.array(rows, dtype=bool))


LIKED = codes([1, 1, 0, 0, 1, 0, 1, 0], [1, 0, 0, 1, 1, 0, 1, 0])
DISLIKED = codes([0, 1, 0, 1, 1, 1, 1, 0])


def test_a_bit_weighs_as_much_as_the_liked_agree_in_it_and_the_disliked_do_not():
    towards = direction(None, LIKED, DISLIKED)
    agreed = np.array([1, 0, -1, 0, 1, -1, 1, -1])
    assert towards.tolist() == (agreed - DISLIKE * np.array([-1, 1, -1, 1, 1, 1, 1, -1])).tolist()
    code, weights = weigh({Level.FINE: towards})[Level.FINE]
    assert unpack(code).tolist() == (towards >= 0).tolist()
    assert weights.max() == LARGEST_WEIGHT == weights[0] == weights[5]
    assert weights == pytest.approx(LARGEST_WEIGHT * np.abs(towards) / np.abs(towards).max(), abs=0.5)


def test_one_like_alone_is_a_search_by_its_code():
    code, weights = weigh({Level.FINE: direction(None, LIKED[:1], LIKED[:0])})[Level.FINE]
    assert code.tolist() == LIKED[0].tolist()
    assert len(set(weights.tolist())) == 1


def test_the_start_counts_beside_the_examples():
    start = of_codes(DISLIKED)
    assert direction(start, LIKED, DISLIKED[:0]) == pytest.approx(of_codes(LIKED) + START * start)


def test_examples_that_cancel_out_leave_equal_weights():
    towards = direction(np.zeros(8), LIKED[:0], LIKED[:0])
    assert weigh({Level.FINE: towards})[Level.FINE].weights.tolist() == [1] * 8


def test_the_largest_weight_is_that_of_all_levels():
    wanted = weigh({Level.FINE: np.full(8, 1.0), Level.MID: np.full(16, -3.0)})
    assert wanted[Level.FINE].weights.tolist() == [5] * 8
    assert wanted[Level.MID].weights.tolist() == [15] * 16
    assert wanted[Level.MID].code.tolist() == [0, 0]


def test_an_image_wants_its_surer_bits_fully():
    assert of_logits(np.array([4, -2, 1, -0.5, 0, 8], dtype=np.float32)).tolist() == pytest.approx(
        [1, -1, 1 / 1.5, -0.5 / 1.5, 0, 1]
    )
    assert of_logits(np.zeros(3, dtype=np.float32)).tolist() == [1, 1, 1]
