"""A process that gets no more handles says so in one line, never that a file is damaged."""

import os
import resource
from pathlib import Path

import pytest

from encoder.errors import HashgrainError, Reason
from indexer.index import Index
from indexer.query import ByKey
from indexer.verify import verify


@pytest.fixture
def handles():
    """Leave this process so many handles."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    there = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    yield lambda count: resource.setrlimit(resource.RLIMIT_NOFILE, (there + count, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def refusal(index_folder):
    try:
        index = Index(index_folder)
        index.query(ByKey("pic-001"), level="fine", where="label.fine = 1")
        verify(index_folder, lambda *_: None)
    except HashgrainError as err:
        return err.reason, str(err)  # without the frames that hold the index
    return None


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts handles as Linux lists them")
def test_without_handles_no_index_is_called_damaged(index_folder, handles):
    assert refusal(index_folder) is None  # and all is imported
    refusals = []
    for count in range(60):
        handles(count)
        refusals.append(refusal(index_folder))
    handles(200)
    assert not [each for each in refusals if each and each[0] is not Reason.NO_RESOURCES]
    assert {refused[0] for refused in refusals if refused} == {Reason.NO_RESOURCES}
    assert refusals[-1] is None
    assert not any("build" in said or "\n" in said for _, said in filter(None, refusals))
