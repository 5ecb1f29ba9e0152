"""Weights for a backbone: torchvision's own by name, a state dict or a model's trunk from a file, or none."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from encoder.errors import HashgrainError, Reason, why
from encoder.model.backbone import Backbone
from encoder.model.model_file import load_model
from encoder.model.spec import BackboneSpec
from encoder.model.tensor_file import METADATA_KEY
from encoder.model.vision import torchvision_models
from encoder.runtime.files import exists
from encoder.runtime.publish import sha256_of

NO_WEIGHTS = "none"
WAYS_OUT = "give a local state dict (a .safetensors or .pth file), or none for an untrained network"
STRIDE = "stride_in_1x1"
"""Key of a weights file's metadata."""
_HEADS = ("fc.", "classifier.")
"""What the names of a classifier's own layers begin with: a feature trunk has none."""
_COUNTER = "num_batches_tracked"
"""What the names of counters end with, which only training reads."""


def load_backbone(spec: BackboneSpec, weights: str, seed: int) -> tuple[Backbone, BackboneSpec, str]:
    """Build a backbone with weights.

    Args:
        spec: which network; a file that says `stride_in_1x1` in its metadata turns that option on.
        weights: `none` (random by `seed`), a name of torchvision's weights enum (`IMAGENET1K_V2`, `DEFAULT`), or a path
            of a state dict, or of a model file, whose trunk is taken.
        seed: of the random initialisation.

    Returns:
        The backbone in eval mode, the spec as built, and a line that says where the weights are from.

    Raises:
        HashgrainError: `weights-unavailable`, `bad-value`.
    """
    path = Path(weights)
    if path.suffix in {".safetensors", ".pth", ".pt"} or (exists(path) and path.is_file()):
        state, metadata = _read_state(path)
        spec = replace(spec, stride_in_1x1=spec.stride_in_1x1 or metadata.get(STRIDE) == "true")
        origin = f"{path.name} sha256 {_digest(path)}"
    elif weights == NO_WEIGHTS:
        state, origin = None, f"none (random, seed {seed})"
    else:
        state, origin = _download(spec.name, weights), f"torchvision {spec.name} {weights}"
    torch.manual_seed(seed)
    backbone = Backbone(spec).eval()
    if state is not None:
        _load(backbone, state, spec.name, weights)
    return backbone, spec, origin


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as err:
        raise HashgrainError(
            Reason.WEIGHTS_UNAVAILABLE, f"weights file {path} could not be read ({why(err)}); {WAYS_OUT}"
        ) from err


def _read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, "pt") as file:
                metadata: dict[str, str] = file.metadata() or {}
            if METADATA_KEY in metadata:
                model = load_model(path)
                trunk = model.network.backbone.net.state_dict()
                return trunk, {STRIDE: json.dumps(model.config.backbone.stride_in_1x1)}
            return load_file(path), metadata
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except HashgrainError:
        raise
    except Exception as err:
        said = getattr(err, "strerror", None) or type(err).__name__
        raise HashgrainError(
            Reason.WEIGHTS_UNAVAILABLE,
            f"weights file {path} could not be read as a state dict of tensors ({said}); {WAYS_OUT}",
        ) from err
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise HashgrainError(
            Reason.WEIGHTS_UNAVAILABLE, f"weights file {path} holds no state dict (names to tensors); {WAYS_OUT}"
        )
    return state, {}


def _download(name: str, weights: str) -> dict[str, Tensor]:
    enum = torchvision_models().get_model_weights(name)
    if weights not in enum.__members__:
        raise HashgrainError(
            Reason.WEIGHTS_UNAVAILABLE,
            f"torchvision has no weights {weights!r} for {name} and there is no such file; its names are "
            f"{', '.join(enum.__members__)}; {WAYS_OUT}",
        )
    try:
        state: dict[str, Tensor] = enum[weights].get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as err:
        raise HashgrainError(
            Reason.WEIGHTS_UNAVAILABLE, f"weights {weights} of {name} could not be downloaded ({err}); {WAYS_OUT}"
        ) from err
    return state


def _load(backbone: Backbone, state: dict[str, Tensor], name: str, source: str) -> None:
    """Load every tensor of the trunk; names and shapes must fit exactly, classifier heads are ignored."""
    ours = {key: value for key, value in backbone.net.state_dict().items() if not key.endswith(_COUNTER)}
    state = {key.removeprefix("module."): value for key, value in state.items()}
    missing = [key for key in ours if key not in state]
    surplus = [key for key in state if key not in ours and not key.startswith(_HEADS) and not key.endswith(_COUNTER)]
    misfits = [key for key in ours if key in state and state[key].shape != ours[key].shape]
    for what, keys in (("lacks", missing), ("has unknown", surplus), ("has other shapes for", misfits)):
        if keys:
            raise HashgrainError(
                Reason.WEIGHTS_UNAVAILABLE,
                f"weights {source} do not fit {name}: the file {what} {len(keys)} tensors, first {keys[0]!r}; "
                "check the backbone and its stem",
            )
    backbone.net.load_state_dict({key: state[key].float() for key in ours}, strict=False)
