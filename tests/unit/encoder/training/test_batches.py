import numpy as np
import pytest
import torch

from encoder.training.batches import CHUNK, Batches
from encoder.training.settings import Phase, TrainSettings

PHASES = (Phase(1, 0.1, ()),)


@pytest.fixture
def pictures(rng):
    return rng.integers(0, 256, (300, 32, 32, 3), dtype=np.uint8)


def batches(pictures, **changes):
    views, share = changes.pop("views", False), changes.pop("share", (0, 1))
    settings = TrainSettings(PHASES, batch=changes.pop("batch", 128), **changes)
    return Batches(pictures, np.arange(len(pictures)), settings, views, share)


def test_an_epoch_shows_every_picture_at_most_once_and_epochs_differ(pictures):
    made = batches(pictures)
    assert made.steps_per_epoch == 2
    first = np.concatenate([made.rows_of(0, step) for step in (0, 1)])
    second = np.concatenate([made.rows_of(0, step) for step in (2, 3)])
    assert len(np.unique(first)) == len(first) == 256
    assert not np.array_equal(first, second)


def test_batches_that_begin_later_are_the_same_batches(pictures):
    made = batches(pictures)
    whole, late = list(made.between(0, 0, 4)), list(made.between(0, 2, 4))
    for one, other in zip(whole[2:], late, strict=True):
        assert torch.equal(one.rows, other.rows)
        assert torch.equal(one.inputs, other.inputs)


def test_shares_of_two_processes_make_the_batch_of_one(pictures):
    whole = next(batches(pictures).between(0, 0, 1))
    parts = [next(batches(pictures, share=(number, 2)).between(0, 0, 1)) for number in (0, 1)]
    assert torch.equal(whole.inputs, torch.cat([part.inputs for part in parts]))
    assert all(torch.equal(whole.rows, part.rows) for part in parts)
    assert len(parts[0].inputs) == CHUNK


def test_every_picture_is_mirrored_in_every_second_epoch(pictures):
    made = batches(pictures, pad=0, cutout=0)
    seen: dict[int, list[bool]] = {}
    for batch in made.between(0, 0, 4):
        for row, picture in zip(batch.rows.tolist(), batch.inputs.numpy(), strict=True):
            mirrored = not np.array_equal(picture, pictures[row])
            assert mirrored == np.array_equal(picture, pictures[row][:, ::-1])
            seen.setdefault(row, []).append(mirrored)
    twice = [flips for flips in seen.values() if len(flips) == 2]
    assert len(twice) > 100
    assert all(sorted(flips) == [False, True] for flips in twice)


def test_views_come_in_twos_of_the_same_pictures(pictures):
    batch = next(batches(pictures, views=True).between(0, 0, 1))
    assert batch.inputs.shape == (256, 32, 32, 3)
    flat = [values.flatten(1) - values.flatten(1).mean(dim=1, keepdim=True) for values in batch.inputs.chunk(2)]
    assert not torch.equal(*flat)


def test_pictures_kept_larger_are_cut_to_the_network(pictures):
    batch = next(batches(pictures, area=(0.5, 1.0), image_size=24).between(0, 0, 1))
    assert batch.inputs.shape == (128, 24, 24, 3)


def test_fewer_pictures_than_a_batch_make_one_small_batch(pictures):
    made = batches(pictures[:10])
    assert made.steps_per_epoch == 1
    assert len(next(made.between(0, 0, 1)).rows) == 10
