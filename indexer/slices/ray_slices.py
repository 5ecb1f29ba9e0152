"""Slices of an index as deployments of Ray Serve: Ray places, replicates, watches and restarts the processes that hold them.

What is asked of a slice goes over a line of our own (`lines.py`): a call through a handle of Serve takes several times as long as
the search of a small slice (docs/LOG.md has the figures). Serve's handles tell which processes there are.
"""

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from encoder.errors import HashgrainError, Reason
from indexer.slices.holding import Holding, SliceSettings
from indexer.slices.line_fan import Replicas, Seen
from indexer.slices.lines import Address

NAME: Final = "slice"
LOOK_SECONDS: Final = 10.0
"""For the processes of a slice to say where they are."""
START_SECONDS: Final = 2.0
"""Between two looks at whether a process is well."""


@dataclass(frozen=True, slots=True)
class SlicePlan:
    """How an index is served in slices."""

    slices: int = 1
    replicas: int = 1
    """Processes that hold each slice."""
    partial: bool = False
    """Whether what the other slices found is an answer while one is down."""
    copy_to: str | None = None
    """Folder of a disk of each machine that the slices' files are copied to; None: they are mapped where they are."""
    cores: float | None = None
    """That each process books; None: an equal share of all that the cluster has."""
    address: str | None = None
    """Of the cluster, as `encoder.runtime.cluster.connected` takes it."""
    name: str = "hashgrain"
    """What the applications of Serve are called, before the number of the slice: those of this name are taken over."""

    def __post_init__(self) -> None:
        for name, value in (("slices", self.slices), ("replicas", self.replicas)):
            if value < 1:
                raise HashgrainError(Reason.BAD_VALUE, f"{name} is {value}; it must be at least 1")


class SliceReplica:
    """A process that holds a slice, as Ray Serve runs it.

    Args:
        settings: which slice of what.
    """

    def __init__(self, settings: SliceSettings) -> None:
        import ray

        self._holding = Holding(settings, ray.util.get_node_ip_address())

    def where(self) -> Address:
        """Return where it is asked."""
        return self._holding.address

    def check_health(self) -> None:
        """Raise when nobody can ask it any more: then Serve starts another one."""
        self._holding.check()

    def __del__(self) -> None:
        with suppress(AttributeError):  # it was never opened
            self._holding.close()


def deployments(plan: SlicePlan, base: SliceSettings, cores: float, memory: int) -> list[Any]:
    """Return the deployment of each slice, as Serve runs it."""
    from ray import serve

    return [
        serve.deployment(
            SliceReplica,
            name=f"{NAME}-{number}",
            num_replicas=plan.replicas,
            ray_actor_options={"num_cpus": cores, "memory": memory},
            health_check_period_s=START_SECONDS,
            health_check_timeout_s=10.0,
            graceful_shutdown_wait_loop_s=0.1,
            graceful_shutdown_timeout_s=5.0,
        ).bind(replace(base, number=number))
        for number in range(plan.slices)
    ]


@contextmanager
def started(ray: Any, plan: SlicePlan, base: SliceSettings, memory: int) -> Iterator[Replicas]:
    """Start a deployment per slice, wait until all are held, and yield who holds them; they end with the block.

    Args:
        ray: the module, joined to a cluster.
        plan: how.
        base: settings that all slices share.
        memory: bytes that the files of the largest slice take.

    Raises:
        HashgrainError: `slice-down` when Ray cannot start them.
    """
    from ray import serve

    cores = plan.cores or share_of(ray.cluster_resources().get("CPU", 1.0), plan.slices * plan.replicas)
    names = [f"{plan.name}-{number}" for number in range(plan.slices)]
    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # what it does is its own affair
    serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
    try:
        try:
            serve.run_many(
                [
                    serve.RunTarget(of, name=name, route_prefix=None, logging_config={"log_level": "ERROR"})
                    for of, name in zip(deployments(plan, base, cores, memory), names, strict=True)
                ]
            )
        except Exception as err:
            raise HashgrainError(
                Reason.SLICE_DOWN,
                f"Ray could not start the slices of {base.index} ({_short(err)}); look at what the cluster "
                "has left, and at the logs of its processes",
            ) from err
        handles = [serve.get_deployment_handle(f"{NAME}-{number}", name) for number, name in enumerate(names)]
        replicas = Replicas(plan.slices, looking(handles), base.secret)
        try:
            yield replicas
        finally:
            replicas.close()
    finally:
        for name in names:
            with suppress(Exception):  # the cluster may be gone
                serve.delete(name, _blocking=False)


def looking(handles: Sequence[Any]) -> Callable[[], list[Seen]]:
    """Return what finds out where the processes are that hold each slice, by the handle of its deployment."""
    from ray.serve.exceptions import DeploymentUnavailableError

    def look() -> list[Seen]:
        asked = [handle.broadcast("where") for handle in handles]
        found = list[Seen]()
        for one in asked:
            said: list[Any] = []
            try:
                said = one.results(timeout_s=LOOK_SECONDS, return_exceptions=True)
            except TimeoutError as err:
                said = [err]
            except DeploymentUnavailableError:  # none runs
                pass
            known = [Address(*each) for each in said if not isinstance(each, Exception)]
            found.append(Seen(known, len(known) == len(said)))
        return found

    return look


def new_secret() -> bytes:
    """Return what the processes of one run know, and nobody else."""
    return secrets.token_bytes(32)


def share_of(cores: float, processes: int) -> float:
    """Return the cores that each of some processes books: whole ones, where there is one for each."""
    share = cores / processes
    return float(int(share)) if share >= 1 else int(1000 * share) / 1000


def _short(err: Exception) -> str:
    lines = [line for line in str(err).splitlines() if line.strip()]
    return f"{type(err).__name__}: {lines[-1].strip() if lines else ''}"[:300]
