"""Several devices on one machine: one process each, which takes the next shard when it has read the last.

Each process writes the code files of its shards itself, so that one that dies takes no finished shard along, and the same command
goes on where the run stopped.
"""

import ctypes
import signal
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final, cast

from encoder.codes.store import store_at, written_in
from encoder.errors import HashgrainError, Reason
from encoder.images.labels.table import Matched
from encoder.images.shards import Shard
from encoder.model.image_encoder import ImageEncoder
from encoder.model.model_file import Model, load_model
from encoder.runtime.telemetry import Interval, Stage, Telemetry
from encoder.stream.batch import BatchDone
from encoder.stream.coding import Coding
from encoder.stream.known import KnownCodes
from encoder.stream.pipeline import pipeline_for
from encoder.stream.settings import EncodeSettings
from encoder.stream.shard import Contents, ShardDone, bits_of, code_shards, labels_table

PR_SET_PDEATHSIG: Final = 1
"""Source: prctl(2)."""


@dataclass(frozen=True, slots=True)
class Work:
    """What the processes of a run have in common."""

    model: Path
    out: str
    """Folder or URL of the code files."""
    settings: EncodeSettings
    donors: tuple[str, ...]
    """Shards whose codes may be taken over from their code files."""
    compile: bool = False
    """Whether each process has so many images to come that compiling the network is worth its minute."""
    trace: bool = False
    aside: bool = False
    """Whether code files are written on each process's own disk and put to `out` when they are whole, also where it is a folder."""


@dataclass(frozen=True, slots=True)
class _Next:
    """A process wants another shard."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A process has a line for a person."""

    line: str


@dataclass(frozen=True, slots=True)
class _Failed:
    """A process met an error that a person can act on."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class _Told:
    """A process has no more to do: where its time went, and whose labels it found."""

    seconds: Counter[Stage]
    intervals: list[Interval]
    matched: Matched


def code_on(
    devices: Sequence[str], shards: Sequence[Shard], work: Work, telemetry: Telemetry, matched: Matched
) -> Generator[BatchDone | ShardDone | Notice]:
    """Code shards on several devices, as `shard.code_shards` does on one; they come in the order in which they are done.

    Args:
        devices: their names.
        shards: what to code.
        work: what the processes have in common.
        telemetry: where the time goes is written down here.
        matched: images with a row in a table of labels are counted here.

    Raises:
        HashgrainError: as `code_shards`; `process-died` when a process ends without a word.
    """
    context, left = get_context("spawn"), iter(shards)
    processes: dict[Connection, SpawnProcess] = {}
    try:
        for device in devices:
            ours, theirs = context.Pipe()
            own = replace(work, settings=replace(work.settings, device=device), trace=telemetry.trace)
            process = context.Process(target=_serve, args=(theirs, own), name=device, daemon=True)
            process.start()
            theirs.close()  # what is left of the pipe when the process dies is its end
            processes[ours] = process
        while processes:
            for ready in wait(list(processes)):
                ours = cast(Connection, ready)
                try:
                    said = ours.recv()
                except EOFError:
                    raise _died(processes[ours]) from None
                match said:
                    case _Next():
                        with suppress(BrokenPipeError):  # it died, and its end comes next
                            ours.send(next(left, None))
                    case _Failed():
                        raise HashgrainError(said.reason, said.message)
                    case _Told():
                        telemetry.merge(said.seconds, said.intervals)
                        matched.extend(said.matched)
                        processes.pop(ours).join()
                    case _:
                        yield said
    finally:
        for process in processes.values():
            process.kill()
            process.join()


def _serve(connection: Connection, work: Work) -> None:
    """Code the shards that the parent hands out, until there are none."""
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it, too, and says what is to be said

    def shards() -> Iterator[Shard]:
        while True:
            connection.send(_Next())
            if (shard := connection.recv()) is None:
                return
            yield shard

    def notify(line: str) -> None:
        connection.send(Notice(line))

    settings, telemetry = work.settings, Telemetry(trace=work.trace)
    try:
        table = labels_table(settings)
        for done in coded_by(work, load_model(work.model), shards(), telemetry, Contents(table=table), notify):
            connection.send(done)
    except HashgrainError as err:
        connection.send(_Failed(err.reason, str(err)))
    else:
        connection.send(_Told(telemetry.seconds, telemetry.intervals, table.matched if table else Matched()))


def coded_by(
    work: Work,
    model: Model,
    shards: Iterable[Shard],
    telemetry: Telemetry,
    contents: Contents,
    notify: Callable[[str], None],
) -> Generator[BatchDone | ShardDone]:
    """Put a model on the one device of `work` and return what codes shards there, as `shard.code_shards` does.

    Args:
        work: what is to be done.
        model: that of `work`, loaded.
        shards: what to code.
        telemetry: where the time goes is written down here.
        contents: of earlier images; those of this run are added.
        notify: called with a line for a person.
    """
    settings, store = work.settings, store_at(work.out)
    bits = bits_of(model.config, settings)
    encoder = ImageEncoder(model, settings.device, settings.precision)
    with store.local(work.donors) as donors:
        known = KnownCodes(donors, bits)
    coding = Coding(encoder, tuple(bits), settings, telemetry, known)
    pipeline = pipeline_for(coding, compile=work.compile, notify=notify)

    def coded() -> Generator[BatchDone | ShardDone]:
        with written_in(store, aside=work.aside) as (folder, elsewhere):
            yield from code_shards(coding, pipeline, shards, folder, contents, elsewhere)

    return coded()


def _end_with_parent() -> None:
    """Let the kernel end this process with its parent, which may be killed: a new run must not meet an old one's writer."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _died(process: SpawnProcess) -> HashgrainError:
    process.join()
    code = process.exitcode or 0
    how = f"was ended by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"ended with exit code {code}"
    return HashgrainError(
        Reason.PROCESS_DIED,
        f"the process of device {process.name} {how}, perhaps for want of memory; what is done is kept: run the same command "
        "again, with a smaller batch or fewer devices",
    )
