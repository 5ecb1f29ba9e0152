import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from encoder.model.coverage import coverage

ENDS = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)


@given(ENDS, ENDS, st.integers(1, 30), st.integers(1, 30))
def test_the_places_add_up_to_the_area_of_the_box(across, down, height, width):
    box = torch.tensor([[across[0], down[0], across[1], down[1]]])
    covered = coverage(box, height, width)
    assert covered.shape == (1, 1, height, width)
    assert covered.min() >= 0
    assert covered.max() <= 1
    area = (across[1] - across[0]) * (down[1] - down[0]) * height * width
    assert covered.sum().item() == pytest.approx(area, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 5), (7, 14), (28, 28)])
def test_a_box_of_everything_is_ones(height, width):
    assert torch.equal(coverage(torch.tensor([[0.0, 0, 1, 1]]), height, width), torch.ones(1, 1, height, width))


def test_a_place_counts_by_the_part_of_it_that_is_inside():
    covered = coverage(torch.tensor([[0.25, 0, 0.625, 1], [0, 0.5, 1, 1]]), 2, 4)
    assert covered[:, 0].tolist() == [[[0, 1, 0.5, 0], [0, 1, 0.5, 0]], [[0, 0, 0, 0], [1, 1, 1, 1]]]
