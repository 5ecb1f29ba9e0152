"""A model on a device: pictures in, codes and logits out.

`ImageEncoder.encode` is for programs that have a few images of any kind; `pictures` and `codes` are its two halves for whoever
streams millions.
"""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from encoder.bits import Codes, Logits, binarize
from encoder.errors import HashgrainError, Reason
from encoder.images.decoding.decode import RejectedImage, square_or_reject
from encoder.images.inputs import ImageLike, square_of
from encoder.images.limits import Limits
from encoder.levels import Level, level_list
from encoder.model.device import resolve_device, resolve_precision
from encoder.model.gpu_forward import PROBE, packed
from encoder.model.memory import Portions, batch_for
from encoder.model.model_file import Model
from encoder.model.network import HashNetwork
from encoder.model.spec import Precision
from encoder.runtime.parallel import ordered_map

CPU_BATCH: Final = 32
GPU_TURNS: Final = 2
"""Batches that a GPU has at a time: one computes, the next is there when it ends."""

Picture: TypeAlias = npt.NDArray[np.uint8] | Tensor
"""uint8[image_size, image_size, 3]; on a GPU a tensor there."""
Pictures: TypeAlias = Sequence[Picture] | npt.NDArray[np.uint8]
Network: TypeAlias = Callable[[Tensor, Sequence[Level] | None], Mapping[Level, Tensor]]
_OF_THREAD = threading.local()
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
        compile_for: levels that many thousand images are to be coded at, so that compiling the network for a GPU is worth its
            minute; None: few images.
        notify: called with a line for a person before something takes long or where something is not to be had.

    Raises:
        HashgrainError: `bad-value` when the device is not there.
    """

    def __init__(
        self,
        model: Model,
        device: str = "auto",
        precision: Precision = Precision.AUTO,
        *,
        compile_for: tuple[Level, ...] | None = None,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.model, self.device = model, resolve_device(device)
        self.precision = resolve_precision(precision, self.device)
        dtype = torch.bfloat16 if self.precision is Precision.BF16 else torch.float32
        model.network.to(self.device).eval().fold_norms().to_precision(dtype)
        self.batch = CPU_BATCH
        """Images that the device should see at once."""
        self.network: Network = model.network
        """What is run: on a GPU, where many images are to come, compiled."""
        self._portions = Portions(self.device)
        self._process = os.getpid()
        self._turns = nullcontext() if self.device.type == "cpu" else threading.Semaphore(GPU_TURNS)
        if compile_for is not None and self.device.type == "cuda":
            notify(f"{self.device}: compiling the network, which takes up to a minute")
            self.network = compiled(model.network, self._blank(PROBE), compile_for, notify)
            self.batch = self._batch_for_memory(compile_for)

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
        """Return uint8[image_size, image_size, 3] of each image file, where the network wants it, or why there is none."""
        size = self.model.config.image_size
        if self.device.type == "cpu":
            return [square_or_reject(data, size, limits) for data in files]
        from encoder.images.decoding.gpu_decode import decode_squares

        with self._own_stream():
            return list(decode_squares(files, size, limits, self.device))

    @torch.inference_mode()
    def logits(self, pictures: npt.NDArray[np.uint8], levels: Sequence[Level] | None = None) -> dict[Level, Logits]:
        """Return float32[n, nbits] per level for uint8[n, image_size, image_size, 3]."""
        self._check_process()
        images = torch.from_numpy(pictures).to(self.device)
        return {level: logits.cpu().numpy() for level, logits in self.model.network(images, levels).items()}

    @torch.inference_mode()
    def codes(self, pictures: Pictures, levels: Sequence[Level] | None = None) -> dict[Level, Codes]:
        """Return uint8[n, nbits / 8] per level for n pictures, uint8[image_size, image_size, 3].

        Only codes come back from the device. Where it has no memory for so many at once, they are halved.

        Raises:
            HashgrainError: `bad-value` when there is no memory for one.
        """
        self._check_process()
        parts = self._portions.of(len(pictures), lambda part: self._codes(pictures[part], levels))
        return {level: np.concatenate([part[level] for part in parts]) for level in parts[0]}

    def _codes(self, pictures: Pictures, levels: Sequence[Level] | None) -> dict[Level, Codes]:
        with self._turns, self._own_stream():
            if self.device.type == "cpu":
                images = torch.from_numpy(np.stack(cast("Sequence[npt.NDArray[np.uint8]]", pictures)))
                return {level: binarize(logits.numpy()) for level, logits in self.network(images, levels).items()}
            images = torch.stack([torch.as_tensor(picture, device=self.device) for picture in pictures])
            if len(images) == 1:  # for which the network would be compiled again
                images = torch.cat([images, images])
            codes = {level: packed(logits) for level, logits in self.network(images, levels).items()}
            together = torch.cat(list(codes.values()), dim=1)[: len(pictures)].cpu().numpy()
        ends = np.cumsum([part.shape[1] for part in codes.values()])
        return dict(zip(codes, np.split(together, ends[:-1], axis=1), strict=True))

    def _check_process(self) -> None:
        """Raise where CUDA would fail with words of its own: its state does not survive a fork."""
        if self.device.type == "cuda" and os.getpid() != self._process:
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"the encoder on {self.device} was loaded before this process was forked, and CUDA does not survive a fork; "
                "load it in the child, start processes by spawn, or take device cpu",
            )

    def _own_stream(self) -> AbstractContextManager[object]:
        """Let each thread have a stream, so that one's copies and decoding go on beside another's network."""
        if self.device.type != "cuda":
            return nullcontext()
        if not hasattr(_OF_THREAD, "stream"):
            _OF_THREAD.stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        return torch.cuda.stream(_OF_THREAD.stream)

    def _batch_for_memory(self, levels: tuple[Level, ...]) -> int:
        """Return the batch that fits the memory that is free, by what a small one takes."""
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        with torch.inference_mode():
            self.network(self._blank(PROBE), levels)
        taken = torch.cuda.max_memory_allocated(self.device) - before
        free, _ = torch.cuda.mem_get_info(self.device)
        return batch_for(free, GPU_TURNS * taken / PROBE)

    def _blank(self, count: int) -> Tensor:
        size = self.model.config.image_size
        return torch.zeros((count, size, size, 3), dtype=torch.uint8, device=self.device)


def compiled(
    network: HashNetwork, sample: Tensor, levels: tuple[Level, ...], notify: Callable[[str], None] = lambda _: None
) -> Network:
    """Return the network compiled for any number of images but one, or as it is where no compiler can be had.

    It is run once as it will be: at the same levels, on a tensor of the same mode, in a thread like those that code batches.
    Where any of these is another, torch compiles again.
    """
    compiled = torch.compile(network, dynamic=True)

    @torch.inference_mode()
    def warm_up(images: Tensor) -> object:
        return compiled(images.clone(), levels)

    try:
        list(ordered_map(warm_up, [sample], workers=1))
    except Exception as err:  # noqa: BLE001  whatever is missing or unsupported, it runs without, too
        notify(f"the network cannot be compiled here ({type(err).__name__}); it runs as it is, slower")
        return network
    return cast(Network, compiled)
