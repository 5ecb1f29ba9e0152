"""How many images at once: by what memory is free, and by what it says no to."""

import pytest
import torch

from encoder.errors import HashgrainError
from encoder.model.memory import MOST_BATCH, Portions, batch_for


@pytest.mark.parametrize(
    ("free", "each", "expected"), [(1e12, 1e6, MOST_BATCH), (1e9, 1e7, 32), (1e6, 1e9, 1), (1, 0, 1)]
)
def test_a_batch_fits_the_memory(free, each, expected):
    assert batch_for(free, each) == expected


def room_for(most, sizes):
    """Return work that has memory for so many and notes what it was asked for."""

    def work(part):
        count = part.stop - part.start
        sizes.append(count)
        if count > most:
            raise torch.OutOfMemoryError
        return part

    return work


def test_what_memory_has_no_room_for_is_halved_and_remembered():
    portions = Portions(torch.device("cpu"))
    sizes: list[int] = []
    parts = portions.of(11, room_for(3, sizes))
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(11))
    assert sizes == [11, 5, 2, 2, 2, 2, 2, 1]
    sizes.clear()
    portions.of(11, room_for(3, sizes))
    assert sizes == [2, 2, 2, 2, 2, 1]


def test_no_memory_for_one_image_is_told():
    with pytest.raises(HashgrainError, match="device cuda:1 has no memory for one image; free some"):
        Portions(torch.device("cuda:1")).of(2, room_for(0, []))


def test_no_images_are_one_portion_of_none():
    assert Portions(torch.device("cpu")).of(0, room_for(3, [])) == [slice(0, 0)]
