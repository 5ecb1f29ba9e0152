"""kill -9 at random moments: nothing looks finished that is not, and the next run ends where an undisturbed one does."""

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from encoder.codes.file import open_codes
from indexer.index import Index
from indexer.verify import verify
from tests.support.processes import start


def finish(*arguments):
    """Run to the end; return the seconds from when the process was there."""
    run = start(*arguments)
    started = time.monotonic()
    code, err = run.finish()
    assert code == 0, err
    return time.monotonic() - started


def contents(folder, pattern):
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob(pattern)) if path.is_file()
    }


def kill_within(seconds, *arguments):
    """Start, kill -9 after a random part of `seconds`, and return whether it was still running."""
    run = start(*arguments)
    time.sleep(random.uniform(0.3, 1.0) * seconds)
    run.process.kill()
    return run.finish()[0] == -signal.SIGKILL


@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
@pytest.mark.parametrize("kills", [2, pytest.param(15, marks=pytest.mark.slow)])
def test_killed_encode(command, kills, devices, shards_folder, model_path, tmp_path):
    random.seed(kills)
    arguments = (
        "encoder",
        "encode",
        shards_folder,
        "--model",
        model_path,
        "--batch",
        "4",
        "--devices",
        devices,
        "--out",
    )
    assert command(*arguments[:-3], "--out", tmp_path / "whole")[0] == 0
    expected = contents(tmp_path / "whole", "*.h5")
    seconds = finish(*arguments, tmp_path / "again")
    assert contents(tmp_path / "again", "*.h5") == expected
    assert len(expected) == 3
    killed = 0
    while killed < kills:
        codes = tmp_path / f"killed-{killed}"
        if not kill_within(seconds, *arguments, codes):
            continue
        killed += 1
        for path in codes.glob("*.h5"):
            with open_codes(path):  # what stands under a final name is whole
                pass
        finish(*arguments, codes)
        assert contents(codes, "*.h5") == expected
        assert not list(codes.glob("*.partial"))
        shutil.rmtree(codes)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_device_whose_process_dies_ends_the_run_in_one_line_and_keeps_what_is_done(
    command, shards_folder, model_path, tmp_path
):
    codes = tmp_path / "codes"
    one = ("encoder", "encode", shards_folder, "--model", model_path, "--batch", "1")
    run = start(*one, "--devices", "cpu,cpu", "--out", codes)
    while not (workers := workers_of(run.pid)):
        assert run.runs
        time.sleep(0.01)
    os.kill(workers[0], signal.SIGKILL)
    code, err = run.finish()
    assert code == 1
    assert "error: the process of device cpu was ended by signal 9 (Killed)" in err.splitlines()[-1]
    assert workers_of(run.pid) == []
    assert command(*one, "--out", codes)[0] == 0
    assert command(*one, "--out", tmp_path / "whole")[0] == 0
    assert contents(codes, "*.h5") == contents(tmp_path / "whole", "*.h5")


def workers_of(parent):
    """Return the processes that a run on several devices has started."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                line, status = (folder / "cmdline").read_bytes(), (folder / "stat").read_text()
            except OSError:
                continue
            if b"multiprocessing-fork" in line and status.rpartition(")")[2].split()[1] == str(parent):
                found.append(int(folder.name))
    return sorted(found)


@pytest.mark.parametrize("kills", [2, pytest.param(15, marks=pytest.mark.slow)])
def test_killed_build(kills, codes_folder, tmp_path):
    random.seed(kills)
    arguments = ("indexer", "build", codes_folder, "--kind", "ivf", "--nlist", "4", "--overwrite", "--out")
    seconds = finish(*arguments, tmp_path / "whole")
    expected = contents(tmp_path / "whole", "*.faiss") | contents(tmp_path / "whole", "*.npy")
    index, killed = tmp_path / "killed", 0
    while killed < kills:
        if not kill_within(seconds, *arguments, index):
            continue
        killed += 1
        if (index / "CURRENT").exists():
            # the generation before, or the new one: whole either way
            assert verify(index, lambda *_: None).ntotal == 60
        finish(*arguments, index)
        folder = verify(index, lambda *_: None).folder  # not the index itself: an open one holds its generation
        found = contents(folder, "*.faiss") | contents(folder, "*.npy")
        assert list(found.values()) == list(expected.values())
        assert [path.name for path in index.glob("gen-*")] == [folder.name]
        assert Index(index).ntotal == 60


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_asked_to_stop_says_so_and_leaves_nothing_half_done(
    number, code, shards_folder, model_path, tmp_path
):
    arguments = (
        "encoder",
        "encode",
        shards_folder,
        "--model",
        model_path,
        "--batch",
        "1",
        "--workers",
        "1",
        "--out",
        tmp_path,
    )
    run = start(*arguments)
    while not (tmp_path / "model.safetensors").exists():
        assert run.runs
        time.sleep(0.02)
    os.kill(run.pid, number)
    run.process.join(60)
    assert not run.runs
    ended, err = run.finish()
    assert ended == code, err
    assert "run the same command again to go on" in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("*.partial"))
    finish(*arguments)
    assert len(list(tmp_path.glob("*.h5"))) == 3
