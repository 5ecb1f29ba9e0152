"""A few of each campaign's faults, in a process of their own; `make faults` and `make faults-long` try more."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from encoder.errors import HashgrainError, Reason
from encoder.runtime import durable
from tests.faults.calls import preloaded
from tests.faults.operations import Operation, copy_of
from tests.faults.points import Tree, disorder, disturbed, tree_of
from tests.faults.steps import Fault, attempt

ROOT = Path(__file__).parents[2]
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


def campaign(module, *arguments):
    """Run one; return what it counted, after proof that nothing was wrong."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.faults.{module}", *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["bad"] == []
    return report["counts"]


def test_histories_with_faults_answer_as_fresh_builds():
    assert campaign("histories", "--count", 3, "--seed", 7)["histories"] == 3


@pytest.mark.parametrize("operation", ["add files", "compact", "code file"])
def test_an_operation_is_killed_or_fails_at_some_of_its_steps(operation):
    counts = campaign("points", "--kills", 1, "--errors", 1, "--only", operation)
    assert counts["operations"] == 1
    assert counts["killed"] == 3
    assert (
        min(counts["EIO"], counts["ENOSPC"]) >= 2
    )  # what is only cleared away may fail, and what removes needs no room


@needs_cc
def test_an_operation_meets_faults_at_some_of_its_system_calls():
    counts = campaign("calls", "--each", 4, "--only", "sync", "--seed", 1)
    assert counts["operations"] == 1
    assert counts["calls"] > 100
    assert sum(counts[ending] for ending in ("done", "refused", "killed") if ending in counts) == 4


@needs_cc
def test_processes_share_the_faults_of_an_operation_and_try_each_of_them():
    counts = campaign("calls", "--each", 0, "--only", "page", "--kinds", "killed", "--jobs", 2)
    assert counts["tried"] == counts["meant"] == counts["killed"] > 5


@needs_cc
def test_a_whole_command_meets_faults_from_its_first_import_on():
    counts = campaign("starts", "--each", 1)
    assert counts["few handles"] == counts["operations"] == 3
    assert counts["calls"] > 3000


WRITES = """
import ctypes, os, sys
folder, at, ending, error = sys.argv[1], *map(int, sys.argv[2:])
with open(folder + "/not-counted", "wb"):
    pass
notes = ctypes.create_string_buffer(1 << 16)
ctypes.CDLL(None).faults_arm(folder.encode(), ctypes.c_long(at), ending, error, notes, ctypes.c_long(1 << 15))
file = os.open(folder + "/file", os.O_WRONLY | os.O_CREAT)
for what in (lambda: os.write(file, b"four"), lambda: os.fsync(file), lambda: os.close(file), lambda: os.mkdir(folder + "/folder")):
    try:
        print(what())
    except OSError as err:
        print(err.errno)
"""


@needs_cc
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ((-1, 0, 5), ["4", "None", "None", "None"]),
        ((1, 0, 5), ["5", "None", "None", "None"]),
        ((3, 0, 5), ["4", "None", "5", "None"]),
        ((2, 1, 28), ["4", "28", "None", "28"]),
        ((1, 2, 0), ["2", "None", "None", "None"]),
        ((2, 3, 0), None),
    ],
)
def test_a_system_call_fails_for_once_or_from_then_on_or_does_half_or_is_the_last(tmp_path, fault, said):
    below = tmp_path / "below"
    below.mkdir()
    command = [sys.executable, "-c", WRITES, str(below), *map(str, fault)]
    done = subprocess.run(command, env=preloaded(tmp_path), capture_output=True, text=True, check=False)
    assert (done.stdout.split() if done.returncode == 0 else None) == said, done.stderr
    assert done.returncode in {0, -9}


def test_an_operation_without_room_handles_or_memory_is_refused():
    counts = campaign("limits", "--each", 1, "--only", "compact")
    assert counts["file size: refused"] == counts["handles: refused"] == counts["memory: refused"] == 1


def test_readers_are_never_disturbed():
    counts = campaign("readers", "--readers", 2, "--publishes", 5)
    assert counts["published"] >= 5
    assert counts["searches"] > 0


