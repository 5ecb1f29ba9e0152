"""Devices of many machines: one actor of Ray for each, which takes the next shard when it has read the last.

Each actor writes code files on its own disk and puts them where all are, so that an actor or a machine that is lost costs the
shards it was at. They are handed to others, and what was counted of them is taken back.
"""

import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from encoder.codes.store import SCRATCH, store_at
from encoder.errors import HashgrainError, Reason
from encoder.images.labels.table import Matched
from encoder.images.shards import Shard
from encoder.model.model_file import load_model
from encoder.model.spec import MODEL_NAME, Precision
from encoder.runtime.cluster import Node, connected, nodes_of, on_node
from encoder.runtime.publish import sha256_of
from encoder.runtime.telemetry import Interval, Stage, Telemetry
from encoder.stream.batch import BatchDone
from encoder.stream.devices import Notice, Work, coded_by
from encoder.stream.settings import EncodeSettings
from encoder.stream.shard import Contents, ShardDone, labels_table

EVERY: Final = 0.5
"""Seconds that an actor gathers what it has done before it tells: a message takes a millisecond of either end."""
LOOK_EVERY: Final = 2.0
"""Seconds between two looks at which machines there are."""
PATIENCE: Final = 30.0
"""Seconds without any actor after which a person is told what is waited for."""
DEATHS: Final = 3
"""Actors that may die at a shard, and at a machine one after another without a shard done, before it is left alone."""


@dataclass(frozen=True, slots=True)
class _Next:
    """An actor wants another shard."""


@dataclass(frozen=True, slots=True)
class _Coded:
    """A shard has its code file; whose labels it found."""

    done: ShardDone
    matched: Matched


@dataclass(frozen=True, slots=True)
class _Said:
    """What an actor has done since it was asked last."""

    events: list[BatchDone | _Coded | Notice | _Next]
    seconds: Counter[Stage]
    intervals: list[Interval]
    failed: HashgrainError | None


class Coder:
    """An actor: codes shards in a thread of its own, while its one method is asked what came of it.

    Args:
        work: what the actors of a run have in common; its model is taken from where the code files are.
        fingerprint: of the model.
        node: address of the machine, for messages.
    """

    def __init__(self, work: Work, fingerprint: str, node: str) -> None:
        self._work, self._fingerprint, self._node = work, fingerprint, node
        self._given: SimpleQueue[Shard | None] = SimpleQueue()
        self._events: list[BatchDone | _Coded | Notice | _Next] = []
        self._telemetry = Telemetry(trace=work.trace)
        self._failed: HashgrainError | None = None
        self._urgent = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="shards", daemon=True).start()

    def step(self, shards: Sequence[Shard | None]) -> _Said:
        """Take shards, and return what was done: when another shard is wanted, and at least every `EVERY` seconds.

        Args:
            shards: to code, behind those that were given before; None: none comes soon, these are to be finished.
        """
        for shard in shards:
            self._given.put(shard)
        with self._changed:
            self._changed.wait_for(lambda: self._urgent, EVERY)
            events, self._events, self._urgent = _joined(self._events), [], False
            return _Said(events, *self._telemetry.take(), self._failed)

    def _run(self) -> None:
        try:
            self._code()
        except HashgrainError as err:
            self._failed = HashgrainError(err.reason, f"{err} (on machine {self._node})")
        except Exception as err:  # noqa: BLE001  what ends a process elsewhere ends a thread here, and has to be told
            self._failed = HashgrainError(Reason.PROCESS_DIED, f"coding on {self._node} ended by {err!r}")
        with self._changed:
            self._urgent = True
            self._changed.notify()

    def _code(self) -> None:
        work, store = self._work, store_at(self._work.out)
        table, before = labels_table(work.settings), Matched()
        with tempfile.TemporaryDirectory(prefix=SCRATCH) as scratch:
            model = store.get(MODEL_NAME, Path(scratch))
            if sha256_of(model) != self._fingerprint:
                raise HashgrainError(
                    Reason.MODEL_MISMATCH,
                    f"{work.out} has another model here than where the run was started; give a folder that all machines "
                    "share, or a URL",
                )
            own, shards = replace(work, model=model), self._shards()
            # a round each, until this process is ended; there is a second one only where a shard comes back
            while True:
                coding = coded_by(own, load_model(model), shards, self._telemetry, Contents(table=table), self._notify)
                for done in coding:
                    if isinstance(done, BatchDone):
                        self._say(done)
                    else:
                        now = replace(table.matched) if table else Matched()
                        self._say(_Coded(done, now.since(before)))
                        before = now
                shards = self._shards(self._wanted())

    def _shards(self, first: Shard | None = None) -> Iterator[Shard]:
        """Yield shards until those that were given are to be finished: the last one is done when none comes behind it."""
        shard = first or self._wanted()
        while shard is not None:
            yield shard
            shard = self._wanted()

    def _wanted(self) -> Shard | None:
        self._say(_Next(), urgent=True)
        return self._given.get()

    def _notify(self, line: str) -> None:
        self._say(Notice(line), urgent=True)

    def _say(self, event: BatchDone | _Coded | Notice | _Next, *, urgent: bool = False) -> None:
        with self._changed:
            self._events.append(event)
            if urgent:
                self._urgent = True
                self._changed.notify()


