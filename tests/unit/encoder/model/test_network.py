import json
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from encoder.errors import HashgrainError, Reason
from encoder.levels import STAGE_LEVELS, Level
from encoder.model.backbone import BACKBONES, RESNETS, Backbone
from encoder.model.image_encoder import ImageEncoder
from encoder.model.model_file import load_model, save_model
from encoder.model.network import AttentionPool, HashNetwork
from encoder.model.spec import Activation, BackboneSpec, HeadSpec, ModelConfig, Normalisation, Pooling, Precision
from encoder.model.tensor_file import METADATA_KEY
from encoder.model.weights import load_backbone

LAYERS = {
    "alexnet": (384, 256, 256),
    "vgg16": (256, 512, 512),
    "vgg16_bn": (256, 512, 512),
    "resnet18": (128, 256, 512),
    "resnet34": (128, 256, 512),
    "threeblock": (64, 256, 256),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_three_stages_of_every_backbone(name):
    with torch.device("meta"):
        backbone = Backbone(BackboneSpec(name)).eval()
        maps = list(backbone(torch.empty(2, 3, 64, 64)))
    assert (
        [features.shape[1] for features in maps]
        == list(backbone.channels())
        == list(LAYERS.get(name, (512, 1024, 2048)))
    )
    sides = [features.shape[2] for features in maps]
    assert sides == sorted(sides, reverse=True)


@torch.inference_mode()
def test_the_stages_of_a_resnet_are_torchvisions_layers():
    spec = BackboneSpec("resnet18")
    net = torchvision.models.resnet18().eval()
    backbone = Backbone(spec).eval()
    backbone.net.load_state_dict(net.state_dict(), strict=False)
    images = torch.randn(2, 3, 64, 64)
    found = list(backbone(images))
    from torchvision.models.feature_extraction import create_feature_extractor

    expected = create_feature_extractor(net, ["layer2", "layer3", "layer4"])(images).values()
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d", "vgg16_bn", "threeblock"])
@torch.inference_mode()
def test_folding_the_norms_changes_nothing_but_their_number(name):
    backbone = Backbone(BackboneSpec(name)).eval()
    norms = [layer for layer in backbone.net.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for norm in norms:
        for tensor in (norm.running_mean, norm.weight, norm.bias):
            assert tensor is not None
            tensor.uniform_(-1, 1)  # negative weights too: a maximum between convolution and norm must keep them apart
        assert norm.running_var is not None
        norm.running_var.uniform_(0.5, 2)
    images = torch.randn(2, 3, 64, 64)
    before = list(backbone(images))
    backbone.fold_norms()
    for mine, theirs in zip(backbone(images), before, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    left = [layer for layer in backbone.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert len(left) == (3 if name == "threeblock" else 0) < len(norms)


def test_the_small_stem_keeps_resolution_and_the_1x1_stride_moves():
    small = Backbone(BackboneSpec("resnet18", small_stem=True)).eval()
    assert next(iter(small(torch.zeros(1, 3, 32, 32)))).shape[2:] == (16, 16)
    moved: Any = Backbone(BackboneSpec("resnet50", stride_in_1x1=True)).net
    for layer in (moved.layer2, moved.layer3, moved.layer4):
        assert (layer[0].conv1.stride, layer[0].conv2.stride) == ((2, 2), (1, 1))


@pytest.mark.parametrize(
    "spec",
    [BackboneSpec("resnet7"), BackboneSpec("vgg16", small_stem=True), BackboneSpec("resnet18", stride_in_1x1=True)],
)
def test_what_no_backbone_can_be_is_refused(spec):
    with pytest.raises(HashgrainError) as caught:
        Backbone(spec)
    assert caught.value.reason is Reason.BAD_VALUE


def test_untrained_attention_is_the_plain_mean_and_the_plain_form_half_of_it():
    features = torch.randn(3, 5, 4, 6)
    assert torch.allclose(AttentionPool(5, Pooling.ATTENTION)(features), features.mean(dim=(2, 3)), atol=1e-6)
    assert torch.allclose(AttentionPool(5, Pooling.PLAIN)(features), features.mean(dim=(2, 3)) / 2, atol=1e-6)
    pool = AttentionPool(5, Pooling.MEAN)
    torch.nn.init.normal_(pool.conv.weight)
    assert torch.allclose(pool(features), features.mean(dim=(2, 3)), atol=1e-6)


def test_attention_pooling_follows_its_formula():
    features, pool = torch.randn(2, 3, 4, 4), AttentionPool(3, Pooling.ATTENTION)
    torch.nn.init.normal_(pool.conv.weight)
    attention = 1 / (1 + torch.exp(-torch.einsum("c,nchw->nhw", pool.conv.weight[0, :, 0, 0], features)))
    expected = (features * attention[:, None]).sum((2, 3)) / attention.sum((1, 2))[:, None]
    assert torch.allclose(pool(features), expected, atol=1e-5)


def test_attention_that_is_nothing_everywhere_is_shared_out_all_the_same():
    pool = AttentionPool(2, Pooling.ATTENTION)
    with torch.no_grad():
        pool.conv.weight.copy_(torch.tensor([-500.0, 0.0]).reshape(1, 2, 1, 1))  # sigmoid(-500) is 0 in float32
    features = torch.tensor([[[[1.0, 1.0]], [[2.0, 6.0]]]], requires_grad=True)
    pooled = pool(features)
    torch.testing.assert_close(pooled, torch.tensor([[1.0, 4.0]]))
    pooled.sum().backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize("pooling", Pooling)
@torch.inference_mode()
def test_a_box_of_everything_pools_as_none_does_bit_for_bit(pooling):
    pool = AttentionPool(5, pooling)
    torch.nn.init.normal_(pool.conv.weight)
    features = torch.randn(3, 5, 7, 13)
    assert torch.equal(pool(features, torch.tensor([[0.0, 0, 1, 1]] * 3)), pool(features))


@pytest.mark.parametrize("pooling", Pooling)
@torch.inference_mode()
def test_a_box_of_whole_places_pools_as_if_there_were_no_others(pooling):
    pool = AttentionPool(5, pooling)
    torch.nn.init.normal_(pool.conv.weight)
    features = torch.randn(2, 5, 8, 8)
    boxes = torch.tensor([[0.25, 0.5, 0.75, 1]] * 2)
    torch.testing.assert_close(pool(features, boxes), pool(features[:, :, 4:, 2:6]))


@pytest.mark.parametrize("pooling", Pooling)
@torch.inference_mode()
def test_weights_say_how_features_are_pooled(pooling):
    pool = AttentionPool(5, pooling)
    torch.nn.init.normal_(pool.conv.weight)
    features = torch.randn(2, 5, 6, 4)
    for boxes in (None, torch.tensor([[0.1, 0, 0.2, 0.7], [0.3, 0.3, 1, 1]])):
        weights, shares = pool.weights(features, boxes)
        pooled = torch.einsum("ncp,np->nc", features.flatten(2), weights)
        torch.testing.assert_close(pooled, pool(features, boxes), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(shares, weights / weights.sum(dim=1, keepdim=True), rtol=1e-5, atol=1e-6)


HEADS = {Level.FINE: HeadSpec(16), Level.MID: HeadSpec(8, Activation.SINE), Level.FUSED: HeadSpec(24)}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return HashNetwork(Backbone(BackboneSpec("alexnet")), Pooling.ATTENTION, HEADS).eval()


@pytest.fixture
def config():
    return ModelConfig(BackboneSpec("alexnet"), 64, Pooling.ATTENTION, HEADS, record={"why": "test"})


@torch.inference_mode()
def test_logits_follow_their_formula(network):
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    logits = network(images)
    pixels = (images / 255 - torch.tensor((0.485, 0.456, 0.406))) / torch.tensor((0.229, 0.224, 0.225))
    units = {}
    for level, features in zip(STAGE_LEVELS, network.backbone(pixels.permute(0, 3, 1, 2)), strict=True):
        centred = features.mean((2, 3)) - network.means[level]
        units[level] = centred / centred.norm(dim=1, keepdim=True)
    units[Level.FUSED] = torch.cat([units[level] for level in STAGE_LEVELS], dim=1)
    for level in (Level.FINE, Level.MID, Level.FUSED):
        linear = network.head(level)
        expected = units[level] @ linear.weight.T + linear.bias
        assert torch.allclose(logits[level], expected.sin() if level is Level.MID else expected, atol=1e-4)


TRAINED = ModelConfig(
    BackboneSpec("threeblock", widths=(8, 16, 16)), 32, Pooling.ATTENTION, HEADS,
    normalisation=Normalisation.NONE, exits={Level.FINE: (12, 6)},
)  # fmt: skip


@pytest.fixture
def trained():
    torch.manual_seed(1)
    return HashNetwork(Backbone(TRAINED.backbone), TRAINED.pooling, HEADS, TRAINED.normalisation, TRAINED.exits).eval()


@torch.inference_mode()
def test_an_exit_reads_its_stage_and_the_fused_level_the_stages(trained):
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    maps = list(trained.backbone(trained.normalise(images)))
    features = trained.features(images)
    assert torch.equal(features[Level.FINE], trained.exits["fine"](maps[0]))
    assert features[Level.FINE].shape == (2, 6)
    assert torch.allclose(features[Level.FUSED], torch.cat([each.mean((2, 3)) for each in maps], dim=1), atol=1e-5)
    assert torch.equal(trained.features(images, [Level.FINE])[Level.FINE], features[Level.FINE])


@pytest.mark.parametrize("half", [False, True])
def test_a_model_with_exits_is_read_back(trained, tmp_path, half):
    save_model(tmp_path / "a.safetensors", TRAINED, trained, half=half)
    loaded = load_model(tmp_path / "a.safetensors")
    assert loaded.config == TRAINED
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        before, after = trained(images), loaded.network(images)
    for level, logits in before.items():
        assert torch.allclose(after[level], logits, atol=1e-2 if half else 1e-6)


@torch.inference_mode()
def test_a_low_level_alone_does_not_compute_the_stages_above(network, monkeypatch):
    images = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    everything = network(images)
    monkeypatch.setattr(network.backbone._stages[1], "forward", None)
    assert torch.equal(network(images, [Level.FINE])[Level.FINE], everything[Level.FINE])


def test_constants_move_with_the_network_and_are_no_part_of_it(network):
    buffers = dict(network.named_buffers())
    assert {"pixel_mean", "pixel_std"} <= buffers.keys()
    assert not {"pixel_mean", "pixel_std"} & network.state_dict().keys()
    assert buffers["pixel_mean"].tolist() == [255 * np.float32(value) for value in (0.485, 0.456, 0.406)]


def test_a_saved_model_makes_the_same_codes_and_the_same_file(network, config, tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    fingerprint = save_model(tmp_path / "a.safetensors", config, network)
    loaded = load_model(tmp_path / "a.safetensors")
    assert loaded.fingerprint == fingerprint
    assert loaded.config == config
    assert save_model(tmp_path / "b.safetensors", config, loaded.network) == fingerprint
    with torch.inference_mode():
        before = network(torch.from_numpy(pictures))
    after = ImageEncoder(loaded, "cpu", Precision.FP32).logits(pictures)
    for level, logits in before.items():
        assert np.allclose(after[level], logits.numpy(), atol=1e-4)


def test_bf16_changes_few_bits(network, config, tmp_path):
    save_model(tmp_path / "a.safetensors", config, network)
    pictures = np.random.default_rng(0).integers(0, 256, (32, 64, 64, 3), dtype=np.uint8)
    codes = [
        ImageEncoder(load_model(tmp_path / "a.safetensors"), "cpu", precision).codes(pictures)
        for precision in (Precision.FP32, Precision.BF16)
    ]
    for level in codes[0]:
        assert np.bitwise_count(codes[0][level] ^ codes[1][level]).sum() <= 0.015 * 8 * codes[0][level].size


def rewrite(path, *, header=None, tensors=None, **metadata):
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        old = json.loads(file.metadata()[METADATA_KEY])
    metadata = metadata or {METADATA_KEY: json.dumps(old | (header or {}))}
    save_file(load_file(path) | (tensors or {}), path, metadata)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "not a readable safetensors"),
        (lambda path: path.write_bytes(b"{}"), "not a readable safetensors"),
        (lambda path: rewrite(path, other="x"), "no hashgrain header"),
        (lambda path: rewrite(path, hashgrain="{"), "header cannot be read"),
        (lambda path: rewrite(path, header={"version": "x"}), "header cannot be read"),
        (lambda path: rewrite(path, header={"format": "x"}), "format 'x'"),
        (lambda path: rewrite(path, header={"heads": {"fine": {"bits": 12, "activation": "linear"}}}), "out of range"),
        (lambda path: rewrite(path, header={"heads": {}}), "out of range"),
        (lambda path: rewrite(path, header={"image_size": 10**9}), "out of range"),
        (lambda path: rewrite(path, header={"pooling": "max"}), "header cannot be read"),
        (lambda path: rewrite(path, header={"exits": {"mid": [10**9]}}), "out of range"),
        (lambda path: rewrite(path, tensors={"surplus": torch.zeros(1)}), "surplus"),
        (lambda path: rewrite(path, tensors={"mean.fine": torch.zeros(3)}), "mean.fine"),
        (lambda path: rewrite(path, tensors={"mean.fine": torch.full((384,), float("nan"))}), "not finite"),
    ],
    ids=range(15),
)
def test_a_broken_model_file_is_refused_in_one_line(network, config, tmp_path, harm, said):
    path = tmp_path / "a.safetensors"
    save_model(path, config, network)
    harm(path)
    with pytest.raises(HashgrainError, match=said) as caught:
        load_model(path)
    assert caught.value.reason is Reason.MODEL_INVALID
    assert "\n" not in str(caught.value)


def test_a_model_file_of_a_newer_version_says_upgrade(network, config, tmp_path):
    path = tmp_path / "a.safetensors"
    save_model(path, config, network)
    rewrite(path, header={"version": 2})
    with pytest.raises(
        HashgrainError, match="has format version 2, this program reads 1; upgrade hashgrain$"
    ) as caught:
        load_model(path)
    assert caught.value.reason is Reason.TOO_NEW


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_come_from_a_file_with_its_classifier_and_its_stride(tmp_path, suffix):
    torch.manual_seed(3)
    net = torchvision.models.resnet50()
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{name}": value for name, value in net.state_dict().items()}}, path)
    else:
        save_file(net.state_dict(), path, {"stride_in_1x1": "true"})
    backbone, spec, origin = load_backbone(BackboneSpec("resnet50"), str(path), 0)
    name = "layer3.0.conv1.weight"
    assert torch.equal(backbone.net.state_dict()[name], net.state_dict()[name])
    assert spec.stride_in_1x1 == (suffix == ".safetensors")
    assert path.name in origin


def hostile_pickle(path):
    import os

    class Harm:
        def __reduce__(self):
            return os.system, (f"touch {path.parent / 'canary'}",)

    torch.save({"fc.weight": Harm()}, path)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b"no weights"),
        lambda path: torch.save([1, 2], path),
        lambda path: torch.save(torchvision.models.alexnet().state_dict(), path),
        lambda path: torch.save({name: value[:1] for name, value in torchvision.models.resnet18().state_dict().items() if value.ndim}, path),
        hostile_pickle,
    ],
    ids=["garbage", "list", "other-net", "other-shapes", "code"],
)  # fmt: skip
def test_a_file_that_holds_no_fitting_weights_is_refused(tmp_path, make):
    path = tmp_path / "w.pth"
    make(path)
    with pytest.raises(HashgrainError) as caught:
        load_backbone(BackboneSpec("resnet18"), str(path), 0)
    assert caught.value.reason is Reason.WEIGHTS_UNAVAILABLE
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("weights", ["IMAGENET1K_V9", "nowhere.safetensors", "nowhere.pth"])
def test_weights_that_are_not_there_name_the_ways_out(weights):
    with pytest.raises(HashgrainError, match="or none for an untrained network") as caught:
        load_backbone(BackboneSpec("resnet18"), weights, 0)
    assert caught.value.reason is Reason.WEIGHTS_UNAVAILABLE


def test_a_download_that_fails_names_the_ways_out(monkeypatch):
    from urllib.error import URLError

    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr("os.path.exists", lambda _: False)
    with pytest.raises(HashgrainError, match="could not be downloaded.*give a local state dict") as caught:
        load_backbone(BackboneSpec("resnet18"), "IMAGENET1K_V1", 0)
    assert caught.value.reason is Reason.WEIGHTS_UNAVAILABLE


def test_random_weights_are_the_same_for_the_same_seed():
    first, second, other = (
        load_backbone(BackboneSpec("alexnet"), "none", seed)[0].net.state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_list_of_resnets_is_torchvisions():
    assert set(RESNETS) <= set(torchvision.models.list_models())
