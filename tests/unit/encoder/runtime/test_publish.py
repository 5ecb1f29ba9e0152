import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from encoder.errors import HashgrainError, Reason
from encoder.runtime.publish import (
    PARTIAL,
    check_place,
    exclusive,
    in_use,
    make_folder,
    publish,
    remove_unused,
    write_bytes,
)

OTHER, GROUP = 65534, 54321
"""Somebody else, and the group in which they work with whoever runs the tests."""
as_somebody_else = pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as somebody else")


@pytest.mark.parametrize("name", ["file/page.html", f"{'x' * 250}.html", "null\0.html"])
def test_a_place_that_cannot_be_written_to_is_told(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(HashgrainError) as caught, publish(tmp_path / name) as partial:
        partial.write_text("page")
    assert caught.value.reason is Reason.WRITE_FAILED
    assert "free space" not in str(caught.value)


@pytest.mark.parametrize("name", ["pipe", "link"])
def test_a_device_or_a_pipe_stays_what_it_is(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for write in (lambda path: write_bytes(path, b"page"), check_place):
        with pytest.raises(
            HashgrainError, match=f"/{name} is a device or a pipe, which .*; choose another name$"
        ) as caught:
            write(tmp_path / name)
        assert caught.value.reason is Reason.WRITE_FAILED
    assert (tmp_path / name).is_fifo()


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 256, "null\0"])
def test_a_folder_that_cannot_be_made_is_told(tmp_path, name):
    (tmp_path / "file").touch()
    for make in (make_folder, lambda folder: exclusive(folder).__enter__()):
        with pytest.raises(HashgrainError, match="is not a folder that can be written to") as caught:
            make(tmp_path / name)
        assert caught.value.reason is Reason.WRITE_FAILED


def test_only_what_a_killed_run_left_is_swept(tmp_path):
    for name in ("movie.mkv.partial", f"a.h5{PARTIAL}"):
        (tmp_path / name).touch()
    (tmp_path / f"gen-000001{PARTIAL}").mkdir()
    with exclusive(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "movie.mkv.partial"]


