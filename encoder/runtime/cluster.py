"""Many machines: the Ray cluster that a run joins, or the one that it starts here. The owner of Ray's import and of its options."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from encoder.errors import HashgrainError, Reason
from encoder.runtime.cores import worker_count

OBJECT_STORE: Final = 256 << 20
"""Bytes of Ray's object store in a cluster that is started here: what crosses are counts, codes of queries and hits."""
_ENVIRONMENT: Final = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # `uv run` would send the working folder to every node
    "RAY_worker_niceness": "0",  # what is started here is as nice as the command
    "RAY_USAGE_STATS_ENABLED": "0",  # nobody is told what is run
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # an actor that asks for no GPU keeps the environment that it was given
}


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of a cluster."""

    id: str
    address: str
    cores: int
    """That it lends to Ray."""
    gpus: int


def load_ray() -> Any:  # a module without types of its own
    """Return the module `ray`.

    Raises:
        HashgrainError: `bad-value` when it is not installed.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as err:
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"the engine ray takes the package ray, which is not installed ({err}); pip install 'hashgrain[ray]', or in "
            "hashgrain's folder: pip install '.[ray]'",
        ) from err
    return ray


@contextmanager
def connected(address: str | None = None) -> Iterator[Any]:
    """Join a cluster for as long as the block runs, and yield the module `ray`; a process that has joined one stays in it.

    Args:
        address: of the cluster's head (`HOST:6379`, `auto`, `ray://HOST:10001`); None: that of `RAY_ADDRESS`, else a cluster
            of this machine alone is started, and ended with the block.

    Raises:
        HashgrainError: `bad-value` when Ray is not installed, or no cluster answers there.
    """
    ray = load_ray()
    if ray.is_initialized():
        yield ray
        return
    own = not (address or os.environ.get("RAY_ADDRESS"))
    options: dict[str, Any] = {"num_cpus": worker_count(), "object_store_memory": OBJECT_STORE} if own else {}
    try:
        ray.init(
            "local" if own else address,
            include_dashboard=False if own else None,
            logging_level="ERROR",
            log_to_driver=False,
            **options,
        )
    except Exception as err:  # whatever gRPC, sockets and Ray itself raise
        where = "on this machine" if own else f"at {address or os.environ['RAY_ADDRESS']}"
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"no Ray cluster {where}: {type(err).__name__}: {err}; give the address of one that runs, of the same versions "
            "of Ray and Python as here",
        ) from err
    try:
        yield ray
    finally:
        ray.shutdown()


def nodes_of(ray: Any) -> list[Node]:
    """Return the machines that are there now, in the order of their ids."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return sorted(
        (
            Node(
                node["NodeID"],
                node["NodeManagerAddress"],
                int(node["Resources"].get("CPU", 0)),
                int(node["Resources"].get("GPU", 0)),
            )
            for node in alive
        ),
        key=lambda node: node.id,
    )


def on_node(node: Node, *, or_another: bool = False) -> Any:
    """Return Ray's `scheduling_strategy` that places work on a machine."""
    load_ray()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node.id, soft=or_another)
