"""Running a model on batches of pictures: device, precision, and codes out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from encoder.bits import Codes, Logits, binarize
from encoder.config import Precision
from encoder.decode import Limits, RejectedImage, decode_square
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from encoder.model import Model, load_model


def resolve_device(name: str) -> torch.device:
    """Return the device called `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        HashgrainError: `bad-value` when it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as err:
        raise HashgrainError(
            Reason.BAD_VALUE, f"device {name!r} is not available here; give auto, cpu, cuda or cuda:N"
        ) from err
    return device


def resolve_devices(names: str) -> list[str]:
    """Return the devices of a list with commas between; `all` is every CUDA device or, where there is none, the CPU.

    Raises:
        HashgrainError: `bad-value` when one is not there.
    """
    if names == "all":
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]
    return [str(resolve_device(name.strip())) for name in names.split(",")]


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """Return what `auto` means on a device."""
    if precision is not Precision.AUTO:
        return precision
    if device.type == "cpu":
        native = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    else:
        native = torch.cuda.is_bf16_supported()
    return Precision.BF16 if native else Precision.FP32


def fast_dtype(device: str = "cpu") -> torch.dtype:
    """Return the type that `Precision.AUTO` computes in."""
    precision = resolve_precision(Precision.AUTO, torch.device(device))
    return torch.bfloat16 if precision is Precision.BF16 else torch.float32


@dataclass(slots=True)
class ImageEncoder:
    """A model on a device, in a precision, called with pictures and answering with codes."""

    model: Model
    device: torch.device
    precision: Precision

    def __init__(self, model: Model, device: str = "auto", precision: Precision = Precision.AUTO) -> None:
        self.model, self.device = model, resolve_device(device)
        self.precision = resolve_precision(precision, self.device)
        dtype = torch.bfloat16 if self.precision is Precision.BF16 else torch.float32
        model.network.to(self.device).eval().fold_norms().to_precision(dtype)

    @torch.inference_mode()
    def logits(self, pictures: npt.NDArray[np.uint8], levels: Sequence[Level] | None = None) -> dict[Level, Logits]:
        """Return float32[n, nbits] per level for uint8[n, image_size, image_size, 3]."""
        images = torch.from_numpy(pictures).to(self.device)
        return {level: logits.cpu().numpy() for level, logits in self.model.network(images, levels).items()}

    def encode(self, pictures: npt.NDArray[np.uint8], levels: Sequence[Level] | None = None) -> dict[Level, Codes]:
        """Return uint8[n, nbits / 8] per level for uint8[n, image_size, image_size, 3]."""
        return {level: binarize(logits) for level, logits in self.logits(pictures, levels).items()}


def image_logits(
    model_path: Path, images: Sequence[tuple[str, bytes]], levels: Sequence[Level], precision: str
) -> dict[Level, Logits]:
    """Run a few images held in memory through a model, as for a query; `bits.binarize` makes codes of logits.

    Args:
        model_path: model file.
        images: name and file content of each.
        levels: which are wanted.
        precision: of the backbone; the one the database was coded with, where the processor has it.

    Returns:
        float32[len(images), nbits] of each level.

    Raises:
        HashgrainError: `image-rejected` with the image's name and reason, `model-invalid`.
    """
    model = load_model(model_path)
    size = model.config.image_size
    pictures = np.empty((len(images), size, size, 3), dtype=np.uint8)
    for row, (name, data) in enumerate(images):
        try:
            pictures[row] = decode_square(data, size, Limits())
        except RejectedImage as err:
            raise HashgrainError(
                Reason.IMAGE_REJECTED,
                f"{name} cannot be used as a query ({err.reject}: {err.detail}); give a readable image",
            ) from err
    return ImageEncoder(model, precision=Precision(precision)).logits(pictures, levels)
