import itertools
import threading

import pytest

from indexer.service import metrics as module
from indexer.service.metrics import Metrics, open_files, resident_bytes


@pytest.fixture
def metrics(monkeypatch):
    monkeypatch.setattr(module, "FRESH", 0.0)
    return Metrics()


def value(metrics, line):
    return float(next(one for one in metrics.text().decode().splitlines() if one.startswith(line + " ")).split()[-1])


def test_what_threads_count_at_once_is_all_there(metrics):
    def count():
        for _ in range(500):
            metrics.answered("/v1/search", 200, 0.001)
            metrics.stage("search", "fine", 0.001, 0.002)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(metrics, 'hashgrain_requests_total{endpoint="/v1/search",status="200"}') == 2000
    assert value(metrics, 'hashgrain_request_seconds_count{endpoint="/v1/search"}') == 2000
    assert value(metrics, 'hashgrain_seconds_count{level="fine",stage="search"}') == 4000


def test_a_batch_counts_once_by_its_size(metrics):
    metrics.took("quick", [0.1] * 5)
    assert value(metrics, 'hashgrain_batch_size_sum{lane="quick"}') == 5
    assert value(metrics, 'hashgrain_batch_size_count{lane="quick"}') == 1
    metrics.dropped("quick", "overdue")
    assert value(metrics, 'hashgrain_dropped_total{lane="quick",why="overdue"}') == 1


def test_a_gauge_is_read_when_somebody_asks(metrics):
    rows = [3]
    metrics.watch({"hashgrain_rows": ("Rows.", lambda: rows[0])})
    assert value(metrics, "hashgrain_rows") == 3
    rows[0] = 4
    assert value(metrics, "hashgrain_rows") == 4


def test_two_services_of_one_process_count_apart():
    one, other = Metrics(), Metrics()
    one.swapped("swap")
    assert b'swaps_total{outcome="swap"} 1.0' in one.text()
    assert b'outcome="swap"' not in other.text()


def test_whoever_asks_all_the_time_gets_the_same_text(monkeypatch):
    monkeypatch.setattr(module, "FRESH", 60.0)
    metrics, read = Metrics(), itertools.count()
    metrics.watch({"hashgrain_rows": ("Rows.", lambda: next(read))})
    assert len({metrics.text() for _ in range(50)}) == 1
    assert next(read) == 1


def test_memory_and_handles_are_those_of_this_process(tmp_path):
    assert resident_bytes() > 10e6
    before = open_files()
    with (tmp_path / "file").open("w"):
        assert open_files() == before + 1