def _joined(events: list[BatchDone | _Coded | Notice | _Next]) -> list[BatchDone | _Coded | Notice | _Next]:
    """Add up batches of one shard that follow each other."""
    joined: list[BatchDone | _Coded | Notice | _Next] = []
    for event in events:
        if joined and isinstance(event, BatchDone) and isinstance(joined[-1], BatchDone):
            joined[-1] = joined[-1] + event
        else:
            joined.append(event)
    return joined


@dataclass(eq=False, slots=True)
class _Hand:
    """An actor, as the driver knows it."""

    actor: Any
    node: Node
    shards: list[Shard] = field(default_factory=list)
    """That it was given and has not done, in that order."""
    counted: BatchDone = field(default_factory=lambda: BatchDone(0, 0, 0, 0))
    """Of the first of them."""
    wants: bool = False
    """Whether it has asked for a shard and got none yet."""
    alone: bool = False
    """Whether it is at a shard at which another died: then it gets no other beside it."""
    heard: bool = False
    """Whether it has ever said something."""


class Cluster:
    """The devices that a run has.

    Args:
        ray: the module, joined to a cluster.
        settings: how to encode; `device` is `auto`, `cpu` or `cuda`, and `auto` the latter where any machine has a GPU.

    Raises:
        HashgrainError: `bad-value` for another device, or one that no machine has.
    """

    def __init__(self, ray: Any, settings: EncodeSettings) -> None:
        self._ray, self._settings = ray, settings
        nodes = nodes_of(ray)
        if settings.device not in {"auto", "cpu", "cuda"}:
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"device {settings.device!r} is one of this machine; on a cluster give auto, cpu or cuda",
            )
        has_gpu = any(node.gpus for node in nodes)
        if settings.device == "cuda" and not has_gpu:
            raise HashgrainError(
                Reason.BAD_VALUE, "no machine of the cluster has a GPU that it lends; give the device cpu"
            )
        self.device = "cuda" if has_gpu and settings.device != "cpu" else "cpu"
        self.devices = sum(map(self._seats, nodes))
        """That there are now."""
        self.threads = sum(self._seats(node) * self._cores(node) for node in nodes)

    def precision(self) -> Precision:
        """Return the arithmetic of all actors: what this machine would choose for a CPU, and a GPU's machine for a GPU."""
        from encoder.model.device import resolve_device, resolve_precision

        def resolved(precision: Precision, device: str) -> Precision:
            return resolve_precision(precision, resolve_device(device))

        wanted = self._settings.precision
        if wanted is not Precision.AUTO or self.device == "cpu":
            return resolved(wanted, "cpu")
        ray = self._ray
        return Precision(ray.get(ray.remote(resolved).options(num_gpus=1).remote(wanted, "cuda")))

    def code(
        self, shards: Sequence[Shard], work: Work, fingerprint: str, telemetry: Telemetry, matched: Matched
    ) -> Generator[BatchDone | ShardDone | Notice]:
        """Code shards as `devices.code_on` does; what was counted of a shard that is lost comes once more, negative.

        Args:
            shards: what to code.
            work: what the actors have in common; its settings' workers are chosen for each machine.
            fingerprint: of the model that lies with the code files.
            telemetry: where the time goes is written down here.
            matched: images with a row in a table of labels are counted here.

        Raises:
            HashgrainError: as `shard.code_shards`; `process-died` when actors die again and again.
        """
        run = _Run(self, deque(shards), replace(work, trace=telemetry.trace), fingerprint)
        try:
            for event in run.events(telemetry):
                if isinstance(event, _Coded):
                    matched.extend(event.matched)
                    yield event.done
                else:
                    yield event
        finally:
            run.end()

    def start(self, node: Node, work: Work, fingerprint: str) -> Any:
        """Start an actor on a machine."""
        gpus, cores = (1 if self.device == "cuda" else 0), self._cores(node)
        settings = replace(work.settings, device=self.device, workers=cores)
        options = {"num_cpus": cores, "num_gpus": gpus, "scheduling_strategy": on_node(node), "max_restarts": 0}
        actor = self._ray.remote(Coder).options(**options)
        return actor.remote(replace(work, settings=settings), fingerprint, node.address)

    def seats(self) -> Iterator[Node]:
        """Yield each machine that is there now as often as it has devices."""
        for node in nodes_of(self._ray):
            yield from [node] * self._seats(node)

    def _seats(self, node: Node) -> int:
        return node.gpus if self.device == "cuda" else min(1, node.cores)

    def _cores(self, node: Node) -> int:
        cores = max(1, node.cores // max(1, self._seats(node)))
        return min(self._settings.workers or cores, cores)

    def ready(self, references: Sequence[Any], seconds: float) -> list[Any]:
        """Return those that can be had now, after a wait for any."""
        done, _ = self._ray.wait(list(references), num_returns=len(references), timeout=0)
        return list(done or self._ray.wait(list(references), num_returns=1, timeout=seconds)[0])

    def said(self, reference: Any) -> _Said | None:
        """Return what an actor said; None where it or its machine is lost."""
        try:
            said: _Said = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError:
            raise  # a fault of this program
        except self._ray.exceptions.RayError:
            return None
        return said

    def kill(self, actor: Any) -> None:
        """End an actor at once."""
        with suppress(Exception):  # it is gone, or its machine, or the connection
            self._ray.kill(actor)


class _Run:
    """One job on a cluster: who has which shard, what is left, and what was lost how often."""

    def __init__(self, cluster: Cluster, left: deque[Shard], work: Work, fingerprint: str) -> None:
        self._cluster, self._left, self._work, self._fingerprint = cluster, left, work, fingerprint
        self._hands: list[_Hand] = []
        self._asked: dict[Any, _Hand] = {}
        self._deaths = Counter[str]()
        """By shard name; a machine that is lost takes its actors along."""
        self._vain = Counter[str]()
        """Deaths at a machine since it did a shard, by its id."""
        self._looked, self._started, self._told = 0.0, time.monotonic(), False

    def events(self, telemetry: Telemetry) -> Iterator[BatchDone | _Coded | Notice]:
        """Yield what is done until everything is."""
        while self._left or any(hand.shards for hand in self._hands):
            yield from self._man()
            self._hand_out()
            for reference in self._cluster.ready(list(self._asked), LOOK_EVERY) if self._asked else []:
                hand = self._asked.pop(reference)
                if (said := self._cluster.said(reference)) is None:
                    yield from self._lost(hand)
                    continue
                hand.heard = True
                telemetry.merge(said.seconds, said.intervals)
                for event in said.events:
                    yield from self._take(hand, event)
                if said.failed:
                    raise said.failed

    def end(self) -> None:
        """End all actors: what they have done is put where it stays, and what they have not, nobody needs."""
        for hand in self._hands:
            self._cluster.kill(hand.actor)

    def _man(self) -> Iterator[Notice]:
        """Start an actor for each device that has none, as long as there are shards for it."""
        if (now := time.monotonic()) - self._looked < LOOK_EVERY and self._hands:
            return
        self._looked = now
        taken = Counter(hand.node.id for hand in self._hands)
        seats = list(self._cluster.seats())
        for node in seats:
            if taken[node.id]:
                taken[node.id] -= 1
            elif self._vain[node.id] < DEATHS and self._idle() < len(self._left):
                actor = self._cluster.start(node, self._work, self._fingerprint)
                hand = _Hand(actor, node)
                self._hands.append(hand)
                self._asked[actor.step.remote([])] = hand
        if not self._hands and seats and all(self._vain[node.id] >= DEATHS for node in seats):
            raise HashgrainError(
                Reason.PROCESS_DIED,
                f"{DEATHS} workers one after another died on each machine of the cluster and did no shard, perhaps for want of "
                "memory; what is done is kept: run the same command again, with a smaller batch",
            )
        if not self._told and now - self._started > PATIENCE and not any(hand.heard for hand in self._hands):
            self._told = True
            yield Notice(f"waiting for the cluster: {len(seats)} devices there, none free yet")
        if not self._hands:
            time.sleep(EVERY)  # machines may come back

    def _idle(self) -> int:
        return sum(not hand.shards for hand in self._hands)

    def _hand_out(self) -> None:
        """Give a shard to each actor that wants one, and ask all but those that only wait for one what came of it."""
        asked = set(self._asked.values())
        for hand in self._hands:
            if hand not in asked and (hand.shards or self._left or not hand.wants):
                self._asked[hand.actor.step.remote(self._given(hand))] = hand

    def _given(self, hand: _Hand) -> list[Shard | None]:
        """Return what an actor gets now; one that coded a shard at which another died gets no other beside it."""
        if not hand.wants:
            return []
        hand.wants = False
        alone = bool(self._left) and self._deaths[self._left[0].name] > 0
        if not self._left or (hand.shards and (alone or hand.alone)):
            return [None]
        hand.alone = alone
        hand.shards.append(self._left.popleft())
        return [hand.shards[-1]]

    def _take(self, hand: _Hand, event: BatchDone | _Coded | Notice | _Next) -> Iterator[BatchDone | _Coded | Notice]:
        match event:
            case _Next():
                hand.wants = True
                return
            case BatchDone():
                hand.counted += event
            case _Coded():
                hand.shards = [shard for shard in hand.shards if shard.name != event.done.header.shard.name]
                hand.counted = BatchDone(0, 0, 0, 0)
                self._vain[hand.node.id] = 0
        yield event

    def _lost(self, hand: _Hand) -> Iterator[BatchDone | Notice]:
        """Take back what a lost actor had, to be handed out first.

        Raises:
            HashgrainError: `process-died` for a shard at which too many have died.
        """
        self._cluster.kill(hand.actor)  # it may be out of reach rather than dead
        self._hands.remove(hand)
        self._looked = 0.0
        self._vain[hand.node.id] += 1
        self._deaths.update(shard.name for shard in hand.shards)
        if hand.shards:
            yield -hand.counted
            at = ", ".join(shard.path for shard in hand.shards)
            yield Notice(f"a worker on {hand.node.address} was lost at {at}; another one goes on with it")
        for shard in hand.shards:
            if self._deaths[shard.name] >= DEATHS:
                raise HashgrainError(
                    Reason.PROCESS_DIED,
                    f"{DEATHS} workers died while they coded {shard.path}, perhaps for want of memory; what is done is kept: run "
                    "the same command again, with a smaller batch or without this shard",
                )
        self._left.extendleft(reversed(hand.shards))


@contextmanager
def joined(settings: EncodeSettings) -> Iterator[Cluster]:
    """Join the cluster of a run.

    Raises:
        HashgrainError: as `cluster.connected` and `Cluster`.
    """
    with connected(settings.address) as ray:
        yield Cluster(ray, settings)
