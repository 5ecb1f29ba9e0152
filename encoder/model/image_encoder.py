"""A model on a device: pictures in, codes and logits out.

`ImageEncoder.encode` is for programs that have a few images of any kind; `pictures` and `codes` are its two halves for whoever
streams millions on a CPU, and `gpu_forward` is for whoever does on a GPU.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from encoder.bits import Codes, Logits, binarize
from encoder.errors import HashgrainError, Reason
from encoder.images.decoding.decode import RejectedImage, square_or_reject
from encoder.images.inputs import ImageLike, square_of
from encoder.images.limits import Limits
from encoder.levels import Level, level_list
from encoder.model.device import resolve_device, resolve_precision
from encoder.model.memory import Portions
from encoder.model.model_file import Model
from encoder.model.spec import Precision

CPU_BATCH: Final = 32

Picture: TypeAlias = npt.NDArray[np.uint8]
"""uint8[image_size, image_size, 3]."""
Pictures: TypeAlias = Sequence[Picture] | npt.NDArray[np.uint8]
if hasattr(os, "register_at_fork"):
    # OpenMP's threads do not survive a fork, and its next parallel loop would wait for them for ever
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


@dataclass(frozen=True, slots=True)
class Encoded:
    """Codes of images, by level."""

    codes: Mapping[str, Codes]
    """uint8[n, nbits / 8], lowest bit first."""
    logits: Mapping[str, Logits]
    """float32[n, nbits]: bit = (logit >= 0); how far a logit is from 0 is how sure its bit is."""


class ImageEncoder:
    """A model on a device, in a precision. Threads may share it, and on a CPU forked processes, too.

    Args:
        model: the model; its network is moved and changed.
        device: as `resolve_device` has it.
        precision: of the convolutions.

    Raises:
        HashgrainError: `bad-value` when the device is not there.
    """

    def __init__(self, model: Model, device: str = "auto", precision: Precision = Precision.AUTO) -> None:
        self.model, self.device = model, _numbered(resolve_device(device))
        if self.device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False  # convolutions of float32 that lose 13 of 23 bits are not float32
        self.precision = resolve_precision(precision, self.device)
        dtype = torch.bfloat16 if self.precision is Precision.BF16 else torch.float32
        model.network.to(self.device).eval().fold_norms().to_precision(dtype)
        self.batch = CPU_BATCH
        """Images that a CPU should see at once."""
        self._portions = Portions(self.device)
        self._process = os.getpid()

    def encode(
        self, images: Sequence[ImageLike], levels: Sequence[Level | str] | None = None, limits: Limits = Limits()
    ) -> Encoded:
        """Return codes and logits of images of any kind and size.

        Args:
            images: each a `Path`, the bytes of an image file, a PIL image, or uint8[height, width, 3].
            levels: which are wanted; None: all that the model has.
            limits: what an image may be.

        Raises:
            HashgrainError: `image-rejected` or `shard-missing` for an image that cannot be read, `bad-value` for what is not
                an image, `level-unknown`.
        """
        wanted = self._levels(levels)
        size = self.model.config.image_size
        logits: dict[str, Logits] = {
            level: np.empty((len(images), self.model.config.bits[level]), np.float32) for level in wanted
        }
        for start in range(0, len(images), CPU_BATCH):
            part = np.stack([square_of(image, size, limits) for image in images[start : start + CPU_BATCH]])
            for level, values in self.logits(part, wanted).items():
                logits[level][start : start + len(part)] = values
        return Encoded({level: binarize(values) for level, values in logits.items()}, logits)

    def _levels(self, levels: Sequence[Level | str] | None) -> list[Level]:
        has = self.model.config.bits
        wanted = list(has) if levels is None else level_list(levels)
        for level in wanted:
            if level not in has:
                raise HashgrainError(Reason.LEVEL_UNKNOWN, f"the model has no level {level} (has: {', '.join(has)})")
        return wanted

    def pictures(self, files: Sequence[bytes], limits: Limits) -> list[Picture | RejectedImage]:
        """Return uint8[image_size, image_size, 3] of each image file, or why there is none."""
        size = self.model.config.image_size
        return [square_or_reject(data, size, limits) for data in files]

    def logits(self, pictures: Pictures, levels: Sequence[Level] | None = None) -> dict[Level, Logits]:
        """Return float32[n, nbits] per level for n pictures, uint8[image_size, image_size, 3].

        Where a device has no memory for so many at once, they are halved.

        Raises:
            HashgrainError: `bad-value` when there is no memory for one.
        """
        self._check_process()
        parts = self._portions.of(len(pictures), lambda part: self._logits(pictures[part], levels))
        return {level: np.concatenate([part[level] for part in parts]) for level in parts[0]}

    def codes(self, pictures: Pictures, levels: Sequence[Level] | None = None) -> dict[Level, Codes]:
        """Return uint8[n, nbits / 8] per level for n pictures, as `logits` does."""
        return {level: binarize(logits) for level, logits in self.logits(pictures, levels).items()}

    @torch.inference_mode()
    def _logits(self, pictures: Pictures, levels: Sequence[Level] | None) -> dict[Level, Logits]:
        images = torch.from_numpy(np.asarray(pictures)).to(self.device)
        return {level: logits.cpu().numpy() for level, logits in self.model.network(images, levels).items()}

    def _check_process(self) -> None:
        """Raise where CUDA would fail with words of its own: its state does not survive a fork."""
        if self.device.type == "cuda" and os.getpid() != self._process:
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"the encoder on {self.device} was loaded before this process was forked, and CUDA does not survive a fork; "
                "load it in the child, start processes by spawn, or take device cpu",
            )


def _numbered(device: torch.device) -> torch.device:
    """Return a device with its number: decoders and streams of `cuda` would be others than those of `cuda:0`."""
    return torch.device("cuda", torch.cuda.current_device()) if str(device) == "cuda" else device
