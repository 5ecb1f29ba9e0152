"""Lanes of work: threads that take what waits, as many at once as fit together, and refuse what is too much.

Nothing waits for company: a thread takes what is there. Under load batches form by themselves.
"""

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

WATCH_AFTER: Final = 0.05
"""Seconds that a job may take before somebody watches whether its client is still there: most are answered by then."""

T = TypeVar("T")
R = TypeVar("R")


class OverloadedError(Exception):
    """A lane has as much waiting as it may have, or a job waited for too long.

    Args:
        lane: which.
        retry_after: seconds after which it is worth asking again.
    """

    def __init__(self, lane: str, retry_after: int = 1) -> None:
        super().__init__(f"{lane}: too much is waiting")
        self.lane, self.retry_after = lane, retry_after


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


@dataclass(slots=True, eq=False)
class Job(Generic[T, R]):
    """Something to do, and who waits for it."""

    work: T
    group: Hashable
    future: "asyncio.Future[R]"
    since: float
    """Of `time.perf_counter`."""
    waited: float = 0.0
    """Seconds until a thread took it."""
    abandoned: bool = False


class Observer(Protocol):
    """Who keeps count of what a lane does; called in its threads."""

    def took(self, lane: str, waited: Sequence[float]) -> None:
        """Jobs were taken together, after so many seconds of waiting each."""

    def dropped(self, lane: str, why: str) -> None:
        """A job was not done: `overloaded`, `overdue` or `abandoned`."""


Run = Callable[[Sequence[T]], Sequence[R | Exception]]


@dataclass(frozen=True, slots=True)
class LaneBounds:
    """How much a lane takes."""

    most_waiting: int
    """Jobs beyond which a further one is refused at once."""
    most_together: int = 1
    """Jobs that are done as one batch."""
    threads: int = 1
    patience: float = 5.0
    """Seconds after which a job that still waits is refused."""


@dataclass(slots=True)
class _Waiting(Generic[T, R]):
    """Jobs by group; groups take turns."""

    groups: "OrderedDict[Hashable, deque[Job[T, R]]]" = field(default_factory=OrderedDict)
    count: int = 0

    def add(self, job: Job[T, R]) -> None:
        group = self.groups.get(job.group)
        if group is None:
            group = self.groups[job.group] = deque()
        group.append(job)
        self.count += 1

    def take(self, most: int) -> list[Job[T, R]]:
        """Return the oldest jobs of the group whose turn it is."""
        name, jobs = self.groups.popitem(last=False)
        taken = [jobs.popleft() for _ in range(min(most, len(jobs)))]
        if jobs:
            self.groups[name] = jobs
        self.count -= len(taken)
        return taken

    def drop(self, job: Job[T, R]) -> bool:
        """Let go of a job; say whether it still waited."""
        if (jobs := self.groups.get(job.group)) is None or job not in jobs:
            return False
        jobs.remove(job)
        if not jobs:
            del self.groups[job.group]
        self.count -= 1
        return True


