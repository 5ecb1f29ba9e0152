"""Threads that share work."""

import os
import threading

import pytest

from indexer.engines.scan.threads import Helpers, share

several_cores = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs cores to choose from"
)


@pytest.fixture
def helper():
    """The native id of a thread that waits."""
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    yield thread.native_id
    ended.set()
    thread.join()


def test_every_task_is_done_once():
    done = share(iter(range(100)), 2, list)
    assert sorted(task for tasks in done for task in tasks) == list(range(100))


@several_cores
def test_helpers_are_kept_off_the_core_of_the_caller(helper):
    cores, helpers = os.sched_getaffinity(0), Helpers()
    helpers.add(helper)
    helpers.keep_off()
    left = os.sched_getaffinity(helper)
    assert left < cores
    assert len(left) == len(cores) - 1


@several_cores
def test_helpers_keep_their_cores_where_the_caller_has_but_one(helper):
    cores, helpers = os.sched_getaffinity(0), Helpers()
    helpers.add(helper)
    os.sched_setaffinity(0, {min(cores)})
    try:
        helpers.keep_off()
    finally:
        os.sched_setaffinity(0, cores)
    assert os.sched_getaffinity(helper) == cores


@several_cores
def test_a_system_that_forbids_placing_threads_stops_nothing(helper, monkeypatch):
    def forbid(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", forbid)
    helpers = Helpers()
    helpers.add(helper)
    helpers.keep_off()
