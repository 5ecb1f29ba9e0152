"""The progress of a training, by a clock that stands still but for what the network is said to take."""

import re
import time

import pytest

from encoder.model.spec import Precision
from encoder.runtime import console
from encoder.training import cli
from encoder.training.learner import Learner
from encoder.training.recipes import Recipe
from tests.support.pictures import labelled_members, write_tar

PASS, HASH_STEP = 0.25, 0.02
"""Seconds of a large network on a busy machine per picture, and of a step of hash layers on its features."""


@pytest.fixture
def lines(monkeypatch, tmp_path):
    """Trains by a recipe; returns (seconds passed, share, seconds left or None) of each line, and the seconds at the end."""
    now, said = 0.0, []
    features, hashed = Learner.features, Learner.hashed

    def pass_through(self, images, levels):
        nonlocal now
        learns = self.training and next(self.network.backbone.parameters()).requires_grad
        now += PASS * len(images) * (3 if learns else 1)
        return features(self, images, levels)

    def hash_step(self, values):
        nonlocal now
        now += HASH_STEP * self.training
        return hashed(self, values)

    def call(recipe):
        monkeypatch.setattr(time, "monotonic", lambda: now)
        monkeypatch.setattr(console, "notice", lambda line: said.append((now, line)))
        monkeypatch.setattr(Learner, "features", pass_through)
        monkeypatch.setattr(Learner, "hashed", hash_step)
        write_tar(tmp_path / "a.tar", labelled_members(0, 80))
        cli.train(
            [str(tmp_path / "a.tar")], tmp_path / "model", recipe, "threeblock", "none", 32, bits="16", epochs=2,
            batch=16, held_out=0.1, precision=Precision.FP32,
        )  # fmt: skip
        found = [(at, re.findall(r"(\d+)%|(\d+) s left", line)) for at, line in said]
        return [(at, int(share[0]), int(left[0][1]) if left else None) for at, (share, *left) in found], now

    return call


@pytest.mark.parametrize("recipe", [Recipe.FROZEN, Recipe.FINETUNE, Recipe.SCRATCH])
def test_the_time_left_is_right_to_a_factor_of_two_and_the_share_never_falls(lines, recipe):
    found, end = lines(recipe)
    assert len(found) >= 8
    assert [share for _, share, _ in found] == sorted(share for _, share, _ in found)
    for at, share, left in found[:-1]:
        true = end - at
        assert left is not None, (at, share, end)
        assert true / 2 - 5 <= left <= 2 * true + 5, (at, share, left, end)
        assert share <= 100 * 2 * at / end + 5
