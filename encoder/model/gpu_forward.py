"""The network where millions of images are to come: one stream, one static shape, memory that is used again for every batch.

Pictures are put into a slot on the device, the network runs on the whole slot, packed codes come back into pinned memory of it.
Nothing waits: who fills slots and who reads codes do so in threads of their own, and events of the device say when. Streams of
a CPU do nothing, so all of it runs there, too.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from encoder.bits import Codes
from encoder.levels import Level
from encoder.model.device import Event, new_event, new_stream, on_stream
from encoder.model.memory import Portions, batch_for, no_memory
from encoder.model.model_file import Model
from encoder.model.network import HashNetwork

SLOTS: Final = 3
"""One is filled, one is computed, one is read back."""
PROBE: Final = 16
"""Images whose memory is measured."""
CPU_SLOT: Final = 32
"""Images of a slot on a CPU, whose memory nobody asks for."""
TABLE_COLUMNS: Final = 8
"""Numbers of 64 bits that a slot has room for per image, for who fills it."""
COMPILE_FROM_BYTES: Final = 8 << 30
"""Bytes of shards per device that make up for the minute that compiling takes: about 100,000 photos."""

# torch's compiler advises TF32 for float32 products, which are few here and decide the sign of bits.
warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)

Run: TypeAlias = Callable[[Tensor], Tensor]


class Packer(nn.Module):
    """From 8-bit pictures to packed codes of several levels, side by side, all on the device.

    Args:
        network: in eval mode.
        levels: which, in the order of their codes.
    """

    def __init__(self, network: HashNetwork, levels: Sequence[Level]) -> None:
        super().__init__()
        self.network, self.levels = network, tuple(levels)

    def forward(self, images: Tensor) -> Tensor:
        """Return uint8[n, bytes of all levels] of uint8[n, size, size, 3]."""
        logits = self.network(images, self.levels)
        return torch.cat([packed(logits[level]) for level in self.levels], dim=1)


def packed(logits: Tensor) -> Tensor:
    """Return uint8[n, nbits / 8] of float32[n, nbits] on its device, as `bits.binarize` packs."""
    bits = (logits >= 0).to(torch.uint8).view(len(logits), -1, 8)
    return (bits << torch.arange(8, dtype=torch.uint8, device=logits.device)).sum(dim=2, dtype=torch.uint8)


@dataclass(slots=True)
class Slot:
    """Memory of one batch, from pictures to codes; it belongs to one batch at a time."""

    squares: Tensor
    """uint8[batch, size, size, 3] on the device."""
    staging: Tensor
    """uint8[batch, size, size, 3], pinned: pictures on their way to the device."""
    table: Tensor
    """int64[batch, TABLE_COLUMNS], pinned: what a kernel that fills the slot is told about each image."""
    codes: Tensor
    """uint8[batch, bytes of all levels], pinned."""
    filled: Event
    """Recorded by who fills the slot, when `squares` are on their way."""
    done: Event
    """Recorded by `run`, when `codes` are on their way."""


class GpuForward:
    """Runs a network on slots, in the order of its calls; one per process and device.

    `prepare` and `run` are called in one thread, which no other torch computation shares; `codes` in any.

    Args:
        model: its network is on the device, in eval mode, folded, in its precision.
        device: with its number.
        levels: which are coded.
        batch: images of a slot; None: what the memory has room for.
        compile: whether so many images are to come that compiling is worth its minute.
        notify: called with a line for a person before something takes long or where something is not to be had.
    """

    batch: int
    """Images of a slot; known after `prepare`."""
    compiled: bool
    """Whether the network runs compiled; then always on a whole slot, whatever of it is in use."""
    slots: list[Slot]

    def __init__(
        self,
        model: Model,
        device: torch.device,
        levels: Sequence[Level],
        *,
        batch: int | None = None,
        compile: bool = False,  # noqa: A002  as torch calls it
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.device, self.levels, self.notify = device, tuple(levels), notify
        self.compiled, self.slots = False, []
        self._packer = Packer(model.network, levels)
        self._wanted, self._is_worth_compiling = batch, compile
        self._square = (model.config.image_size, model.config.image_size, 3)
        self._ends = list(accumulate(model.config.bits[level] // 8 for level in levels))
        self._stream = new_stream(device)
        self._portions = Portions(device)

    def prepare(self) -> None:
        """Choose the batch by the memory that a few images take, make the slots, and compile for just this batch.

        Images are probed before anything is compiled: the compiler takes each other shape for another network.

        Raises:
            HashgrainError: `bad-value` when there is no memory for one image.
        """
        torch.set_num_threads(1)  # the network's threads are the device's
        torch.get_device_module(self.device).set_device(self.device)
        self.batch = self._wanted or self._fitting()
        while not self._is_ready():
            if self.batch == 1:
                raise no_memory(self.device)
            self.batch //= 2
        torch.get_device_module(self.device).synchronize(self.device)

    def run(self, slot: Slot, count: int) -> None:
        """Let the device compute the codes of a slot's first `count` images when it is filled; returns at once.

        Raises:
            HashgrainError: `bad-value` when there is no memory for one image.
        """
        with on_stream(self.device, self._stream), torch.inference_mode():
            slot.filled.wait()
            if not (self.compiled and self._run_whole(slot)):
                self._portions.of(count, lambda part: self._run_part(slot, part))
            slot.done.record()

    def codes(self, slot: Slot, count: int) -> dict[Level, Codes]:
        """Wait for a slot and return a copy of the codes of its first `count` images by level, each uint8[count, nbits / 8]."""
        slot.done.synchronize()
        parts = np.split(slot.codes[:count].numpy(), self._ends[:-1], axis=1)
        return {level: part.copy() for level, part in zip(self.levels, parts, strict=True)}

    def _fitting(self) -> int:
        """Return the batch that fits the memory that is free, by what a small one takes, eagerly."""
        memory = torch.get_device_module(self.device)
        if not hasattr(memory, "mem_get_info"):
            return CPU_SLOT
        memory.reset_peak_memory_stats(self.device)
        before = memory.memory_allocated(self.device)
        images = torch.zeros((PROBE, *self._square), dtype=torch.uint8, device=self.device)
        with on_stream(self.device, self._stream), torch.inference_mode():
            self._portions.of(PROBE, lambda part: self._packer(images[part]))
        taken = memory.max_memory_allocated(self.device) - before
        free, _ = memory.mem_get_info(self.device)
        return batch_for(free, taken / PROBE + SLOTS * math.prod(self._square))

    def _is_ready(self) -> bool:
        """Make slots and compile; False where there is no memory for such a batch."""
        try:
            self.slots = [self._slot() for _ in range(SLOTS)]
            if self._is_worth_compiling:
                self._compile()
        except torch.OutOfMemoryError:
            self.slots = []
            return False
        return True

    def _slot(self) -> Slot:
        pinned = self.device.type == "cuda"
        return Slot(
            squares=torch.zeros((self.batch, *self._square), dtype=torch.uint8, device=self.device),
            staging=torch.zeros((self.batch, *self._square), dtype=torch.uint8, pin_memory=pinned),
            table=torch.zeros((self.batch, TABLE_COLUMNS), dtype=torch.int64, pin_memory=pinned),
            codes=torch.zeros((self.batch, self._ends[-1]), dtype=torch.uint8, pin_memory=pinned),
            filled=new_event(self.device),
            done=new_event(self.device),
        )

    def _compile(self) -> None:
        """Compile the network for whole slots, and run it once as it will be; or leave it as it is where that fails."""
        self.notify(f"{self.device}: compiling the network, which takes up to a minute")
        self._compiled: Run = torch.compile(self._packer, dynamic=False, fullgraph=True)
        try:
            with on_stream(self.device, self._stream), torch.inference_mode():
                self._compiled(self.slots[0].squares)
        except torch.OutOfMemoryError:
            raise
        except Exception as err:  # noqa: BLE001  whatever is missing or unsupported, it runs without, too
            self.notify(f"the network cannot be compiled here ({type(err).__name__}); it runs as it is, slower")
        else:
            self.compiled = True

    def _run_whole(self, slot: Slot) -> bool:
        """Run the compiled network; False where memory has become short, from when on it runs as it is, on parts of a slot."""
        try:
            slot.codes.copy_(self._compiled(slot.squares), non_blocking=True)
        except torch.OutOfMemoryError:
            self.compiled, self._portions.most = False, max(1, self.batch // 2)
            self.notify(
                f"{self.device}: memory has become short; the network runs as it is, in parts of a batch, slower"
            )
        return self.compiled

    def _run_part(self, slot: Slot, part: slice) -> None:
        slot.codes[part].copy_(self._packer(slot.squares[part]), non_blocking=True)