@pytest.mark.slow
def test_a_process_is_killed_at_any_time():
    assert campaign("kills", "--count", 60)["killed"] >= 60


def wrong(*steps):
    return disorder([(name, f"/i{path}") for name, path in steps], Path("/i"))


def test_an_order_that_a_power_cut_could_make_a_hole_of_is_seen():
    new, named = "/g.hashgrain.partial", "/g"
    whole = [
        ("mkdir", new), ("create", f"{new}/a"), ("write", f"{new}/a"), ("fsync", f"{new}/a"), ("sync-folder", new),
        ("rename", named), ("sync-folder", ""), ("pointer", ""),
    ]  # fmt: skip
    assert wrong(*whole) == []
    for missing, said in (
        (3, "/i/g.hashgrain.partial/a has its name"),
        (4, "partial has its name"),
        (6, "before the pointer"),
    ):
        assert any(said in line for line in wrong(*whole[:missing], *whole[missing + 1 :]))
    assert wrong(*whole[:3], whole[3], ("write", f"{new}/a"), *whole[4:])


pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def two_files(folder):
    for name in ("a", "b"):
        with durable.create(folder / name) as file:
            file.write(b"x")


def test_what_becomes_of_an_operation_is_told(tmp_path):
    def ending(name, fault=None):
        (tmp_path / name).mkdir()
        return attempt(lambda: two_files(tmp_path / name), fault)

    whole = ending("whole")
    assert (whole.how, [name for name, _ in whole.steps]) == (
        "done",
        ["create", "flush", "write", "fsync", "close"] * 2,
    )
    killed = ending("killed", Fault(5))
    assert (killed.how, len(killed.steps)) == ("killed", 6)
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["a"]
    failed = ending("failed", Fault(3, error=5))
    assert failed.how == "failed"
    assert "Input/output error" in failed.said


def test_a_refusal_is_told_from_what_should_not_be():
    def refuse():
        raise HashgrainError(Reason.BUSY, "wait")

    assert attempt(refuse).how == "refused"
    assert attempt(lambda: 1 // 0).how == "failed"
    assert attempt(lambda: os.kill(os.getpid(), 9)).how == "failed"


def an_operation(folder, do):
    (folder / "start").mkdir()
    return Operation(do, folder / "start", lambda path: sorted(each.name for each in path.iterdir()), ["a", "b"])


def test_a_folder_that_was_proven_is_not_proven_again(tmp_path):
    operation, proven = an_operation(tmp_path, two_files_or_refusal), dict[Tree, list[str]]()
    for _ in range(2):  # killed before the first step, so that nothing is there
        path = copy_of(operation, tmp_path)
        assert disturbed(operation, path, Fault(0), proven).how == "killed"
    assert proven == {tree_of(copy_of(operation, tmp_path)): []}
    assert list(path.iterdir()) == []  # the second time nothing was done once more


def two_files_or_refusal(folder):
    try:
        two_files(folder)
    except OSError as err:
        raise HashgrainError(Reason.WRITE_FAILED, "no") from err


def test_what_an_operation_leaves_that_is_neither_before_nor_after_is_seen(tmp_path):
    operation, proven = an_operation(tmp_path, two_files_or_refusal), dict[Tree, list[str]]()
    with pytest.raises(AssertionError):
        disturbed(operation, copy_of(operation, tmp_path), Fault(6), proven)  # the first file is there, not the second
    assert proven == {}


def test_a_copy_shares_its_files_but_for_locks_and_a_change_of_either_is_seen(tmp_path):
    operation = an_operation(tmp_path, two_files)
    (operation.start / "a").write_text("one")
    (operation.start / ".lock").write_text("")
    path = copy_of(operation, tmp_path)
    fresh = tree_of(path)
    assert [(path / name).stat().st_nlink for name in ("a", ".lock")] == [2, 1]
    (path / ".lock").write_text("held")
    assert tree_of(path) != fresh
    path = copy_of(operation, tmp_path)
    assert tree_of(path) == fresh
    (path / "a").write_text("in place")
    assert tree_of(path) != fresh
