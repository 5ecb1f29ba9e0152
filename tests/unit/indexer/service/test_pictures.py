"""A browser gets pictures of rows that are there, and only pictures."""

import pytest

import indexer
from encoder.errors import HashgrainError, Reason
from encoder.images.signature import DECODED
from indexer.service.pictures import MEDIA_TYPES, original
from tests.support.pictures import encoded

PHOTOS = {"a.png": encoded(1, "PNG"), "b.jpg": encoded(2), "c.html": b"<html><script>alert(1)</script></html>"}


@pytest.fixture
def opened(index_of_files):
    return index_of_files(PHOTOS)


def reason(opened, row):
    with pytest.raises(HashgrainError) as caught:
        original(opened.snapshot, row)
    return caught.value.reason


def test_every_kind_that_is_decoded_has_a_media_type():
    assert set(MEDIA_TYPES) == set(DECODED)


@pytest.mark.parametrize(("row", "media_type"), [(0, "image/png"), (1, "image/jpeg")])
def test_a_picture_comes_as_it_is(opened, row, media_type):
    picture = original(opened.snapshot, row)
    assert picture.data == list(PHOTOS.values())[row]
    assert picture.media_type == media_type


def test_what_is_not_a_picture_is_not_shown(opened):
    assert reason(opened, 2) is Reason.IMAGE_REJECTED


@pytest.mark.parametrize("row", [-1, 3, 1 << 47])
def test_a_row_that_is_not_there_is_unknown(opened, row):
    assert reason(opened, row) is Reason.KEY_UNKNOWN


def test_a_removed_row_is_unknown(opened):
    with indexer.writer(opened.path, compact=False) as writer:
        writer.remove(["b.jpg"])
    opened.refresh()
    assert reason(opened, 1) is Reason.KEY_UNKNOWN
    assert original(opened.snapshot, 0).data == PHOTOS["a.png"]


def test_the_pictures_of_a_strangers_index_are_not_read(opened, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    assert reason(opened, 0) is Reason.NOT_ALLOWED
