"""Answers come first: work waits for a pause, and a process behind them is halted while they are under way."""

import subprocess
import sys
import time
from threading import Thread

import pytest

from indexer.engines.turns import LEAST_SHARE, LONG, PATIENCE, Turns

COUNTS = "import sys, time\nwhile True: print(time.perf_counter(), flush=True); time.sleep(0.001)"
"""Shows when it ran: the clock is one for all processes of a machine."""


def seconds_of(what) -> float:
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun


def test_work_goes_on_as_soon_as_an_answer_has_ended():
    turns, went_on = Turns(), list[float]()

    def work():
        turns.wait()
        went_on.append(time.perf_counter())

    with turns.answering():
        worker = Thread(target=work)
        worker.start()
        time.sleep(LONG / 4)
        answered = time.perf_counter()
    worker.join()
    assert went_on[0] >= answered


def test_work_is_not_stopped_for_good_by_answers_that_overlap():
    turns = Turns()
    with turns.answering():
        assert seconds_of(turns.wait) >= LONG / 2  # a long answer does not mind
        time.sleep(LONG)
        assert seconds_of(turns.wait) < LONG


def test_work_waits_when_an_answer_is_due():
    turns = Turns()
    for _ in range(30):
        with turns.answering():
            pass
        time.sleep(0.01)  # the second half of the usual pause has begun, and no answer comes to end it
    assert 0.002 < seconds_of(turns.wait) < PATIENCE + 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there a halted process ends with its parent")
def test_a_process_behind_answers_is_halted_but_not_for_good():
    turns = Turns()
    with subprocess.Popen([sys.executable, "-c", COUNTS], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with turns.behind(process):
            first = float(process.stdout.readline())
            time.sleep(0.5)
            with turns.answering():
                begun = time.perf_counter()
                time.sleep(0.2)
                ended = time.perf_counter()
            time.sleep(0.1)
            longest_halt = turns._halted
            while time.perf_counter() < ended + 2:  # answer upon answer
                with turns.answering():
                    time.sleep(0.01)
            over = time.perf_counter()
        process.kill()
        ran = [first, *map(float, process.stdout.read().split())]
    assert longest_halt >= 0.2
    assert sum(begun + 0.05 < at < ended for at in ran) == 0
    assert any(ended < at < ended + 0.1 for at in ran)
    slices = {int((at - ended) / 0.02) for at in ran if ended < at < over}
    assert len(slices) >= LEAST_SHARE * 0.5 * (over - ended) / 0.02
