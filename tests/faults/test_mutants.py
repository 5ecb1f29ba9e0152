"""A few hundred harmed files in all, two at a time with other tests; `python -m tests.faults.mutants` tries as many as one likes."""

import json
import os
import subprocess
import sys

import pytest

from tests.faults.mutants import Mutant, Report, judge, run

FLIPS, CUTS = 40, 20


@pytest.mark.parametrize("seed", [0])
def test_no_harmed_file_is_believed_or_ends_a_process(seed):
    command = [
        sys.executable,
        "-m",
        "tests.faults.mutants",
        "--flips",
        str(FLIPS),
        "--cuts",
        str(CUTS),
        "--seed",
        str(seed),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["bad"] == []
    assert sum(report["tried"].values()) == FLIPS + CUTS == report["refused"] + report["legal"] + report["unnoticed"]


def judged(done, *, sealed):
    report = Report()
    whole = {"verify": ["answer", "1"], "fine": ["answer", "a"], "seconds": 0.1, "kilobytes": 1000}
    judge(report, Mutant("flat", "a", "flip", 1, sealed), {"seconds": 0.1, "kilobytes": 1000} | done, whole)
    return [each["bad"] for each in report.bad]


def test_what_should_not_be_is_reported():
    error, right, wrong = ["error", "x"], ["answer", "a"], ["answer", "b"]
    assert judged({"verify": error, "fine": right}, sealed=False) == []
    assert judged({"verify": error, "fine": wrong}, sealed=False) == ["wrong answer"]
    assert judged({"verify": ["answer", "1"], "fine": right}, sealed=False) == ["not noticed"]
    assert judged({"verify": ["answer", "1"], "fine": wrong}, sealed=True) == []
    assert judged({"verify": error, "fine": ["traceback", "IndexError"]}, sealed=True) == ["traceback in fine"]
    assert judged({"verify": error, "seconds": 3}, sealed=True) == ["slow"]
    assert judged({"verify": error, "kilobytes": 300_000}, sealed=True) == ["large"]
    assert judged({"signal": 11}, sealed=True) == ["signal"]


def test_a_process_that_dies_or_hangs_is_seen(tmp_path, monkeypatch):
    assert run({"a": lambda path: path.name}, tmp_path)["a"] == ["answer", repr(tmp_path.name)]
    assert run({"a": lambda _: os.kill(os.getpid(), 9)}, tmp_path)["signal"] == 9
    assert run({"a": lambda _: 1 // 0}, tmp_path)["a"][0] == "traceback"
    monkeypatch.setattr("tests.faults.mutants.MOST_SECONDS", 1)
    assert run({"a": lambda _: __import__("time").sleep(60)}, tmp_path)["signal"] == 14
