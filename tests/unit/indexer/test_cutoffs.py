import pytest

from indexer.cutoffs import Calibrated, CutOff, cut_off, expected_false, parse_calibrated, radius_for

MEASURED = Calibrated(1000, 100, "another label", (1e-6, 2e-5, 2e-5, 0.1, 0.5, 1, 1, 1, 1))


def test_the_radius_is_the_largest_within_which_so_many_unrelated_images_are_expected():
    assert radius_for(MEASURED, 0.01, 100) == 2
    assert radius_for(MEASURED, 0.01, 1000) == 0
    assert radius_for(MEASURED, 0.01, 100_000) is None
    assert radius_for(MEASURED, 1e6, 1000) == 8
    assert expected_false(MEASURED, 2, 1000) == pytest.approx(0.02)
    assert expected_false(MEASURED, 99, 1000) == 1000
    assert expected_false(MEASURED, -1, 1000) == 0
    assert cut_off(MEASURED, 0.01, 100) == CutOff(2, 0.01)
    assert cut_off(MEASURED, 0.01, 100_000) == CutOff(-1, 0.01)


GOOD = {"rows": 3, "sample": 2, "how": "another label", "unrelated": [0, 0.5, *[1] * 7], "precision": []}


def test_what_was_written_is_read():
    assert parse_calibrated(GOOD, 8).unrelated == (0, 0.5, *[1] * 7)
    assert parse_calibrated(GOOD | {"precision": [1] * 9}, 8).precision == (1,) * 9


@pytest.mark.parametrize(
    "bad",
    [
        {"unrelated": [0.5] * 8},
        {"unrelated": [0.5] * 8 + [1.1]},
        {"unrelated": [-0.1] * 9},
        {"unrelated": [float("nan")] * 9},
        {"unrelated": [0.5, 0.4, *[1] * 7]},
        {"precision": [1] * 8},
        {"precision": [2] * 9},
    ],
)
def test_shares_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match="cut-offs"):
        parse_calibrated(GOOD | bad, 8)
