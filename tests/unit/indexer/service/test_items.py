"""What can be told of a change before anything is written."""

import tarfile
from typing import Any

import pytest

from encoder.errors import HashgrainError, Reason
from encoder.runtime import durable
from encoder.runtime.publish import PARTIAL
from indexer.service.items import Change, check_key, checked_labels, new_shard, rounds, write_shard
from tests.support.pictures import encoded

HOLDER: Any = None
"""Nothing here asks for an index."""


def added(key, labels=b"", format_="JPEG"):
    return Change(HOLDER, key, encoded(1, format_), labels)


def removed(key):
    return Change(HOLDER, key)


def grouped(*changes):
    return [[change.key for change in these] for these in rounds(changes)]


def test_what_fits_together_stays_together_in_its_order():
    assert grouped(added("a"), removed("b"), added("c"), added("a2")) == [["a", "b", "c", "a2"]]
    assert grouped() == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([added("a"), added("a")], [["a"], ["a"]]),
        ([added("a"), removed("a"), added("b"), added("a")], [["a"], ["a", "b"], ["a"]]),
        ([added("a"), added("a.left")], [["a"], ["a.left"]]),
        ([added("a.left"), added("a")], [["a.left"], ["a"]]),
        ([added("a"), added("a.jpeg")], [["a"], ["a.jpeg"]]),
        ([added("img.1"), added("img.2"), added("img.3")], [["img.1", "img.2", "img.3"]]),
    ],
)
def test_a_key_or_a_name_of_labels_comes_once_per_tar(changes, expected):
    assert grouped(*changes) == expected


@pytest.mark.parametrize(
    ("format_", "member"), [("JPEG", "k.jpeg"), ("PNG", "k.png"), ("WEBP", "k.webp"), ("TIFF", "k.tiff")]
)
def test_a_member_is_called_by_what_its_bytes_are(format_, member):
    assert added("k", format_=format_).member == member


def test_a_shard_holds_each_image_before_its_labels(tmp_path):
    write_shard(tmp_path / "s.tar", [added("a/1.jpg", b'{"x": 1}'), added("b", format_="PNG")])
    with tarfile.open(tmp_path / "s.tar") as tar:
        assert tar.getnames() == ["a/1.jpg.jpeg", "a/1.jpg.json", "b.png"]
        picture = tar.extractfile("b.png")
        assert picture is not None
        assert picture.read() == encoded(1, "PNG")


def test_a_shard_that_the_disk_refuses_is_not_there(tmp_path, monkeypatch):
    def fail(name, _path):
        if name == "fsync":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "on_step", fail)
    with pytest.raises(HashgrainError) as caught:
        write_shard(tmp_path / "s.tar", [added("a")])
    assert caught.value.reason is Reason.WRITE_FAILED
    assert list(tmp_path.iterdir()) == []


def test_a_shard_has_a_number_that_none_has_and_what_a_killed_writer_left_goes(tmp_path):
    shards, codes = tmp_path / "shards", tmp_path / "codes"
    assert new_shard(shards, codes) == shards / "items-000001.tar"
    codes.mkdir()
    (codes / "items-000004.h5").touch()
    (shards / "items-000003.tar").touch()
    (shards / f"items-000009.tar{PARTIAL}").touch()
    assert new_shard(shards, codes) == shards / "items-000005.tar"
    assert [path.name for path in shards.iterdir()] == ["items-000003.tar"]


@pytest.mark.parametrize("key", ["", "/a", "./a", "../a", "a/../b", "a//b", "a/", ".a", "__MACOSX/a", "a\n", "k" * 513])
def test_keys_that_a_shard_would_not_give_back_are_refused(key):
    with pytest.raises(HashgrainError) as caught:
        check_key(key)
    assert caught.value.reason is Reason.BAD_VALUE


@pytest.mark.parametrize("key", ["a", "a/b.jpg", "x.json", "é?", "k" * 512])
def test_other_keys_are_taken(key):
    check_key(key)


def test_labels_are_a_json_object():
    assert checked_labels("") == b""
    assert checked_labels('{"a": 1, "b": "é"}') == '{"a": 1, "b": "é"}'.encode()
    for text in ("[]", "{", '"a"', "1"):
        with pytest.raises(HashgrainError) as caught:
            checked_labels(text)
        assert caught.value.reason is Reason.BAD_VALUE
