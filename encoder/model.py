"""The model file: safetensors with one JSON header; everything that is needed to make the same code again.

Its SHA-256 is the encoder's fingerprint: equal fingerprints mean equal weights, preprocessing and hash layers. The file
is written deterministically (one metadata key, canonical JSON), so `sha256sum` of it is all there is to know.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from encoder.backbone import Backbone
from encoder.config import Activation, BackboneSpec, ModelConfig, Pooling
from encoder.errors import HashgrainError, Reason
from encoder.levels import STAGE_LEVELS, Level
from encoder.network import HashNetwork
from encoder.publish import publish, sha256_of

FORMAT, VERSION = "hashgrain-model", 1
METADATA_KEY = "hashgrain"
MAX_IMAGE_SIZE = 2048


@dataclass(frozen=True, slots=True)
class Model:
    """A network that is ready to code images, and what it is."""

    config: ModelConfig
    network: HashNetwork
    fingerprint: str
    """SHA-256 of the model file."""


def save_model(path: Path, config: ModelConfig, network: HashNetwork) -> str:
    """Write a model file durably and return its fingerprint.

    Raises:
        HashgrainError: `write-failed`.
    """
    header = {"format": FORMAT, "version": VERSION, **asdict(config)}
    with publish(path) as partial:
        save_file(_tensors(network), partial, {METADATA_KEY: json.dumps(header, sort_keys=True)})
    return sha256_of(path)


def load_model(path: Path) -> Model:
    """Read a model file.

    Raises:
        HashgrainError: `model-invalid`, with what is wrong.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
        tensors = load_file(path)
    except FileNotFoundError:
        raise _invalid(path, "it does not exist") from None
    except (safetensors.SafetensorError, OSError) as err:
        raise _invalid(path, f"it is no readable safetensors file ({err})") from err
    if METADATA_KEY not in metadata:
        raise _invalid(path, "it holds tensors only, no hashgrain header; `--weights` takes plain weights")
    try:
        config = _config(json.loads(metadata[METADATA_KEY]))
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise _invalid(path, f"its header cannot be read ({err})") from err
    return Model(config, _network(path, config, tensors), sha256_of(path))


def _invalid(path: Path, why: str) -> HashgrainError:
    return HashgrainError(
        Reason.MODEL_INVALID,
        f"model file {path} cannot be used: {why}; make one with `encoder fit SHARDS --out {path.name}`",
    )


def _config(header: dict[str, Any]) -> ModelConfig:
    if header["format"] != FORMAT:
        raise ValueError(f"format {header['format']!r}, expected {FORMAT!r}")
    if header["version"] != VERSION:
        raise ValueError(f"version {header['version']}, this program reads {VERSION}; upgrade hashgrain")
    size = int(header["image_size"])
    bits = {level: int(header["bits"][level]) for level in Level if level in header["bits"]}
    if not 0 < size <= MAX_IMAGE_SIZE or not bits or any(nbits <= 0 or nbits % 8 for nbits in bits.values()):
        raise ValueError(f"image size {size} or bits {bits} out of range")
    return ModelConfig(
        backbone=BackboneSpec(**header["backbone"]),
        image_size=size,
        pooling=Pooling(header["pooling"]),
        bits=bits,
        activations={Level(level): Activation(name) for level, name in header["activations"].items()},
        record=dict(header["record"]),
    )


def _network(path: Path, config: ModelConfig, tensors: dict[str, Tensor]) -> HashNetwork:
    heads = {level: (nbits, config.activations[level]) for level, nbits in config.bits.items()}
    with torch.device("meta"):
        network = HashNetwork(Backbone(config.backbone), config.pooling, heads)
    wanted = _tensors(network)
    if odd := sorted(wanted.keys() ^ tensors.keys()):
        raise _invalid(path, f"its tensors are not the ones its header asks for (first: {odd[0]})")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape or not torch.isfinite(tensor).all():
            raise _invalid(path, f"tensor {name} has shape {tuple(tensor.shape)} or values that are not finite")
    network.to_empty(device="cpu")
    with torch.no_grad():
        for name, target in _tensors(network).items():
            target.copy_(tensors[name])
    return network.eval()


def _tensors(network: HashNetwork) -> dict[str, Tensor]:
    """Return every tensor of the file by its name in it."""
    named = {f"backbone.{name}": tensor for name, tensor in network.backbone.net.state_dict().items()}
    for level in STAGE_LEVELS:
        named |= {f"attention.{level}.{name}": tensor for name, tensor in network.pool(level).conv.state_dict().items()}
        named[f"mean.{level}"] = network.means[level].data
    for level in network.levels:
        named |= {f"hash.{level}.{name}": tensor for name, tensor in network.head(level).linear.state_dict().items()}
    return {name: tensor.contiguous() for name, tensor in named.items() if not name.endswith("num_batches_tracked")}