def enter(folder, *, before="", user=0):
    """Hold a folder in another process, and say what came of it: `held`, or the error."""
    code = (
        f"{before}\nimport os, sys\nfrom pathlib import Path\nfrom encoder.errors import HashgrainError\n"
        "from encoder.runtime.publish import exclusive\n"
        f"if {user}: os.setgroups([{GROUP}]), os.setgid({user}), os.setuid({user})\n"
        "try:\n    with exclusive(Path(sys.argv[1])): print('held')\n"
        "except HashgrainError as err: print(err.reason, err)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.fixture
def shared_folder():
    """A folder where a group works, as such are set up: what is made in it is the group's."""
    folder = Path(tempfile.mkdtemp())
    os.chown(folder, 0, GROUP)
    folder.chmod(0o2775)
    yield folder
    shutil.rmtree(folder)


@as_somebody_else
def test_a_folder_of_a_group_is_locked_by_each_of_it(shared_folder):
    assert enter(shared_folder) == "held"
    assert stat.S_IMODE((shared_folder / ".lock").stat().st_mode) == 0o664
    assert enter(shared_folder, user=OTHER) == "held"
    with exclusive(shared_folder):
        assert enter(shared_folder, user=OTHER).startswith(f"busy process {os.getpid()} on ")


@as_somebody_else
def test_a_lock_file_that_may_only_be_read_locks(shared_folder):
    (shared_folder / ".lock").touch(0o644)
    (shared_folder / ".lock").chmod(0o644)
    assert enter(shared_folder, user=OTHER) == "held"
    with exclusive(shared_folder):
        assert enter(shared_folder, user=OTHER).startswith(f"busy process {os.getpid()} on ")


@as_somebody_else
def test_what_keeps_somebody_else_from_a_folder_is_named(shared_folder):
    (shared_folder / ".lock").touch()
    (shared_folder / ".lock").chmod(0o600)
    assert f"(Permission denied: {shared_folder}/.lock)" in enter(shared_folder, user=OTHER)
    (shared_folder / ".lock").chmod(0o644)
    left = shared_folder / f"gen-000001{PARTIAL}"
    left.mkdir(mode=0o755)
    (left / "manifest.json").touch()
    said = enter(shared_folder, user=OTHER)
    assert said.startswith(f"write-failed {shared_folder} is not a folder that can be written to (Permission denied: ")
    shutil.rmtree(left)
    shared_folder.chmod(0o755)
    assert enter(shared_folder, user=OTHER).startswith("write-failed")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_what_is_published_has_the_mode_of_any_new_file(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with publish(tmp_path / "file") as partial:
            partial.write_text("text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


NO_LOCKS = """
import errno, fcntl
def flock(descriptor, kind):
    raise OSError(errno.{}, "the disk knows no locks")
fcntl.flock = flock
"""
WORKS = "import time; from encoder.runtime.publish import *\nwith exclusive(Path('{}')):\n    print(flush=True)\n    time.sleep(60)"


@pytest.fixture
def writer(tmp_path):
    """A process that holds the folder on a disk without locks."""
    code = NO_LOCKS.format("ENOLCK") + WORKS.format(tmp_path)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.parametrize("code", ["ENOLCK", "ENOSYS", "EOPNOTSUPP", "EINVAL"])
def test_a_disk_without_locks_is_written_to_by_one_at_a_time(tmp_path, writer, code):
    assert enter(tmp_path, before=NO_LOCKS.format(code)).startswith(f"busy process {writer.pid} on ")
    assert enter(tmp_path).startswith(f"busy process {writer.pid} on ")  # where locks work for this one
    writer.kill()
    writer.wait()
    assert enter(tmp_path, before=NO_LOCKS.format(code)) == "held"
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_lock_that_is_held_counts_where_only_others_can_take_it(tmp_path):
    """NFS lets nobody take an exclusive lock through a file that they may only read."""
    read_only = "import errno, fcntl\ntrue = fcntl.flock\ndef flock(at, kind):\n    if kind & fcntl.LOCK_EX: raise OSError(errno.EBADF, '')\n    true(at, kind)\nfcntl.flock = flock"
    assert enter(tmp_path, before=read_only) == "held"
    with exclusive(tmp_path):
        assert enter(tmp_path, before=read_only).startswith(f"busy process {os.getpid()} on ")
    assert (tmp_path / ".lock").read_bytes() == b""


@pytest.mark.parametrize("said", [b"", b"process 1 on \x1b[2J", b"anything"])
def test_a_lock_that_does_not_name_its_owner_is_another_process_s(tmp_path, said):
    with (tmp_path / ".lock").open("wb") as lock:
        lock.write(said)
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert enter(tmp_path).startswith("busy another process is writing to")
    assert enter(tmp_path) == "held"


@pytest.mark.parametrize("locks", [True, False])
def test_work_that_is_done_is_not_undone_by_a_disk_that_fails_to_let_go(tmp_path, monkeypatch, locks):
    def refuse(descriptor, close=os.close):
        at = Path(f"/proc/self/fd/{descriptor}").readlink()
        close(descriptor)
        if at.name == ".lock":
            raise OSError(errno.EIO, "Input/output error")

    def refuse_claim(path, unlink=Path.unlink, **options):
        unlink(path, **options)
        raise OSError(errno.EIO, "Input/output error")

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    if not locks:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(os, "close", refuse)
    monkeypatch.setattr(Path, "unlink", refuse_claim)
    with exclusive(tmp_path):
        pass
    monkeypatch.undo()
    assert enter(tmp_path) == "held"


def test_nothing_is_removed_that_may_be_read(tmp_path, monkeypatch):
    for name in ("locks", "none"):
        (tmp_path / name / "part").mkdir(parents=True)
    with in_use(tmp_path / "locks"):
        remove_unused(tmp_path / "locks")
    assert (tmp_path / "locks/part").exists()
    remove_unused(tmp_path / "locks")
    assert not (tmp_path / "locks").exists()

    def flock(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with in_use(tmp_path / "none"):
        remove_unused(tmp_path / "none")
    remove_unused(tmp_path / "none")
    assert (tmp_path / "none/part").exists()
