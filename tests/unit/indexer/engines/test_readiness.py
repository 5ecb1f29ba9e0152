"""Kernels come in the background, and neither a fork nor the end of the process gets caught in it."""

import gc
import os
import subprocess
import sys
import time

import pytest

from indexer.engines.kit import Kind, Kit
from indexer.engines.readiness import WORTH, Readiness

KIT = Kit(Kind.FLAT, 1)
SOON = 300
"""Seconds: the kernels may have to be compiled, on a busy machine."""
NOWHERE = "/dev/null/nowhere"


def wait_for(what, seconds=SOON):
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.01)


@pytest.fixture
def kept():
    """The kernels are on disk: only then is their loading what is measured."""
    from indexer.engines.scan.kits import compile_kit

    compile_kit(KIT)


def test_a_kit_comes_once_faiss_has_taken_what_it_is_worth():
    readiness = Readiness()
    readiness.spent(KIT, WORTH / 2)
    assert readiness._thread is None
    readiness.spent(KIT, WORTH / 2)
    wait_for(lambda: KIT in readiness)
    wait_for(lambda: readiness._thread is None)
    assert gc.isenabled()


def test_lists_bring_what_flat_codes_need():
    readiness = Readiness()
    readiness.spent(Kit(Kind.LISTS, 1), WORTH)
    wait_for(lambda: Kit(Kind.LISTS, 1) in readiness)
    assert KIT in readiness


def test_other_threads_have_the_interpreter_while_kernels_are_loaded(kept):
    readiness, gaps = Readiness(), []
    readiness.spent(KIT, WORTH)
    before = time.perf_counter()
    while KIT not in readiness:
        gaps.append((now := time.perf_counter()) - before)
        before = now
    assert len(gaps) > 1000


FORKS = """
import os, signal, sys, time
from indexer.engines.kit import Kind, Kit
from indexer.engines.readiness import READINESS
kit = Kit(Kind.FLAT, 1)
READINESS.spent(kit, 9)
time.sleep(float(sys.argv[1]))
child = os.fork()
signal.alarm(int(sys.argv[2]))  # a process that waits for a lost lock is ended
if child == 0:
    READINESS.spent(kit, 9)
while kit not in READINESS:
    time.sleep(0.01)
if child == 0:
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("after", [0, 0.02, 0.1, 0.3, 0.6])
def test_a_child_forked_meanwhile_loads_them_too(kept, after):
    command = [sys.executable, "-c", FORKS, str(after), str(SOON)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("after", [0, 0.1, 0.3, 1])
def test_a_process_may_end_meanwhile(kept, after):
    ends = "import time; from indexer.engines.readiness import *; READINESS.spent(Kit(Kind.FLAT, 1), 9); time.sleep({})"
    done = subprocess.run([sys.executable, "-c", ends.format(after)], capture_output=True, timeout=SOON, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_whatever_befalls_the_compiler_is_one_line_and_faiss_goes_on(monkeypatch, caplog):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    readiness, absent = Readiness(), Kit(Kind.FLAT, 128)  # codes of 8,192 bits: nobody keeps their kernels
    for kit in (absent, Kit(Kind.FLAT, 64)):
        readiness.spent(kit, WORTH)
        wait_for(lambda: readiness._thread is None)
    assert absent not in readiness
    assert [record.getMessage() for record in caplog.records] == [
        "FAISS goes on to answer, the scan's kernels could not be compiled: exit code 1"
    ]
