"""Running a model on batches of pictures: device, precision, and codes out."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from encoder.bits import Codes, Logits, binarize
from encoder.errors import HashgrainError, Reason
from encoder.images.decode import RejectedImage, decode_square, square_or_reject
from encoder.images.limits import Limits
from encoder.levels import Level
from encoder.model.model_file import Model, load_model
from encoder.model.network import HashNetwork
from encoder.model.spec import Precision
from encoder.runtime.console import notice
from encoder.runtime.parallel import ordered_map

CPU_BATCH: Final = 32
MOST_BATCH: Final = 512
"""More is not faster on any GPU we know figures of, and late to begin."""
GPU_TURNS: Final = 2
"""Batches that a GPU has at a time: one computes, the next is there when it ends."""
PROBE: Final = 16
"""Images whose memory is measured."""

Picture: TypeAlias = npt.NDArray[np.uint8] | Tensor
"""uint8[image_size, image_size, 3]; on a GPU a tensor there."""
Pictures: TypeAlias = Sequence[Picture] | npt.NDArray[np.uint8]
Network: TypeAlias = Callable[[Tensor, Sequence[Level] | None], Mapping[Level, Tensor]]
_OF_THREAD = threading.local()


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
    except (RuntimeError, AssertionError):
        device = None
    if device is None or device.type not in {"cpu", "cuda"}:
        raise HashgrainError(Reason.BAD_VALUE, f"device {name!r} is not available here; give auto, cpu, cuda or cuda:N")
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


class ImageEncoder:
    """A model on a device, in a precision, called with pictures and answering with codes. Threads may share it.

    Args:
        model: the model; its network is moved and changed.
        device: as `resolve_device` has it.
        precision: of the convolutions.
        compile_for: levels that many thousand images are to be coded at, so that compiling the network for a GPU is worth its
            minute; None: few images.

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
    ) -> None:
        self.model, self.device = model, resolve_device(device)
        self.precision = resolve_precision(precision, self.device)
        dtype = torch.bfloat16 if self.precision is Precision.BF16 else torch.float32
        model.network.to(self.device).eval().fold_norms().to_precision(dtype)
        self.batch = CPU_BATCH
        """Images that the device should see at once."""
        self.network: Network = model.network
        """What is run: on a GPU, where many images are to come, compiled."""
        self._most: int | None = None  # images at once, where memory has said no to more
        self._turns = nullcontext() if self.device.type == "cpu" else threading.Semaphore(GPU_TURNS)
        if compile_for is not None and self.device.type == "cuda":
            notice(f"{self.device}: compiling the network, which takes up to a minute")
            self.network = compiled(model.network, self._blank(PROBE), compile_for)
            self.batch = self._batch_for_memory(compile_for)

    def pictures(self, files: Sequence[bytes], limits: Limits) -> list[Picture | RejectedImage]:
        """Return uint8[image_size, image_size, 3] of each image file, where the network wants it, or why there is none."""
        size = self.model.config.image_size
        if self.device.type == "cpu":
            return [square_or_reject(data, size, limits) for data in files]
        from encoder.images.gpu_decode import decode_squares

        with self._own_stream():
            return list(decode_squares(files, size, limits, self.device))

    @torch.inference_mode()
    def logits(self, pictures: npt.NDArray[np.uint8], levels: Sequence[Level] | None = None) -> dict[Level, Logits]:
        """Return float32[n, nbits] per level for uint8[n, image_size, image_size, 3]."""
        images = torch.from_numpy(pictures).to(self.device)
        return {level: logits.cpu().numpy() for level, logits in self.model.network(images, levels).items()}

    @torch.inference_mode()
    def encode(self, pictures: Pictures, levels: Sequence[Level] | None = None) -> dict[Level, Codes]:
        """Return uint8[n, nbits / 8] per level for n pictures, uint8[image_size, image_size, 3].

        Only codes come back from the device. Where it has no memory for so many at once, they are halved.

        Raises:
            HashgrainError: `bad-value` when there is no memory for one.
        """
        most, parts, done = self._most or len(pictures), [], 0
        while done < len(pictures):
            try:
                parts.append(self._encode(pictures[done : done + most], levels))
                done += most
            except torch.OutOfMemoryError as err:
                most = min(most, len(pictures) - done) // 2
                if not most:
                    raise HashgrainError(
                        Reason.BAD_VALUE, f"device {self.device} has no memory for one image; free some, or give cpu"
                    ) from err
                self._most = most
        return {level: np.concatenate([part[level] for part in parts]) for level in parts[0]}

    def _encode(self, pictures: Pictures, levels: Sequence[Level] | None) -> dict[Level, Codes]:
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
        return batch_for(free, taken / PROBE)

    def _blank(self, count: int) -> Tensor:
        size = self.model.config.image_size
        return torch.zeros((count, size, size, 3), dtype=torch.uint8, device=self.device)


def batch_for(free: float, each: float) -> int:
    """Return the power of two, 1 to MOST_BATCH, of images of `each` bytes that fit `free` bytes.

    GPU_TURNS batches take half of it at most: the other half is for pictures, and for what is not known.
    """
    fitting = max(1, int(free / 2 / GPU_TURNS / max(each, 1)))
    return min(MOST_BATCH, 1 << (fitting.bit_length() - 1))


def packed(logits: Tensor) -> Tensor:
    """Return uint8[n, nbits / 8] of float32[n, nbits] on its device, as `bits.binarize` packs."""
    bits = (logits >= 0).view(len(logits), -1, 8)
    return (bits << torch.arange(8, device=logits.device)).sum(dim=2).to(torch.uint8)


def compiled(network: HashNetwork, sample: Tensor, levels: tuple[Level, ...]) -> Network:
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
        notice(f"the network cannot be compiled here ({type(err).__name__}); it runs as it is, slower")
        return network
    return cast(Network, compiled)


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
