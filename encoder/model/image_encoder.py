"""A model on a device: pictures in, codes and logits out.

`ImageEncoder.encode` is for programs that have a few images of any kind; `pictures` and `codes` are its two halves for whoever
streams millions on a CPU, and `gpu_forward` is for whoever does on a GPU.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from encoder.bits import Codes, Logits, binarize
from encoder.errors import HashgrainError, Reason
from encoder.images.decoding.decode import RejectedImage, square_or_reject
from encoder.images.inputs import ImageLike, Seen, look
from encoder.images.limits import Limits
from encoder.images.region import Box, Region, RegionMode
from encoder.levels import Level, level_list
from encoder.model.device import resolve_device, resolve_precision
from encoder.model.memory import Portions
from encoder.model.model_file import Model
from encoder.model.shares import Shares, shares
from encoder.model.spec import Precision

CPU_BATCH: Final = 32

Picture: TypeAlias = npt.NDArray[np.uint8]
"""uint8[image_size, image_size, 3]."""
Pictures: TypeAlias = Sequence[Picture] | npt.NDArray[np.uint8]
Boxes: TypeAlias = npt.NDArray[np.float32]
"""float32[n, 4], left, top, right, bottom in shares of a picture's side."""
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
        self,
        images: Sequence[ImageLike],
        levels: Sequence[Level | str] | None = None,
        limits: Limits = Limits(),
        regions: Sequence[Region | None] | None = None,
        mode: RegionMode | None = None,
    ) -> Encoded:
        """Return codes and logits of images of any kind and size, or of regions of them.

        Args:
            images: each a `Path`, the bytes of an image file, a PIL image, or uint8[height, width, 3].
            levels: which are wanted; None: all that the model has.
            limits: what an image may be.
            regions: of each image, the part that is looked at, or None for all of it; None: all of every image.
            mode: how a region becomes a code; None: `encoder.images.region.DEFAULT_MODE`.

        Raises:
            HashgrainError: `image-rejected` or `shard-missing` for an image that cannot be read, `bad-value` for what is not
                an image, `level-unknown`.
        """
        wanted = self._levels(levels)
        size = self.model.config.image_size
        logits: dict[str, Logits] = {
            level: np.empty((len(images), self.model.config.bits[level]), np.float32) for level in wanted
        }
        looked = [None] * len(images) if regions is None else regions
        for start in range(0, len(images), CPU_BATCH):
            part = slice(start, start + CPU_BATCH)
            seen = [
                look(image, size, limits, region, mode)
                for image, region in zip(images[part], looked[part], strict=True)
            ]
            pictures = np.stack([each.pixels for each in seen])
            for level, values in self.logits(pictures, wanted, boxes_of(seen)).items():
                logits[level][part] = values
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

    def logits(
        self, pictures: Pictures, levels: Sequence[Level] | None = None, boxes: Boxes | None = None
    ) -> dict[Level, Logits]:
        """Return float32[n, nbits] per level for n pictures, uint8[image_size, image_size, 3], where boxes say so of these.

        Where a device has no memory for so many at once, they are halved.

        Raises:
            HashgrainError: `bad-value` when there is no memory for one.
        """
        self._check_process()
        parts = self._portions.of(len(pictures), lambda part: self._logits(pictures, levels, boxes, part))
        return {level: np.concatenate([part[level] for part in parts]) for level in parts[0]}

    def shares(self, picture: Picture, level: Level, box: Box | None = None) -> Shares:
        """Return what each place of a picture, or of a box of it (in shares of its side), adds to each logit of a level.

        Raises:
            HashgrainError: `level-unknown`; `bad-value` for a hash layer that is not linear.
        """
        [level] = self._levels([level])
        self._check_process()
        boxes = None if box is None else self._on_device(np.array([box], np.float32))
        return shares(self.model.network, self._on_device(np.stack([picture])), level, boxes)[0]

    def codes(self, pictures: Pictures, levels: Sequence[Level] | None = None) -> dict[Level, Codes]:
        """Return uint8[n, nbits / 8] per level for n pictures, as `logits` does."""
        return {level: binarize(logits) for level, logits in self.logits(pictures, levels).items()}

    @torch.inference_mode()
    def _logits(
        self, pictures: Pictures, levels: Sequence[Level] | None, boxes: Boxes | None, part: slice
    ) -> dict[Level, Logits]:
        images, network = self._on_device(np.asarray(pictures[part])), self.model.network
        found = network(images, levels) if boxes is None else network(images, levels, self._on_device(boxes[part]))
        return {level: logits.cpu().numpy() for level, logits in found.items()}

    def _on_device(self, values: npt.NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(values).to(self.device)

    def _check_process(self) -> None:
        """Raise where CUDA would fail with words of its own: its state does not survive a fork."""
        if self.device.type == "cuda" and os.getpid() != self._process:
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"the encoder on {self.device} was loaded before this process was forked, and CUDA does not survive a fork; "
                "load it in the child, start processes by spawn, or take device cpu",
            )


def boxes_of(seen: Sequence[Seen]) -> Boxes | None:
    """Return where features are pooled of each picture; None: everywhere, of all."""
    if all(each.inside is None for each in seen):
        return None
    return np.array([each.inside or (0, 0, 1, 1) for each in seen], np.float32)


def _numbered(device: torch.device) -> torch.device:
    """Return a device with its number: decoders and streams of `cuda` would be others than those of `cuda:0`."""
    return torch.device("cuda", torch.cuda.current_device()) if str(device) == "cuda" else device
