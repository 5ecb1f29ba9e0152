from functools import partial

import numpy as np
import pytest

from encoder.images.decoding.decode import decode_square
from encoder.images.limits import Limits
from encoder.levels import Level
from encoder.model.image_encoder import ImageEncoder
from encoder.model.model_file import load_model
from encoder.model.spec import Precision
from pipelines.evaluation import probes
from pipelines.evaluation.probes import check_health, logits_of, recall_copies
from tests.support.copies import copy_recall
from tests.support.pictures import encoded

COUNT = 12


@pytest.fixture(scope="module")
def encoder(model_path):
    return ImageEncoder(load_model(model_path), "cpu", Precision.FP32)


@pytest.fixture(scope="module")
def pictures():
    return np.stack([decode_square(encoded(seed), 64, Limits()) for seed in range(COUNT)])


def encode_at(encoder, level, pictures):
    return encoder.codes(pictures, [level])[level]


def test_all_levels_are_asked_with_the_copies_each_would_be_asked_with_alone(encoder, pictures, monkeypatch):
    monkeypatch.setattr(probes, "BATCH", COUNT)
    codes, rows = encoder.codes(pictures), np.arange(4, 8)
    seen: list[float] = []
    found = recall_copies(encoder, pictures[4:8], rows, codes, 3, lambda done, *_: seen.append(done))
    assert list(found) == list(Level)
    assert seen[-1] == 4 * 6
    for level, recall in found.items():
        assert recall == copy_recall(partial(encode_at, encoder, level), pictures[4:8], rows, codes[level], seed=3)


def test_blocks_change_no_copy(encoder, pictures, monkeypatch):
    codes, rows = encoder.codes(pictures), np.arange(COUNT)
    whole = recall_copies(encoder, pictures, rows, codes, 0, lambda *_: None)
    monkeypatch.setattr(probes, "BATCH", 5)
    blocks = recall_copies(encoder, pictures, rows, codes, 0, lambda *_: None)
    for level, recall in whole.items():
        assert recall.mean == pytest.approx(blocks[level].mean, abs=0.05)  # another batch may round a bit otherwise


def test_logits_are_those_of_the_model(encoder, pictures, monkeypatch):
    monkeypatch.setattr(probes, "BATCH", 5)
    expected = encoder.logits(pictures)
    for level, logits in logits_of(encoder, pictures).items():
        assert np.allclose(logits, expected[level], atol=1e-4)


def test_health_has_every_level_and_every_two_of_them(rng):
    codes = {level: rng.integers(0, 256, (50, 4), dtype=np.uint8) for level in (Level.MID, Level.COARSE, Level.FUSED)}
    codes[Level.COARSE] = codes[Level.MID]
    logits = {Level.MID: rng.standard_normal((9, 32)).astype(np.float32)}
    health, alike = check_health(codes, logits, seed=0)
    assert list(health) == list(codes)
    assert health[Level.MID].quantisation_error is not None
    assert health[Level.FUSED].quantisation_error is None
    assert list(alike) == ["mid / coarse", "mid / fused", "coarse / fused"]
    assert alike["mid / coarse"] == pytest.approx(1)
    assert abs(alike["mid / fused"]) < 0.2
