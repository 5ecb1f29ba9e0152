"""A step of every loss on a GPU that is not there: what does not stand on the device is an error of fake tensors."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from encoder.levels import Level
from encoder.model.backbone import Backbone
from encoder.model.network import HashNetwork
from encoder.model.spec import BackboneSpec, Normalisation, Pooling
from encoder.training.batches import Batch
from encoder.training.learner import Learner
from encoder.training.loop import Training
from encoder.training.losses.criteria import make_criterion
from encoder.training.losses.names import LossKind
from encoder.training.settings import Phase, TrainSettings
from encoder.training.split import Parts
from tests.support.fake_cuda import fake_module

LEVELS = (Level.MID, Level.COARSE, Level.FUSED)
COUNT, CLASSES = 64, 10


@pytest.fixture
def without_values(monkeypatch):
    """What asks a fake tensor for a value, or is for a device's engine alone, does without."""
    monkeypatch.setattr(torch.Tensor, "item", lambda _: 0.0)
    monkeypatch.setattr(torch.Tensor, "numpy", lambda _: np.arange(COUNT))
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda _: True)
    for owner in (torch, torch.Tensor):
        monkeypatch.setattr(
            owner, "nonzero", lambda mask: torch.zeros((7, mask.ndim), dtype=torch.int64, device=mask.device)
        )
    monkeypatch.setattr(
        torch.Tensor,
        "bincount",
        lambda values, minlength: torch.zeros(minlength, dtype=torch.int64, device=values.device),
    )
    monkeypatch.setattr(torch.autograd, "backward", lambda _: None)


@pytest.mark.parametrize("kind", LossKind)
def test_a_step_of_every_loss_stays_on_the_gpu(kind, without_values, tmp_path):
    phase, views = Phase(1, 0.1, LEVELS), 2 if kind is LossKind.CONTRASTIVE_VIEWS else 1
    settings = TrainSettings(
        (phase,), batch=COUNT, bits=dict.fromkeys(LEVELS, 64), distillation=0.1, exits={Level.MID: (64,)}
    )
    criteria = {level: make_criterion(kind, torch.ones(CLASSES, 64), COUNT) for level in LEVELS} if views == 1 else {}
    with torch.device("meta"):
        backbone = Backbone(BackboneSpec("threeblock"))
        network = HashNetwork(backbone, Pooling.ATTENTION, None, Normalisation.NONE, settings.exits)
        learner = Learner(network, settings, criteria, torch.float32)
    parts = Parts(np.arange(COUNT), np.arange(0), [], {level: np.arange(COUNT) % CLASSES for level in LEVELS}, {})
    rows = torch.arange(COUNT)
    with FakeTensorMode(allow_non_fake_inputs=True):
        fake_module(learner)
        training = Training(learner, settings, np.zeros((0, 32, 32, 3), np.uint8), parts, (0, 1), tmp_path, "")
        pictures = torch.zeros((views * COUNT, 32, 32, 3), dtype=torch.uint8, device="cuda:0")
        optimiser = training._optimiser(phase)
        losses = training._step(Batch(rows, pictures), phase, optimiser, 0.5)
    assert losses.keys() >= set(LEVELS)
