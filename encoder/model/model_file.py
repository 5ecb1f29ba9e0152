"""The model file: safetensors with one JSON header; everything that is needed to make the same code again.

Its SHA-256 is the encoder's fingerprint: equal fingerprints mean equal weights, preprocessing and hash layers. The file
is written deterministically (one metadata key, canonical JSON), so `sha256sum` of it is all there is to know.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save
from torch import Tensor
from torch.overrides import TorchFunctionMode

from encoder.errors import HashgrainError, Reason
from encoder.levels import MAX_BITS, STAGE_LEVELS, Level
from encoder.model.backbone import Backbone
from encoder.model.cost import check_cost
from encoder.model.network import HashNetwork
from encoder.model.spec import Activation, BackboneSpec, HeadSpec, KernelSpec, ModelConfig, Normalisation, Pooling
from encoder.model.tensor_file import METADATA_KEY, UNREADABLE, count, read_tensor_header
from encoder.runtime.publish import publish, sha256_of

FORMAT, VERSION = "hashgrain-model", 1
MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 16, 2048
INITIALISERS = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_})
MAX_LAYERS, MAX_WIDTH, MAX_ANCHORS = 8, 4096, 65_536
MAX_KERNEL_WIDTH = 1e12
"""Of features of any scale; its square, and that of its inverse, are still numbers."""
STAGES = len(STAGE_LEVELS)


@dataclass(frozen=True, slots=True)
class Model:
    """A network that is ready to code images, and what it is."""

    config: ModelConfig
    network: HashNetwork
    fingerprint: str
    """SHA-256 of the model file."""


def save_model(path: Path, config: ModelConfig, network: HashNetwork, *, half: bool = False) -> str:
    """Write a model file durably and return its fingerprint.

    Args:
        path: of the file.
        config: its header.
        network: its tensors.
        half: write float16, in half the space; what is computed from it is float32 or bf16 as before.

    Raises:
        HashgrainError: `write-failed`.
    """
    header = {"format": FORMAT, "version": VERSION, **asdict(config)}
    tensors = {name: tensor.half() if half else tensor for name, tensor in _tensors(network).items()}
    content = save(tensors, {METADATA_KEY: json.dumps(header, sort_keys=True)})
    with publish(path) as partial:
        partial.write_bytes(content)  # `save_file` would make a file that nobody else may read
    return hashlib.sha256(content).hexdigest()


def load_model(path: Path) -> Model:
    """Read a model file.

    Raises:
        HashgrainError: `model-invalid`, with what is wrong.
    """
    try:
        metadata, shapes = read_tensor_header(path)
    except FileNotFoundError:
        raise _invalid(path, "it does not exist") from None
    except (*UNREADABLE, OSError) as err:
        raise _invalid(path, f"it is not a readable safetensors file ({err})") from err
    if METADATA_KEY not in metadata:
        raise _invalid(path, "it holds tensors only, no hashgrain header; plain weights are what a model is fitted on")
    try:
        config = _config(path, json.loads(metadata[METADATA_KEY]))
    except UNREADABLE as err:
        raise _invalid(path, f"its header cannot be read ({err})") from err
    network = _blank_network(path, config, shapes)
    try:
        tensors, fingerprint = load_file(path), sha256_of(path)
    except (safetensors.SafetensorError, OSError, RuntimeError) as err:  # RuntimeError: torch could not map it
        raise _invalid(path, f"it is not a readable safetensors file ({err})") from err
    return Model(config, _filled(path, network, tensors), fingerprint)


class _WithoutValues(TorchFunctionMode):
    """Modules are built without initial values: a file has others, and on the device `meta` torch makes them by its compiler."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Skip what only sets values."""
        return args[0] if func in INITIALISERS else func(*args, **(kwargs or {}))


def _invalid(path: Path, why: str) -> HashgrainError:
    return HashgrainError(
        Reason.MODEL_INVALID,
        f"model file {path} cannot be used: {why}; fit or train one",
    )


def _config(path: Path, header: dict[str, Any]) -> ModelConfig:
    if header["format"] != FORMAT:
        raise ValueError(f"format {header['format']!r}, expected {FORMAT!r}")
    if count(header["version"]) > VERSION:
        raise HashgrainError(
            Reason.TOO_NEW,
            f"model file {path} has format version {header['version']}, this program reads {VERSION}; upgrade hashgrain",
        )
    header = _upgraded(header)
    heads = {Level(level): _head(head) for level, head in header["heads"].items()}
    exits = {Level(level): _widths(widths) for level, widths in header["exits"].items()}
    size = count(header["image_size"])
    if (
        not MIN_IMAGE_SIZE <= size <= MAX_IMAGE_SIZE
        or not heads
        or not exits.keys() <= heads.keys() & set(STAGE_LEVELS)
    ):
        raise ValueError(f"image size {size}, hash layers of {list(heads)} or exits of {list(exits)} out of range")
    return ModelConfig(
        backbone=_backbone(header["backbone"]),
        image_size=size,
        pooling=Pooling(header["pooling"]),
        heads={level: heads[level] for level in Level if level in heads},
        normalisation=Normalisation(header["normalisation"]),
        exits=exits,
        record=dict(header["record"]),
    )


