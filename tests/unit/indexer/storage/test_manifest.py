import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import indexer
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.storage.current import MANIFEST, read_current, write_pointer


@pytest.fixture
def built_index(tmp_path, index_folder):
    return Path(shutil.copytree(index_folder, tmp_path / "index"))


NOT_INDEXES = {
    "nowhere": "no index at {path}; build one of code files",
    "empty": "no index at {path}; build one of code files",
    "file": "{path} is a file, an index is a folder; give the folder",
    "file/below": "no index at {path}; build one of code files",
    "codes": "{path} holds code files, not an index; build one of them",
    "index/gen-000001": "{path} is a generation of an index; give the folder that it is in, {parent}",
    "index/gen-000001/manifest.json": "{path} is a file, an index is a folder; give the folder",
    "x" * 300: r"index {path} cannot be read (File name too long); give one that you may read",
    "null\0": r"index {path} cannot be read (embedded null byte); give one that you may read",
}


@pytest.mark.parametrize("name", NOT_INDEXES, ids=range(len(NOT_INDEXES)))
def test_what_is_not_an_index_is_told_with_what_it_is(tmp_path, index_folder, codes_folder, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "codes").symlink_to(codes_folder)
    (tmp_path / "index").symlink_to(index_folder)
    path = tmp_path / name
    with pytest.raises(HashgrainError) as caught:
        indexer.open(path)
    assert caught.value.reason is Reason.INDEX_MISSING
    assert str(caught.value) == NOT_INDEXES[name].format(path=path, parent=path.parent)


def test_a_generation_by_a_relative_path_names_its_index(index_folder, monkeypatch):
    monkeypatch.chdir(index_folder / "gen-000001")
    with pytest.raises(HashgrainError, match="give the folder that it is in, ") as caught:
        indexer.open(".")
    assert str(caught.value).endswith(str(index_folder))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as somebody else")
@pytest.mark.parametrize("name", ["CURRENT", "gen-000001/manifest.json", "gen-000001", "."])
def test_an_index_that_may_not_be_read_is_not_called_damaged(index_folder, name):
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "index")
        shutil.copytree(index_folder, copy)
        Path(folder).chmod(0o755)
        (copy / name).chmod(0o700)
        code = (
            "import os, sys\nfrom pathlib import Path\nfrom encoder.errors import HashgrainError\n"
            "from indexer.snapshot import Snapshot\nos.setgid(65534), os.setuid(65534)\n"
            "try: Snapshot(Path(sys.argv[1]))\nexcept HashgrainError as err: print(err.reason, err)"
        )
        run = subprocess.run([sys.executable, "-c", code, str(copy)], capture_output=True, text=True, check=False)
    assert run.stderr == ""
    assert run.stdout.startswith("index-missing index ")
    assert "cannot be read (Permission denied)" in run.stdout


def test_a_newer_index_is_not_called_damaged(built_index):
    folder, _ = read_current(built_index)
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(content | {"version": 5}))
    write_pointer(built_index, folder.name)
    with pytest.raises(
        HashgrainError, match="has format version 5, this program reads 4; upgrade hashgrain$"
    ) as caught:
        indexer.open(built_index)
    assert caught.value.reason is Reason.TOO_NEW


def test_a_file_of_an_index_is_no_link(built_index, tmp_path):
    folder, _ = read_current(built_index)
    for name in ("segment-000/places.npy", "segment-000", MANIFEST):
        (folder / name).rename(tmp_path / "elsewhere")
        (folder / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(HashgrainError) as caught:
            indexer.open(built_index)
        assert caught.value.reason is Reason.INDEX_DAMAGED
        (folder / name).unlink()
        (tmp_path / "elsewhere").rename(folder / name)
    assert indexer.open(built_index).ntotal == 60


@pytest.mark.parametrize("name", ["CURRENT", "gen-000001/manifest.json"])
def test_a_pipe_is_not_waited_for(built_index, name):
    (built_index / name).unlink()
    os.mkfifo(built_index / name)
    with pytest.raises(HashgrainError, match="not a regular file"):
        indexer.open(built_index)


def test_a_manifest_says_which_files_there_are(built_index):
    folder, manifest = read_current(built_index)
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert set(manifest.expected_files()) == found - {MANIFEST}
    assert (manifest.rows, manifest.live, manifest.kind, manifest.seed) == (60, 60, "auto", 0)


MEASURED = {"rows": 60, "sample": 60, "how": "another kind", "unrelated": [0.5] * 65, "precision": []}


@pytest.mark.parametrize(
    "bad",
    [
        {"rows": -1},
        {"sample": 1.5},
        {"how": "two\nlines"},
        {"how": 3},
        {"unrelated": [0.5] * 64},
        {"unrelated": [2] * 65},
        {"unrelated": None},
        {"precision": [1]},
    ],
)
def test_cut_offs_of_a_stranger_are_checked(built_index, bad):
    folder, _ = read_current(built_index)
    content = json.loads((folder / MANIFEST).read_text())

    def write(measured):
        content["segments"][0]["levels"]["fine"]["calibrated"] = measured
        (folder / MANIFEST).write_text(json.dumps(content))
        write_pointer(built_index, folder.name)

    write(MEASURED)
    read = indexer.open(built_index).manifest.segments[0].levels[Level.FINE].calibrated
    assert read is not None
    assert read.unrelated == (0.5,) * 65
    write(MEASURED | bad)
    with pytest.raises(HashgrainError) as caught:
        indexer.open(built_index)
    assert caught.value.reason is Reason.INDEX_DAMAGED


def test_a_manifest_that_says_nothing_of_cut_offs_is_read(built_index):
    folder, _ = read_current(built_index)
    content = json.loads((folder / MANIFEST).read_text())
    del content["segments"][0]["levels"]["fine"]["calibrated"]
    (folder / MANIFEST).write_text(json.dumps(content))
    write_pointer(built_index, folder.name)
    assert indexer.open(built_index).manifest.segments[0].levels[Level.FINE].calibrated is None
