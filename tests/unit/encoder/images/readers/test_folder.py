import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from encoder.errors import Reject
from encoder.images.expand import expand
from encoder.images.readers import folder as folder_reader
from encoder.images.readers.formats import read_image, reader_for
from tests.support.pictures import encoded


@pytest.fixture(params=[1, 1000], ids=["ahead", "here"], autouse=True)
def ahead_from(request, monkeypatch):
    """Each folder is read ahead, and here."""
    monkeypatch.setattr(folder_reader, "AHEAD_FROM", request.param)


def reader_of(folder):
    [shard] = expand([str(folder)])
    return reader_for(shard)


def test_files_of_a_folder_with_sidecars_empty_and_unreadable_ones(tmp_path):
    folder = tmp_path / "set"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/a.jpg").write_bytes(encoded(0))
    (folder / "b.jpg").write_bytes(encoded(1))
    (folder / "b.cls").write_text("3")
    (folder / "gone.jpg").symlink_to("nowhere")
    os.mkfifo(folder / "fifo.jpg")
    (folder / "bad\udcff.jpg").write_bytes(encoded(2))
    reader = reader_of(folder)
    samples = list(reader)
    found = {sample.key: (sample.reject, sample.labels) for sample in samples}
    assert found == {
        "b.jpg": (None, {"cls": 3}),
        "bad\\xff.jpg": (None, {}),
        "fifo.jpg": (Reject.NOT_A_FILE, {}),
        "gone.jpg": (Reject.UNREADABLE, {}),
        "sub/a.jpg": (None, {"folder": "sub"}),
    }
    assert reader.seen == 5


def test_the_stamp_tells_changes_of_files_and_sidecars(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(1))
    reader = reader_of(tmp_path)
    before = reader.stamp()
    assert reader.stamp() == before
    (tmp_path / "a.jpg.JSON").write_text('{"fine": 1}')
    labelled = reader_of(tmp_path).stamp()
    assert labelled != before
    os.utime(tmp_path / "a.jpg", ns=(1, 1))
    assert reader.stamp() not in {before, labelled}


def test_the_size_is_that_of_the_images_that_are_there(tmp_path):
    (tmp_path / "a.jpg").write_bytes(bytes(70))
    (tmp_path / "b.jpg").write_bytes(bytes(7))
    (tmp_path / "b.json").write_text("{}")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    reader = reader_of(tmp_path)
    assert reader.nbytes() == 77
    list(reader)
    assert reader.size == 77


def test_an_image_is_read_back_by_its_name(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.jpg").write_bytes(encoded(1))
    reader = reader_of(tmp_path)
    [sample] = reader.images()
    assert read_image(reader.kind, reader.shard.path, sample.key, sample.offset, sample.size) == encoded(1)


def test_sidecars_are_found_as_people_name_them_and_a_bad_one_costs_the_labels(tmp_path):
    for name in ("a.jpg", "b.v2.jpg", "0001.left.jpg", "0001.right.jpg", "bad.jpg", "pipe.jpg"):
        (tmp_path / name).write_bytes(encoded(1))
    for name in ("a.jpg.json", "b.v2.JSON", "0001.json"):
        (tmp_path / name).write_text('\ufeff{"fine": 1}')
    (tmp_path / "bad.json").write_text("{")
    os.mkfifo(tmp_path / "pipe.json")
    reader = reader_of(tmp_path)
    labels = {sample.key: sample.labels for sample in reader}
    assert labels == {"bad.jpg": {}, "pipe.jpg": {}} | {
        name: {"fine": 1} for name in ("a.jpg", "b.v2.jpg", "0001.left.jpg", "0001.right.jpg")
    }
    assert [bad.name for bad in reader.bad_labels.first] == ["bad.json", "pipe.json"]


def test_each_level_of_a_tree_is_a_label(tmp_path):
    folder = tmp_path / "animals/cats"
    folder.mkdir(parents=True)
    (folder / "1.jpg").write_bytes(encoded(1))
    (folder / "1.json").write_text('{"folder": "own"}')
    [sample] = reader_of(tmp_path)
    assert sample.labels == {"folder": "own", "folder_1": "animals", "folder_2": "cats"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as somebody else")
def test_photos_in_a_folder_that_may_only_be_listed_are_rejects():
    code = """
import os, sys
from encoder.images.expand import expand
from encoder.images.readers.formats import reader_for
os.chdir(sys.argv[1])
reader_for(expand(["set/1.jpg"])[0])  # loads what somebody else may not read
os.setgid(65534), os.setuid(65534)
for specs in (["set"], ["set/*", "set/deep/*.jpg"]):
    for shard in expand(specs):
        reader = reader_for(shard)
        print([(sample.key, sample.reject) for sample in reader], reader.nbytes())
"""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "set/deep").mkdir(parents=True)
        for photo in ("1.jpg", "deep/2.jpg", "deep/unknown"):
            (folder / "set" / photo).write_bytes(b"123")
        (folder / "set/deep/2.json").write_text("{}")
        folder.chmod(0o755)
        (folder / "set/deep").chmod(0o744)
        done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "[('1.jpg', None), ('deep/2.jpg', <Reject.UNREADABLE: 'unreadable'>)] 3",
        "[('2.jpg', <Reject.UNREADABLE: 'unreadable'>)] 0",
        "[('set/1.jpg', None)] 3",
    ]


def test_an_image_named_by_its_whole_path_is_read_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(encoded(1))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for spec in (str(tmp_path / "a.jpg"), "../a.jpg"):
        [shard] = expand([spec])
        reader = reader_for(shard)
        [sample] = reader.images()
        assert (sample.data, sample.reject, reader.nbytes()) == (encoded(1), None, len(encoded(1)))
        assert read_image(reader.kind, shard.path, sample.key, 0, sample.size) == encoded(1)
