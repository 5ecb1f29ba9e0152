import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from encoder.errors import HashgrainError, Reason
from encoder.runtime.claims import CLAIM, claimed, refuse_claims


def claim_of_this_process(folder):
    with claimed(folder):
        [claim] = folder.glob(f"{CLAIM}*")
    return claim


def test_a_claim_ends_with_its_block(tmp_path):
    claim = claim_of_this_process(tmp_path)
    assert not claim.exists()
    with claimed(tmp_path):
        pass


def test_another_thread_is_refused(tmp_path):
    held, done = Event(), Event()

    def hold():
        with claimed(tmp_path):
            held.set()
            done.wait(30)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold)
        held.wait(30)
        with pytest.raises(HashgrainError) as caught, claimed(tmp_path):
            pass
        assert len(list(tmp_path.iterdir())) == 1
        done.set()
    assert caught.value.reason is Reason.BUSY


def test_a_claim_of_a_number_that_another_process_has_now_is_removed(tmp_path):
    claim = claim_of_this_process(tmp_path)
    pid, start, rest = claim.name.removeprefix(CLAIM).split(".", 2)
    stale = tmp_path / f"{CLAIM}{pid}.{int(start) - 1}.{rest}"
    stale.touch()
    refuse_claims(tmp_path)
    assert not stale.exists()


@pytest.mark.parametrize("name", ["{pid}.{start}.{other}.node7.lan", "x", "", "1.2"])
def test_a_claim_of_which_nothing_is_known_is_left_and_told(tmp_path, name):
    claim = claim_of_this_process(tmp_path)
    pid, start, machine, _ = claim.name.removeprefix(CLAIM).split(".", 3)
    strange = tmp_path / (CLAIM + name.format(pid=pid, start=start, other=machine[::-1]))
    strange.touch()
    for enter in (lambda: refuse_claims(tmp_path), lambda: claimed(tmp_path).__enter__()):
        with pytest.raises(HashgrainError, match="delete ") as caught:
            enter()
        assert caught.value.reason is Reason.BUSY
    assert list(tmp_path.iterdir()) == [strange]
    strange.unlink()  # what the message says
    with claimed(tmp_path):
        pass


def test_of_many_that_start_at_once_never_two_write(tmp_path):
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom encoder.errors import HashgrainError\n"
        "from encoder.runtime.claims import claimed\nfolder, wrote = Path(sys.argv[1]), 0\nsys.stdin.read()\n"
        "for _ in range(300):\n"
        "    try:\n        with claimed(folder):\n"
        "            os.close(os.open(folder / 'one', os.O_CREAT | os.O_EXCL))\n            os.unlink(folder / 'one')\n"
        "            wrote += 1\n"
        "    except HashgrainError: pass\n"
        "print(wrote)"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for run in runs:
        assert run.stdin
        run.stdin.close()
    counts = [int(run.stdout.read()) for run in runs if run.stdout and run.wait() == 0]
    for run in runs:
        assert run.stdout
        run.stdout.close()
    assert len(counts) == 4, "two wrote at once"
    assert sum(counts) > 0
    assert list(tmp_path.iterdir()) == []
