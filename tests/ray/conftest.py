import pytest

from tests.support.clusters import three_nodes


@pytest.fixture(scope="module")
def cluster():
    """Three nodes of one core each, which this process has joined."""
    with three_nodes() as nodes:
        yield nodes
