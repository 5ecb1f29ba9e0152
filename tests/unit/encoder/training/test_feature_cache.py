"""Batches of features that are computed once."""

import errno
import tempfile
from collections import Counter

import numpy as np
import pytest
import torch

from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from encoder.training.batches import Batches
from encoder.training.feature_cache import FeatureBatches, compute_features
from encoder.training.settings import TrainSettings

COPIES, COUNT = 3, 70


@pytest.fixture
def numbered():
    """Features that say which copy of which picture they are of."""
    copy, row = np.mgrid[:COPIES, :COUNT]
    return {Level.MID: np.stack([copy, row], axis=2).astype(np.float32)}


def shown(batches, start, stop):
    return [tuple(pair) for batch in batches.between(0, start, stop) for pair in batch.inputs[Level.MID].int().tolist()]


def test_an_epoch_shows_each_copy_once_and_no_picture_again_before_all_others(numbered):
    batches = FeatureBatches(numbered, 10, False, 0)
    assert batches.steps_per_epoch == COPIES * COUNT // 10
    epoch = shown(batches, 0, 21)
    assert Counter(epoch) == Counter((copy, row) for copy in range(COPIES) for row in range(COUNT))
    for start in range(0, len(epoch), COUNT):
        assert {row for _, row in epoch[start : start + COUNT]} == set(range(COUNT))
    assert len({copy for copy, _ in epoch[:COUNT]}) == COPIES
    assert shown(batches, 21, 42) != epoch


def test_batches_that_begin_later_are_the_same_batches(numbered):
    for views in (False, True):
        batches = FeatureBatches(numbered, 10, views, 0)
        assert shown(batches, 0, 30)[5 * 10 * (1 + views) :] == shown(batches, 5, 30)


def test_views_are_two_different_copies_of_the_same_pictures(numbered):
    batches = FeatureBatches(numbered, 10, True, 0)
    for batch in batches.between(0, 0, 42):
        assert isinstance(batch.inputs, dict)
        first, second = batch.inputs[Level.MID].int().chunk(2)
        assert first[:, 1].tolist() == second[:, 1].tolist() == batch.rows.tolist()
        assert not (first[:, 0] == second[:, 0]).any()


def tinted(count):
    """One colour a picture, which no change but that of a view touches."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 32, 32, 3))


@pytest.mark.parametrize("views", [False, True])
def test_features_stand_at_their_copy_and_row(tmp_path, views):
    chosen = np.arange(1, 150, 2)
    batches = Batches(tinted(150), chosen, TrainSettings((), cutout=0), views)
    seen: list[int] = []
    made = compute_features(
        batches, 0, 4, lambda x: {Level.FINE: x.float().mean(dim=(1, 2, 3))[:, None]}, tmp_path, seen.append
    )
    values = made.features[Level.FINE]
    assert values.shape == (4, len(chosen), 1)
    assert seen == sorted(seen)
    assert seen[-1] == 4 * len(chosen)
    assert not list(tmp_path.iterdir())
    if views:
        assert all(np.corrcoef(copy[:, 0], chosen)[0, 1] > 0.9 for copy in values)
        assert not np.array_equal(values[0], values[1])
    else:
        assert np.array_equal(values[..., 0], np.tile(chosen, (4, 1)))


def test_no_room_for_features_is_said(tmp_path, monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    batches = Batches(tinted(10), np.arange(10), TrainSettings(()))
    with pytest.raises(HashgrainError, match="No space left") as caught:
        compute_features(batches, 0, 1, lambda x: {Level.FINE: torch.zeros(len(x), 1)}, tmp_path, lambda _: None)
    assert caught.value.reason is Reason.WRITE_FAILED
