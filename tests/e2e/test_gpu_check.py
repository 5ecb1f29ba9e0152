"""The GPU check as a whole: stages that end badly take nothing with them, and all of them run on a CPU as far as they go."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu_check import driver
from benchmarks.gpu_check.driver import DONE, RESULTS, run_stages
from benchmarks.gpu_check.stages import MOST_SECONDS, STAGES, Stage
from benchmarks.gpu_check.table import table_of

STARTED = 10
"""Seconds in which a stage has certainly started, on a busy machine, too."""


def stage(name, limit=120.0):
    return Stage(name, limit, f"tests.support.gpu_check_stages:{name}", "nothing")


def is_alive(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_stage_that_is_killed_keeps_its_lines_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "PATIENCE", 1)
    names = ("hangs", "breaks", "does_not_hold", "is_done")
    began = time.monotonic()
    outcomes = run_stages([stage("hangs", STARTED), *map(stage, names[1:])], tmp_path, "cpu", 0.02)
    assert time.monotonic() - began < 120
    hangs, breaks, does_not_hold, is_done = outcomes
    assert hangs.ended == f"killed at its limit of {STARTED} s"
    assert [each["value"] for each in hangs.results] == [1.5, "a | word"]
    assert not [pid for pid in (tmp_path / "pids").read_text().split() if is_alive(pid)]
    assert (breaks.ended, breaks.last) == ("failed (1)", "ValueError: no such thing")
    assert (does_not_hold.ended, does_not_hold.last) == ("failed (1)", "not held: pixels: 7 of 255")
    assert (is_done.ended, is_done.results[0]["value"]) == (DONE, 20)
    assert [each["results"] for each in json.loads((tmp_path / RESULTS).read_text())] == [
        each.results for each in outcomes
    ]
    lines = table_of(outcomes).splitlines()
    assert [line.split(":")[1].strip() for line in lines[-3:]] == list(names[:3])
    assert "| hangs | first | 1.5 images/s |" in lines
    assert "| does_not_hold | pixels | 7 of 255 **does not hold** |" in lines


def test_what_is_known_is_written_before_a_stage_ends(tmp_path, monkeypatch):
    seen = []
    keep = driver._keep

    def look(outcomes, folder):
        keep(outcomes, folder)
        seen.append([len(each["results"]) for each in json.loads((folder / RESULTS).read_text())])

    monkeypatch.setattr(driver, "_keep", look)
    run_stages([stage("breaks"), stage("is_done")], tmp_path, "cpu", 1.0)
    assert seen == [[1], [1], [1, 1], [1, 1]]
    assert run_stages([stage("is_done")], tmp_path, "cpu", 1.0)[0].stage == "breaks"  # of the run before


def test_all_stages_together_take_nine_minutes_at_most():
    assert sum(stage.limit for stage in STAGES) <= MOST_SECONDS


@pytest.mark.slow
def test_every_stage_runs_on_a_cpu_as_far_as_it_has_a_meaning_there(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--device", "cpu", "--scale", "0.02", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    table = (tmp_path / "gpu-check.md").read_text()
    assert (done.returncode, table.splitlines()[-1]) == (0, "every stage is done"), done.stdout[-5000:]
    assert {line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:-2]} == {
        stage.name for stage in STAGES
    }


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_pruned_faiss_is_small_and_searches_as_the_whole_one(tmp_path):
    pytest.importorskip("faiss._gpu_build", reason="faiss-gpu is not installed")
    out = tmp_path / "pruned"
    command = [sys.executable, "-m", "benchmarks.gpu_check.prune_faiss", out, "--arch"]
    assert subprocess.run([*command, "11"], capture_output=True, check=False).returncode
    shutil.rmtree(out)
    subprocess.run([*command, "90"], check=True)
    program = (
        "import faiss, numpy as np\nrng = np.random.default_rng(0)\nindex = faiss.IndexBinaryFlat(64)\n"
        "index.add(rng.integers(0, 256, (1000, 8), dtype=np.uint8))\nprint(faiss.__file__, faiss.StandardGpuResources)\n"
        "print(index.search(rng.integers(0, 256, (3, 8), dtype=np.uint8), 5))"
    )
    ours, theirs = (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env).stdout
        for env in ({"PYTHONPATH": str(out)}, {})
    )
    assert str(out) in ours
    assert ours.splitlines()[1:] == theirs.splitlines()[1:]
    library = (out / "faiss/libfaiss.so").read_bytes()
    assert len(library.replace(bytes(4096), b"")) < 70e6
