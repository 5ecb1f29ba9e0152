"""Shares of places add up to the logits, whatever the network is made of."""

import numpy as np
import pytest
import torch

from encoder.errors import HashgrainError, Reason
from encoder.levels import STAGE_LEVELS, Level
from encoder.model.backbone import Backbone
from encoder.model.network import AttentionPool, HashNetwork
from encoder.model.shares import shares
from encoder.model.spec import Activation, BackboneSpec, HeadSpec, KernelSpec, Normalisation, Pooling

BITS = dict.fromkeys(Level, HeadSpec(16))
EXITS = {Level.FINE: (12,), Level.COARSE: (10, 6)}


def network_of(name, pooling, normalisation, exits, heads=BITS):
    """A network of random weights, attention, means and biases."""
    torch.manual_seed(5)
    network = HashNetwork(Backbone(BackboneSpec(name)), pooling, heads, normalisation, exits).eval()
    with torch.no_grad():
        for pool in (part for part in network.modules() if isinstance(part, AttentionPool)):
            pool.conv.weight.normal_(std=3 / pool.conv.weight.shape[1] ** 0.5)
        for mean in network.means.values():
            mean.normal_(std=0.1)
    return network.requires_grad_(False)


@pytest.fixture
def images(rng):
    return torch.from_numpy(rng.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8))


def check(network, images, level, boxes=None):
    expected = network(images, [level], boxes)[level].numpy()
    found = shares(network, images, level, boxes)
    assert len(found) == len(images)
    for one, logits in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.logits, logits)
        total = sum(grid.astype(np.float64).sum(axis=(1, 2)) for grid in one.grids)
        assert (np.abs(total - logits) <= 1e-4 * (1 + np.abs(logits))).all()
        assert len(one.grids) == (3 if level is Level.FUSED else 1)
    return found


@pytest.mark.parametrize("exits", [{}, EXITS], ids=["plain", "exits"])
@pytest.mark.parametrize("normalisation", Normalisation)
@pytest.mark.parametrize("pooling", Pooling)
@torch.inference_mode()
def test_shares_add_up_to_the_logits(pooling, normalisation, exits, images):
    network = network_of("threeblock", pooling, normalisation, exits)
    for level in Level:
        check(network, images, level)
        check(network, images, level, torch.tensor([[0, 0, 1, 1], [0.1, 0.2, 0.55, 0.9], [0.5, 0.5, 0.53, 0.53]]))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_they_do_in_every_precision_once_norms_are_folded(precision, images):
    network = network_of("resnet18", Pooling.ATTENTION, Normalisation.UNIT, {Level.MID: (8,)})
    network.fold_norms().to_precision(precision)
    for level in Level:
        check(network, images, level)


@torch.inference_mode()
def test_a_share_is_what_is_missing_where_its_place_is_left_out(images):
    network = network_of("threeblock", Pooling.MEAN, Normalisation.NONE, {})
    [one] = check(network, images[:1], Level.MID)
    maps = dict(zip(STAGE_LEVELS, network.backbone(network.normalise(images[:1])), strict=True))[Level.MID]
    head, places = network.head(Level.MID), maps[0, 0].numel()
    for row, column in ((0, 0), (3, 5)):
        expected = (head.weight @ maps[0, :, row, column] + head.bias) / places
        np.testing.assert_allclose(one.grids[0][:, row, column], expected, rtol=1e-4, atol=1e-6)


@torch.inference_mode()
def test_places_outside_a_box_have_no_share(images):
    network = network_of("threeblock", Pooling.ATTENTION, Normalisation.UNIT, {})
    [one, *_] = check(network, images, Level.FUSED, torch.tensor([[0.5, 0, 1, 1]] * 3))
    for grid in one.grids:
        half = grid.shape[2] // 2
        assert (grid[:, :, :half] == 0).all()
        assert (grid[:, :, half:] != 0).any()


@torch.inference_mode()
def test_attention_that_is_nothing_everywhere_has_finite_shares(images):
    network = network_of("threeblock", Pooling.PLAIN, Normalisation.UNIT, {})
    conv = network.pool(Level.FINE).conv
    conv.weight.zero_()
    assert conv.bias is not None
    conv.bias.fill_(-500)
    [one, *_] = check(network, images, Level.FINE)
    assert np.isfinite(one.grids[0]).all()


@pytest.mark.parametrize(
    ("head", "says"),
    [(HeadSpec(16, Activation.SINE), "the activation sine"), (HeadSpec(16, kernel=KernelSpec(4, 1.0)), "a kernel")],
)
def test_a_layer_that_is_not_linear_is_refused_in_one_line(head, says, images):
    network = network_of("threeblock", Pooling.ATTENTION, Normalisation.UNIT, {}, {Level.MID: head})
    with pytest.raises(HashgrainError, match=f"the hash layer of level mid has {says}") as caught:
        shares(network, images, Level.MID)
    assert caught.value.reason is Reason.BAD_VALUE
