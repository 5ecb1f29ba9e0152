"""Batches coded on a GPU: whoever waits for the device is a thread of its own, and nobody else waits.

    caller      draws batches from the shards, and takes finished ones
    hash        digests the shards' bytes
    workers     digest images, look for known codes, read headers; decode what the device does not
    decode      brings a batch's pictures into a slot on the device
    forward     lets the device compute
    collect     waits for codes, and hands the slot on

A batch goes from one thread to the next by a queue. Streams of a CPU do nothing, so all of it runs there, too.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from encoder.images.archives.hash_thread import Hasher, HashThread
from encoder.images.decoding.decode import RejectedImage, square_or_reject
from encoder.images.decoding.gpu_decode import GpuDecoder, Routed, route
from encoder.images.samples import Sample
from encoder.model.device import new_stream, on_stream
from encoder.model.gpu_forward import GpuForward, Slot
from encoder.runtime import freed_memory
from encoder.runtime.cores import worker_count
from encoder.runtime.interpreter import handed_on
from encoder.runtime.telemetry import Stage
from encoder.stream.batch import Batch, Uncoded
from encoder.stream.coding import Coding

AHEAD: Final = 8
"""Batches between reader and writer: three in slots, the others with the workers."""
AHEAD_BYTES: Final = 1 << 30
"""Of image files between reader and writer."""
CHUNK: Final = 8
"""Images that a worker decodes at a time."""

Square: TypeAlias = npt.NDArray[np.uint8] | RejectedImage


@dataclass(slots=True)
class _Prepared:
    """A batch whose images are known by their headers."""

    uncoded: Uncoded
    order: list[int]
    """Of `uncoded.images`, the number of the one in each row of a slot: those for the device first."""
    routed: Routed
    """By rows of a slot."""
    squares: list[Future[list[Square]]]
    """Of the others, `CHUNK` each."""

    @property
    def images(self) -> list[Sample]:
        """Return the images in the order of their rows."""
        return [self.uncoded.images[number] for number in self.order]


@dataclass(eq=False, slots=True)
class _Turn:
    """A batch on its way through the threads."""

    preparing: Future[_Prepared]
    nbytes: int
    slot: Slot | None = None
    done: Future[Batch] = field(default_factory=Future)


_Queue: TypeAlias = SimpleQueue[_Turn | None]


class GpuPipeline:
    """See `Pipeline`.

    Args:
        coding: by what and how.
        forward: the network on slots.
        decoder: fills them.
    """

    batch_bytes = 256 << 20
    views = True

    def __init__(self, coding: Coding, forward: GpuForward, decoder: GpuDecoder) -> None:
        self._forward, self._decoder, self._limits = forward, decoder, coding.settings.limits
        self._known, self._telemetry = coding.known, coding.telemetry
        self._hashing = HashThread(coding.telemetry)
        self._workers = ThreadPoolExecutor(coding.settings.workers or worker_count(), "batch")
        self._free: SimpleQueue[Slot] = SimpleQueue()
        self._to_decode, self._to_forward, self._to_collect = _Queue(), _Queue(), _Queue()
        self._ready: Future[None] = Future()
        self._threads: list[threading.Thread] = []
        self._contexts = ExitStack()
        self._stopping = False

    @property
    def batch(self) -> int:
        """Return the images of a batch."""
        return self._forward.batch

    @property
    def hasher(self) -> Callable[[], Hasher]:
        """Return what makes digests beside the reader."""
        return self._hashing.sha256

    def __enter__(self) -> Self:
        """Start the threads, the network's first, since memory decides on the batch.

        Raises:
            HashgrainError: `bad-value` when the device has no memory for one image.
        """
        self._start("forward", self._forward_all)
        self._ready.result()
        for slot in self._forward.slots:
            self._free.put(slot)
        self._start("decode", self._decode_all)
        self._start("collect", lambda: self._each(self._to_collect, self._collect, None))
        for context in (handed_on(), freed_memory.kept(AHEAD_BYTES), self._hashing):
            self._contexts.enter_context(context)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._to_decode.put(None)
        for thread in self._threads:
            thread.join()
        self._workers.shutdown()
        self._contexts.close()

    def coded(self, batches: Iterable[Batch], /) -> Iterator[Batch]:
        """See `Pipeline.coded`."""
        pending: deque[_Turn] = deque()
        for batch in batches:
            turn = _Turn(self._workers.submit(self._prepare, batch), _held(batch.images()))
            self._to_decode.put(turn)
            pending.append(turn)
            while pending and (_are_enough(pending) or pending[0].done.done()):
                yield pending.popleft().done.result()
        while pending:
            yield pending.popleft().done.result()

    def _prepare(self, batch: Batch) -> _Prepared:
        """Find out which way each image goes, and let workers decode those that the device does not."""
        with self._telemetry.span(Stage.DECODE):
            uncoded = Uncoded(batch, self._known)
            files = [image.content for image in uncoded.images]
            routed = route(files, self._limits, hardware=self._decoder.hardware)
        order = [*routed.rows, *routed.others]
        routed.rows = list(range(len(routed.rows)))
        others = [uncoded.images[number] for number in routed.others]
        return _Prepared(uncoded, order, routed, self._squares(others))

    def _squares(self, images: Sequence[Sample]) -> list[Future[list[Square]]]:
        return [
            self._workers.submit(self._decode_chunk, images[start : start + CHUNK])
            for start in range(0, len(images), CHUNK)
        ]

    def _decode_chunk(self, images: Sequence[Sample]) -> list[Square]:
        with self._telemetry.span(Stage.DECODE):
            return [square_or_reject(image.data, self._decoder.size, self._limits) for image in images]

    def _decode_all(self) -> None:
        with on_stream(self._forward.device, new_stream(self._forward.device)):
            self._each(self._to_decode, self._decode, self._to_forward)

    def _decode(self, turn: _Turn) -> None:
        """Bring the pictures of a batch into a slot."""
        prepared = turn.preparing.result()
        if not prepared.order:
            turn.done.set_result(prepared.uncoded.finish({}, self._forward.levels))
            return
        turn.slot = slot = self._free.get()
        images, first, rows = prepared.images, len(prepared.routed.rows), len(prepared.order)
        if first:
            with self._telemetry.span(Stage.NVJPEG):
                refused = self._decoder.decode_into(prepared.routed, slot.squares, slot.table)
            if refused:
                _stage(slot, refused, images, self._squares([images[row] for row in refused]))
            for row in refused:
                slot.squares[row].copy_(slot.staging[row], non_blocking=True)
        if first < rows:
            _stage(slot, range(first, rows), images, prepared.squares)
            slot.squares[first:rows].copy_(slot.staging[first:rows], non_blocking=True)
        slot.filled.record()
        prepared.uncoded.batch.ways = prepared.routed.ways
        self._to_forward.put(turn)

    def _forward_all(self) -> None:
        try:
            self._forward.prepare()
        except BaseException as err:  # noqa: BLE001  it is raised where the result is waited for
            self._ready.set_exception(err)
            return
        self._ready.set_result(None)
        self._each(self._to_forward, self._run, self._to_collect)

    def _run(self, turn: _Turn) -> None:
        self._forward.run(_slot_of(turn), len(turn.preparing.result().order))
        self._to_collect.put(turn)

    def _collect(self, turn: _Turn) -> None:
        """Wait for the codes of a batch and bring them into the order of its images."""
        prepared, slot = turn.preparing.result(), _slot_of(turn)
        with self._telemetry.span(Stage.FORWARD):
            by_row = self._forward.codes(slot, len(prepared.order))
        self._give_back(turn)
        rows = np.argsort(prepared.order)[[image.reject is None for image in prepared.uncoded.images]]
        codes = {level: of_level[rows] for level, of_level in by_row.items()}
        turn.done.set_result(prepared.uncoded.finish(codes, self._forward.levels))

    def _give_back(self, turn: _Turn) -> None:
        if turn.slot is not None:
            self._free.put(turn.slot)
            turn.slot = None

    def _start(self, name: str, work: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=work, name=name, daemon=True))
        self._threads[-1].start()

    def _each(self, turns: _Queue, work: Callable[[_Turn], None], following: _Queue | None) -> None:
        """Do a thread's work on each turn that comes; what goes wrong is raised where its batch is waited for."""
        while (turn := turns.get()) is not None:
            try:
                if self._stopping:
                    self._give_back(turn)
                else:
                    work(turn)
            except BaseException as err:  # noqa: BLE001  as above
                self._give_back(turn)
                turn.done.set_exception(err)
        if following is not None:
            following.put(None)


def _held(images: Sequence[Sample]) -> int:
    """Return the bytes that images hold in memory: a view holds the whole block in which it lies, as others in it do."""
    contents = [image.content for image in images]
    whole = (content.obj if isinstance(content, memoryview) else content for content in contents)
    return sum({id(each): memoryview(each).nbytes for each in whole}.values())


def _are_enough(pending: deque[_Turn]) -> bool:
    return len(pending) > AHEAD or sum(turn.nbytes for turn in pending) > AHEAD_BYTES


def _slot_of(turn: _Turn) -> Slot:
    assert turn.slot is not None  # noqa: S101  for the type checker: it has one from `_decode` to `_collect`
    return turn.slot


def _stage(slot: Slot, rows: Sequence[int], images: Sequence[Sample], squares: Sequence[Future[list[Square]]]) -> None:
    """Bring squares that workers made into pinned memory, or note why there is none."""
    staging = slot.staging.numpy()
    made = (square for chunk in squares for square in chunk.result())
    for row, square in zip(rows, made, strict=True):
        if isinstance(square, RejectedImage):
            images[row].rejected(square.reject, square.detail)
        else:
            staging[row] = square