class Lane(Generic[T, R]):
    """Threads for one kind of work, with a bound on what waits.

    Args:
        name: of the lane.
        run: called in a thread with the work of jobs of one group; returns a result or an exception for each.
        bounds: how much at once.
        observer: who keeps count.
    """

    def __init__(
        self,
        name: str,
        run: Run[T, R],
        bounds: LaneBounds,
        observer: Observer,
    ) -> None:
        self.name, self._run, self._observer = name, run, observer
        self._bounds = bounds
        self._waiting = _Waiting[T, R]()
        self._condition = threading.Condition()
        self._calls = deque[tuple[Callable[[], None], Future[None]]]()
        self._idle, self._busy, self._closed = 0, 0, False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True)
            for number in range(bounds.threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return self._waiting.count

    async def submit(
        self, work: T, group: Hashable = None, gone: Callable[[], Awaitable[object]] | None = None
    ) -> tuple[R, float]:
        """Have something done.

        Args:
            work: what.
            group: jobs of equal groups may be done together.
            gone: awaited where the job takes long; returns once nobody waits for it any more.

        Returns:
            The result, and the seconds that the job waited.

        Raises:
            OverloadedError: too much waits already, or the job waited for too long.
            ClientGoneError: `gone` returned.
            Exception: what `run` returned for it.
        """
        if self._waiting.count >= self._bounds.most_waiting:
            self._observer.dropped(self.name, "overloaded")
            raise OverloadedError(self.name)
        loop = asyncio.get_running_loop()
        job: Job[T, R] = Job(work, group, loop.create_future(), time.perf_counter())
        with self._condition:
            self._waiting.add(job)
            if self._idle:
                self._condition.notify()
        watch = None if gone is None else loop.call_later(WATCH_AFTER, _watch, job, gone)
        try:
            return await job.future, job.waited
        except (asyncio.CancelledError, ClientGoneError):
            job.abandoned = True
            with self._condition:
                dropped = self._waiting.drop(job)  # now: it may hold a picture
            if dropped:
                self._observer.dropped(self.name, "abandoned")
            raise
        finally:
            if watch is not None:
                watch.cancel()

    def drain(self, timeout: float) -> bool:
        """Wait until nothing waits and nothing is under way; say whether that came within the time."""
        until = time.monotonic() + timeout
        with self._condition:
            while self._waiting.count or self._busy:
                if (left := until - time.monotonic()) <= 0:
                    return False
                self._condition.wait(min(left, 0.05))
        return True

    def within(self, function: Callable[[], None]) -> None:
        """Call something in a thread of the lane, and wait for it: libraries keep what they prepared by thread.

        Raises:
            Exception: what it raised.
        """
        done: Future[None] = Future()
        with self._condition:
            self._calls.append((function, done))
            self._condition.notify()
        done.result()

    def close(self) -> None:
        """End the threads once they have done what they are at."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _work(self) -> None:
        while (jobs := self._next()) is not None:
            try:
                if wanted := self._wanted(jobs):
                    self._do(wanted)
            finally:
                jobs, wanted = [], []  # while nothing else comes, the last picture would stay
                with self._condition:
                    self._busy -= 1

    def _next(self) -> list[Job[T, R]] | None:
        """Return what to do next; None: nothing any more."""
        while True:
            with self._condition:
                while not (self._waiting.count or self._calls):
                    if self._closed:
                        return None
                    self._idle += 1
                    self._condition.wait()
                    self._idle -= 1
                if not self._calls:
                    self._busy += 1
                    return self._waiting.take(self._bounds.most_together)
                function, done = self._calls.popleft()
            try:
                function()
            except BaseException as err:  # noqa: BLE001 - who waits for it gets it
                done.set_exception(err)
            else:
                done.set_result(None)

    def _wanted(self, jobs: Sequence[Job[T, R]]) -> list[Job[T, R]]:
        """Return the jobs that somebody still waits for; refuse those that waited for too long."""
        now = time.perf_counter()
        wanted, late = list[Job[T, R]](), list[tuple[Job[T, R], R | Exception]]()
        for job in jobs:
            job.waited = now - job.since
            if job.abandoned:
                self._observer.dropped(self.name, "abandoned")
            elif job.waited > self._bounds.patience:
                self._observer.dropped(self.name, "overdue")
                late.append((job, OverloadedError(self.name, 2)))
            else:
                wanted.append(job)
        if late:
            _resolve_soon(late)
        return wanted

    def _do(self, jobs: Sequence[Job[T, R]]) -> None:
        self._observer.took(self.name, [job.waited for job in jobs])
        try:
            results = self._run([job.work for job in jobs])
        except Exception as err:  # noqa: BLE001 - the thread's border: whoever waits gets it
            results = [err] * len(jobs)
        _resolve_soon(list(zip(jobs, results, strict=True)))


def _resolve_soon(results: "list[tuple[Job[T, R], R | Exception]]") -> None:
    """Hand results to the event loop, all at once: each wake-up of it costs as much as a small answer."""
    loop = results[0][0].future.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(_resolve, results)


def _resolve(results: "list[tuple[Job[T, R], R | Exception]]") -> None:
    for job, result in results:
        if job.future.done():
            continue
        if isinstance(result, Exception):
            job.future.set_exception(result)
        else:
            job.future.set_result(result)


def _watch(job: Job[T, R], gone: Callable[[], Awaitable[object]]) -> None:
    """Give a job up when its client goes away."""

    async def watch() -> None:
        await gone()
        job.abandoned = True
        if not job.future.done():
            job.future.set_exception(ClientGoneError())

    watching = asyncio.ensure_future(watch())
    job.future.add_done_callback(lambda _: watching.cancel())
