"""What a run knows of the cluster that it joins."""

import pytest

from encoder.runtime.cluster import connected, load_ray, nodes_of, on_node

pytestmark = pytest.mark.ray


def test_the_nodes_of_a_cluster_are_known_and_work_goes_where_it_is_sent(cluster):
    with connected() as ray:
        nodes = nodes_of(ray)
        assert [(node.cores, node.gpus) for node in nodes] == [(1, 0)] * 3
        where = ray.remote(lambda: ray.get_runtime_context().get_node_id())
        sent = [where.options(scheduling_strategy=on_node(node)).remote() for node in nodes]
        assert ray.get(sent) == [node.id for node in nodes]
    assert load_ray().is_initialized()  # who had joined before stays


def test_the_code_of_the_workers_is_that_of_the_tests(cluster):
    def file():
        import encoder

        return encoder.__file__

    with connected() as ray:
        assert ray.get(ray.remote(file).remote()) == file()
