import os
import subprocess
from collections.abc import Generator

import pytest

from encoder.images.readers.read_ahead import BLOCK, SMALL, read_ahead
from encoder.images.readers.read_whole import NotAFileError


@pytest.fixture
def files(tmp_path):
    """Paths of more files than two blocks, and their contents."""
    contents = [f"file {n}".encode() * (n % 7) for n in range(3 * BLOCK + 5)]
    for n, content in enumerate(contents):
        (tmp_path / str(n)).write_bytes(content)
    return [str(tmp_path / str(n)) for n in range(len(contents))], contents


def test_files_come_in_order_and_once(files):
    paths, contents = files
    assert list(read_ahead(paths)) == contents
    assert list(read_ahead([])) == []


def test_what_is_not_a_small_file_is_told_apart(tmp_path):
    (tmp_path / "small").write_bytes(bytes(SMALL))
    (tmp_path / "large").write_bytes(bytes(SMALL + 1))
    (tmp_path / "odd\udcff\n").write_bytes(b"odd")
    os.mkfifo(tmp_path / "fifo")
    names = ("small", "large", "odd\udcff\n", "fifo", ".", "gone", "sm\0all", "small")
    small, large, odd, fifo, folder, gone, null, last = read_ahead(str(tmp_path / name) for name in names)
    assert small == last == bytes(SMALL)
    assert large is None
    assert odd == b"odd"
    assert isinstance(fifo, NotAFileError)
    assert isinstance(folder, NotAFileError)
    assert isinstance(gone, FileNotFoundError)
    assert isinstance(null, FileNotFoundError)


def test_where_files_are_mostly_large_it_ends(tmp_path, files):
    large = tmp_path / "large"
    large.write_bytes(bytes(SMALL + 1))
    paths, _ = files
    found = read_ahead([*[str(large)] * 2 * BLOCK, *paths])
    assert list(found) == [None] * (2 * BLOCK + len(paths))


@pytest.mark.parametrize("after", [0, 1, BLOCK, 2 * BLOCK + 1])
def test_where_the_process_ends_the_rest_is_left_to_who_asked(files, monkeypatch, after):
    paths, contents = files
    processes = []

    class Kept(subprocess.Popen[bytes]):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Kept)
    found = []
    for at, each in enumerate(read_ahead(paths)):
        if at == after:
            processes[0].kill()
            processes[0].wait()
        found.append(each)
    assert len(found) == len(paths)
    assert all(each in {content, None} for each, content in zip(found, contents, strict=True))
    assert found[: after + 1] == contents[: after + 1]
    assert found[-1] is None or after >= BLOCK  # then the last block had been asked for, and may have been answered


def test_where_no_process_can_be_started_nothing_is_read_ahead(files, monkeypatch):
    def refused(*_args, **_options):
        raise BlockingIOError

    monkeypatch.setattr(subprocess, "Popen", refused)
    assert list(read_ahead(files[0])) == [None] * len(files[0])


def test_one_that_is_not_read_to_its_end_leaves_no_process(files, monkeypatch):
    processes = []

    class Kept(subprocess.Popen[bytes]):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Kept)
    found = read_ahead(files[0])
    assert next(found) == files[1][0]
    assert isinstance(found, Generator)
    found.close()
    assert processes[0].returncode is not None
