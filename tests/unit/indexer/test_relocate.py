import json
import shutil

import pytest

import indexer
from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.images.expand import expand
from encoder.images.limits import Limits
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings
from indexer.build import build
from indexer.relocate import Move, relocate
from indexer.settings import BuildSettings
from indexer.verify import verify
from tests.support.pictures import encoded, labelled_members, write_tar


@pytest.fixture
def collection(model_path, tmp_path):
    """Photos, a tar, their codes and their index, all in one folder."""
    place = tmp_path / "here"
    (place / "photos").mkdir(parents=True)
    for number in range(4):
        (place / f"photos/{number}.jpg").write_bytes(encoded(number))
    write_tar(place / "some.tar", labelled_members(10, 4))
    shards = expand([str(place / "photos"), str(place / "some.tar")])
    limits = Limits(max_bytes=1 << 30, max_pixels=200_000_000)
    encode(shards, model_path, place / "codes", EncodeSettings(limits=limits))
    build(list_code_files([place / "codes"]), place / "index", BuildSettings())
    return place


def pictures_of(path):
    index = indexer.open(path)
    return [index.image(row) for row in range(index.ntotal)]


def test_an_index_that_moves_together_with_its_shards_finds_them(collection):
    before = pictures_of(collection / "index")
    there = collection.rename(collection.with_name("there"))
    assert pictures_of(there / "index") == before


def test_an_index_that_moved_with_its_shards_finds_them_through_a_link(collection, tmp_path):
    before = pictures_of(collection / "index")
    there = collection.rename(collection.with_name("there"))
    (tmp_path / "links/deep").mkdir(parents=True)
    (tmp_path / "links/deep/current").symlink_to(there / "index")
    assert pictures_of(tmp_path / "links/deep/current") == before


def test_codes_that_move_together_with_their_shards_build_an_index_that_finds_them(collection):
    before = pictures_of(collection / "index")
    there = collection.rename(collection.with_name("there"))
    build(list_code_files([there / "codes"]), there.parent / "elsewhere/index", BuildSettings())
    assert pictures_of(there.parent / "elsewhere/index") == before


def test_an_index_that_moves_alone_still_finds_its_shards(collection, tmp_path):
    before = pictures_of(collection / "index")
    shutil.move(collection / "index", tmp_path / "elsewhere/deep/index")
    assert pictures_of(tmp_path / "elsewhere/deep/index") == before


def test_shards_that_moved_alone_are_found_where_they_are_said_to_be(collection, tmp_path):
    index = collection / "index"
    before = pictures_of(index)
    (tmp_path / "new/deep").mkdir(parents=True)
    shutil.move(collection / "photos", tmp_path / "new/deep/photos")
    with pytest.raises(HashgrainError) as caught:
        pictures_of(index)
    assert caught.value.reason is Reason.SHARD_MISSING
    report = relocate(index, [Move.parse(f"{collection}/photos={tmp_path}/new/deep/photos")])
    assert (report.moved, report.missing) == (1, ())
    assert pictures_of(index) == before
    verify(index, lambda *_: None)


def test_a_hit_whose_picture_is_gone_is_still_a_hit(collection):
    (collection / "photos/1.jpg").unlink()
    index = indexer.open(collection / "index")
    [hit] = index.query(indexer.ByKey("1.jpg"), k=1)
    assert hit.key == "1.jpg"
    with pytest.raises(HashgrainError, match=r"photos/1\.jpg"):
        hit.image()


def test_a_move_that_fits_no_shard_changes_nothing(collection):
    pointer = (collection / "index/CURRENT").read_bytes()
    for old in (f"{collection}/pho", f"{collection}/photos/0.jpg", "/nowhere"):
        with pytest.raises(HashgrainError, match="no shard of .* lies at or below") as caught:
            relocate(collection / "index", [Move.parse(f"{old}=/new")])
        assert caught.value.reason is Reason.BAD_VALUE
    assert (collection / "index/CURRENT").read_bytes() == pointer


def test_no_index_is_no_folder(tmp_path):
    with pytest.raises(HashgrainError) as caught:
        relocate(tmp_path / "none", [Move.parse("/a=/b")])
    assert caught.value.reason is Reason.INDEX_MISSING
    assert not (tmp_path / "none").exists()


def test_a_place_that_is_not_there_is_told(collection):
    report = relocate(collection / "index", [Move.parse(f"{collection}=/nowhere")])
    assert (report.moved, report.missing) == (2, ("/nowhere/photos", "/nowhere/some.tar"))


@pytest.mark.parametrize(
    ("move", "path", "now"),
    [
        ("/a=/b", "/a", "/b"),
        ("/a=/b", "/a/x.tar", "/b/x.tar"),
        ("/a/=/b/", "/a/x.tar", "/b/x.tar"),
        ("/=/b", "/a/x.tar", "/b/a/x.tar"),
        ("/a=/", "/a/x.tar", "/x.tar"),
        ("/a=/b", "/ab/x.tar", "/ab/x.tar"),
        ("s3://old=https://new/set", "s3://old/x.tar", "https://new/set/x.tar"),
        ("/a=s3://b", "/a/x.tar", "s3://b/x.tar"),
    ],
)
def test_a_move_is_one_of_whole_folders(move, path, now):
    assert Move.parse(move).of(path) == now


@pytest.mark.parametrize("text", ["", "=", "/a", "/a=", "=/b"])
def test_what_is_no_move_is_refused(text):
    with pytest.raises(HashgrainError, match="is not OLD=NEW"):
        Move.parse(text)


def test_the_limits_of_encoding_are_those_of_queries(collection):
    index = indexer.open(collection / "index")
    assert index.limits == Limits(max_bytes=1 << 30, max_pixels=200_000_000)
    assert indexer.open(collection / "index", limits=Limits(5, 6)).limits == Limits(5, 6)
    manifest = json.loads((index.folder / "manifest.json").read_text())
    assert manifest["limits"] == {"max_bytes": 1 << 30, "max_pixels": 200_000_000}


def test_a_move_may_be_told_with_dots(collection, monkeypatch):
    old, new = collection / "photos", collection / "now/photos"
    new.parent.mkdir()
    (collection / "sub").mkdir()
    monkeypatch.chdir(collection / "sub")
    assert Move.parse("../photos=../now/photos") == Move(str(old), str(new))
