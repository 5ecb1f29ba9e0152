"""A cluster of several nodes, all on this machine, for the tests of a module."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from encoder.runtime.cluster import load_ray

ROOT = Path(__file__).parents[2]
STORE = 78 << 20
"""Bytes of a node's object store; Ray takes no less."""


@contextmanager
def three_nodes(cores: int = 1) -> Iterator:
    """Start a cluster of three nodes that this process has joined; its processes find the code where the tests do."""
    ray = load_ray()
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), before]))
    cluster = Cluster()
    try:
        for _ in range(3):
            cluster.add_node(num_cpus=cores, object_store_memory=STORE, include_dashboard=False)
        ray.init(cluster.address, logging_level="ERROR", log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@pytest.fixture(scope="module")
def cluster():
    """Three nodes of one core each, which this process has joined."""
    with three_nodes() as nodes:
        yield nodes
