"""Hash layers as a network and a model file have them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from encoder.errors import HashgrainError, Reason
from encoder.hashing.kernel import Kernel
from encoder.hashing.layer import HashLayer
from encoder.levels import Level
from encoder.model.backbone import Backbone
from encoder.model.hash_head import HashHead
from encoder.model.model_file import load_model, save_model
from encoder.model.network import HashNetwork
from encoder.model.spec import Activation, BackboneSpec, HeadSpec, KernelSpec, ModelConfig, Normalisation, Pooling
from encoder.model.tensor_file import METADATA_KEY

LAYERS = {
    "linear": (Activation.LINEAR, None, None),
    "sine": (Activation.SINE, None, None),
    "kernel": (Activation.LINEAR, 1.5, None),
    "sine of a kernel": (Activation.SINE, 1.5, None),
    "nearest anchors": (Activation.LINEAR, 0.7, 5),
    "nearest anchors, far away": (Activation.LINEAR, 1e-3, 5),
}


@pytest.mark.parametrize("form", LAYERS.values(), ids=LAYERS)
def test_a_head_computes_what_its_layer_computes(form, rng):
    activation, width, neighbours = form

    def drawn(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    kernel = Kernel(drawn(30, 12) + 2, width, neighbours) if width else None
    layer = HashLayer(drawn(16, 30 if kernel else 12), drawn(16), activation, kernel)
    features = drawn(200, 12) + 2
    head = HashHead(12, layer.spec)
    head.load_state_dict({name: torch.from_numpy(values) for name, values in layer.tensors.items()})
    with torch.inference_mode():
        assert head(torch.from_numpy(features)).numpy() == pytest.approx(layer.logits(features), abs=1e-5)


HEADS = {
    Level.FINE: HeadSpec(16),
    Level.MID: HeadSpec(8, kernel=KernelSpec(20, 0.8)),
    Level.FUSED: HeadSpec(24, kernel=KernelSpec(10, 0.3, 4)),
}
CONFIG = ModelConfig(BackboneSpec("alexnet"), 64, Pooling.ATTENTION, HEADS)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = HashNetwork(Backbone(CONFIG.backbone), CONFIG.pooling, HEADS).eval()
    for level in (Level.MID, Level.FUSED):
        torch.nn.init.normal_(network.head(level).get_buffer("anchors"))
    return network


@pytest.fixture
def path(tmp_path, network):
    save_model(tmp_path / "model.safetensors", CONFIG, network)
    return tmp_path / "model.safetensors"


def rewrite(path, change):
    """Apply `change` to the header."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()[METADATA_KEY])
    change(header)
    save_file(load_file(path), path, {METADATA_KEY: json.dumps(header)})


def test_a_model_with_kernels_is_read_back(network, path):
    assert load_file(path)["hash.mid.anchors"].shape == (20, 256)
    loaded = load_model(path)
    assert loaded.config == CONFIG
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        after = loaded.network(images)
        for level, logits in network(images).items():
            assert torch.equal(after[level], logits)


def test_a_header_without_kernels_has_none(tmp_path):
    plain = replace(CONFIG, heads=dict.fromkeys(Level, HeadSpec(8)))
    save_model(tmp_path / "a.safetensors", plain, HashNetwork(Backbone(plain.backbone), plain.pooling, plain.heads))

    def forget(header):
        for fields in header["heads"].values():
            del fields["kernel"]

    rewrite(tmp_path / "a.safetensors", forget)
    assert load_model(tmp_path / "a.safetensors").config == plain


def test_a_header_from_before_there_were_heads_is_still_read(tmp_path):
    heads = {Level.FINE: HeadSpec(16), Level.COARSE: HeadSpec(8, Activation.SINE)}
    plain = replace(CONFIG, heads=heads)
    save_model(tmp_path / "a.safetensors", plain, HashNetwork(Backbone(plain.backbone), plain.pooling, heads))

    def turn_back(header):
        del header["heads"], header["normalisation"], header["exits"], header["backbone"]["widths"]
        header |= {"bits": {"fine": 16, "coarse": 8}, "activations": {"fine": "linear", "coarse": "sine"}}

    rewrite(tmp_path / "a.safetensors", turn_back)
    config = load_model(tmp_path / "a.safetensors").config
    assert config == plain
    assert config.normalisation is Normalisation.UNIT


@pytest.mark.parametrize(
    "fields",
    [
        {"anchors": 0},
        {"anchors": -1},
        {"anchors": 10**12},
        {"anchors": "many"},
        {"anchors": None},
        {"width": 0},
        {"width": -1.0},
        {"width": float("nan")},
        {"width": float("inf")},
        {"neighbours": 0},
        {"neighbours": 21},
        {"neighbours": "all"},
    ],
    ids=str,
)
def test_a_kernel_out_of_range_is_refused(path, fields):
    rewrite(path, lambda header: header["heads"]["mid"]["kernel"].update(fields))
    with pytest.raises(HashgrainError, match="cannot be used") as caught:
        load_model(path)
    assert caught.value.reason is Reason.MODEL_INVALID


def test_anchors_that_are_missing_are_named(path):
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    del tensors["hash.mid.anchors"]
    save_file(tensors, path, metadata)
    with pytest.raises(HashgrainError, match=r"hash\.mid\.anchors"):
        load_model(path)
