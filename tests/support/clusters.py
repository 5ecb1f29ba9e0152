"""Clusters of Ray with several nodes, all on this machine, and the processes that work there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from encoder.runtime.cluster import load_ray

ROOT = Path(__file__).parents[2]
STORE = 78 << 20
"""Bytes of a node's object store; Ray takes no less."""


@contextmanager
def three_nodes(cores: int = 1) -> Iterator[Any]:
    """Start a cluster of three nodes that this process has joined; its processes find the code where the tests do."""
    ray = load_ray()
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), before]))
    cluster = Cluster()
    try:
        for _ in range(3):
            add_node(cluster, cores)
        ray.init(cluster.address, logging_level="ERROR", log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def add_node(cluster: Any, cores: int = 1) -> Any:
    """Start one more node; Ray gives one half a minute, which may be too little on a busy machine."""
    for _ in range(4):
        try:
            return cluster.add_node(num_cpus=cores, object_store_memory=STORE, include_dashboard=False)
        except Exception as err:
            if "timed out during startup" not in str(err):
                raise
    raise TimeoutError("no node of Ray has started in two minutes")


def coders() -> list[int]:
    """Return the processes of this machine in which an actor codes shards."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdecimal() and (folder / "cmdline").read_bytes().startswith(b"ray::Coder"):
                found.append(int(folder.name))
    return found