def _upgraded(header: dict[str, Any]) -> dict[str, Any]:
    """Return a header as it is written now, also of a file from before each level had its hash layer under `heads`."""
    if "heads" in header:
        return header
    activations = header["activations"]
    heads = {level: {"bits": bits, "activation": activations[level]} for level, bits in header["bits"].items()}
    return header | {
        "backbone": header["backbone"] | {"widths": None},
        "heads": heads,
        "normalisation": Normalisation.UNIT,
        "exits": {},
    }


def _backbone(fields: dict[str, Any]) -> BackboneSpec:
    widths = None if fields["widths"] is None else _widths(fields["widths"])
    if widths is not None and len(widths) != STAGES:
        raise ValueError(f"{len(widths)} widths of a backbone, expected {STAGES}")
    options = {name: fields[name] for name in ("small_stem", "stride_in_1x1")}
    if not all(isinstance(value, bool) for value in options.values()) or not isinstance(fields["name"], str):
        raise TypeError(f"backbone {fields}")
    return BackboneSpec(**fields | {"widths": widths})


def _head(fields: dict[str, Any]) -> HeadSpec:
    bits = count(fields["bits"])
    if not 0 < bits <= MAX_BITS or bits % 8:
        raise ValueError(f"a hash layer of {bits} bits, out of range: a multiple of 8 up to {MAX_BITS}")
    return HeadSpec(bits, Activation(fields["activation"]), _kernel(fields.get("kernel")))


def _kernel(fields: dict[str, Any] | None) -> KernelSpec | None:
    if fields is None:
        return None
    neighbours = None if fields["neighbours"] is None else count(fields["neighbours"])
    kernel = KernelSpec(count(fields["anchors"]), float(fields["width"]), neighbours)
    fewest = 1 if neighbours is None else neighbours
    if not (0 < fewest <= kernel.anchors <= MAX_ANCHORS and 1 / MAX_KERNEL_WIDTH < kernel.width < MAX_KERNEL_WIDTH):
        raise ValueError(f"{kernel} out of range")
    return kernel


def _widths(values: list[int]) -> tuple[int, ...]:
    """Return channels of layers, within what a file may ask this machine to allocate."""
    widths = tuple(count(value) for value in values)
    if not 0 < len(widths) <= MAX_LAYERS or not all(0 < width <= MAX_WIDTH for width in widths):
        raise ValueError(f"widths {widths} out of range")
    return widths


def _blank_network(path: Path, config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> HashNetwork:
    """Return the network that a header asks for, without memory, after comparing it with the tensors that are there."""
    try:
        with torch.device("meta"), _WithoutValues():
            network = HashNetwork(
                Backbone(config.backbone), config.pooling, config.heads, config.normalisation, config.exits
            )
        check_cost(network.backbone.net, config.image_size)
    except HashgrainError as err:
        raise _invalid(path, str(err)) from err
    expected = _tensors(network)
    if odd := sorted(expected.keys() ^ shapes.keys()):
        raise _invalid(path, f"its tensors are not the ones its header asks for (first: {odd[0]})")
    for name, shape in shapes.items():
        if shape != expected[name].shape:
            raise _invalid(path, f"tensor {name} has shape {shape}, expected {tuple(expected[name].shape)}")
    return network


def _filled(path: Path, network: HashNetwork, tensors: Mapping[str, Tensor]) -> HashNetwork:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise _invalid(path, f"tensor {name} has values that are not finite")
    # `to_empty`, but for its `empty_like`, for which torch imports sympy; what is no tensor of the file has its values
    network._apply(  # type: ignore[no-untyped-call]
        lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype) if tensor.is_meta else tensor
    )
    with torch.no_grad():
        for name, target in _tensors(network).items():
            target.copy_(tensors[name])
    return network.eval()


def _tensors(network: HashNetwork) -> dict[str, Tensor]:
    """Return every tensor of the file by its name in it."""
    named = {f"backbone.{name}": tensor for name, tensor in network.backbone.net.state_dict().items()}
    for level in STAGE_LEVELS:
        named |= {f"attention.{level}.{name}": tensor for name, tensor in network.pool(level).conv.state_dict().items()}
    named |= {f"mean.{level}": mean.data for level, mean in network.means.items()}
    named |= {f"exit.{name}": tensor for name, tensor in network.exits.state_dict().items()}
    for level in network.levels:
        named |= {f"hash.{level}.{name}": tensor for name, tensor in network.head(level).state_dict().items()}
    return {name: tensor.contiguous() for name, tensor in named.items() if not name.endswith("num_batches_tracked")}
