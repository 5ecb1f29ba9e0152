import errno
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from encoder.runtime import durable
from encoder.runtime.durable import STEPS, create, link, make_folder, remove_file, remove_tree, rename, sync_folder


@pytest.fixture
def steps(monkeypatch):
    seen = []
    monkeypatch.setattr(durable, "on_step", lambda name, path: seen.append((name, path.name)))
    return seen


def test_every_call_is_a_step(tmp_path, steps):
    make_folder(tmp_path / "folder")
    with create(tmp_path / "folder/new") as file:
        file.write(b"1")
    link(tmp_path / "folder/new", tmp_path / "again")
    rename(tmp_path / "again", tmp_path / "named")
    sync_folder(tmp_path)
    remove_file(tmp_path / "named")
    remove_tree(tmp_path / "folder")
    assert [name for name, _ in steps] == [
        "mkdir", "create", "flush", "write", "fsync", "close", "link", "rename", "sync-folder", "unlink", "rmtree",
    ]  # fmt: skip
    assert {name for name, _ in steps} <= set(STEPS)


def test_a_file_is_made_where_nothing_is_and_through_no_link(tmp_path):
    (tmp_path / "there").write_bytes(b"old")
    (tmp_path / "link").symlink_to("elsewhere")
    for name in ("there", "link"):
        with pytest.raises(FileExistsError), create(tmp_path / name):
            pass
    assert (tmp_path / "there").read_bytes() == b"old"
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_written_anywhere_in_a_file_arrives(tmp_path):
    with create(tmp_path / "file") as file:
        file.write(bytes(10))
        file.write(b"x" * 5_000_000)
        file.seek(2)
        file.write(b"header")
    assert (tmp_path / "file").read_bytes() == b"\0\0header\0\0" + b"x" * 5_000_000


@pytest.mark.parametrize("name", ["write", "fsync", "close", "flush", "create"])
def test_a_step_that_fails_is_an_error(tmp_path, monkeypatch, name):
    def fail(at, _):
        if at == name:
            raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(durable, "on_step", fail)
    with pytest.raises(OSError, match="input/output error"), create(tmp_path / "file") as file:
        file.write(b"1")
    assert not [each for each in Path("/proc/self/fd").iterdir() if each.resolve() == tmp_path / "file"]


def test_a_write_that_takes_a_part_only_is_not_a_short_file(tmp_path):
    code = (
        "import sys, signal, resource\nfrom pathlib import Path\nfrom encoder.runtime.durable import create\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))\n"
        "with create(Path(sys.argv[1])) as file: file.write(bytes(5_000_000))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "file")], capture_output=True, text=True, check=False
    )
    assert "File too large" in run.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 3_000_000
