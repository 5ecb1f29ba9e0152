"""Labels as people have them, from files beside images to hits that a filter lets pass."""

import codecs
import json

import pytest

from tests.support.pictures import encoded, write_tar

SIDECARS = {
    "a.json": b'{"price": 3.99, "sold": true, "tags": ["red", "round"], "exif": {"iso": 400}, "gone": null, "nan": NaN}',
    "b.json": codecs.BOM_UTF8
    + b'{"price": 4, "sold": false, "tags": [], "exif": {"iso": "auto"}, "boxes": [{"x": 1}]}',
    "b.txt": codecs.BOM_UTF16_LE + "eine grüne Tasse\n".encode("utf-16-le"),
    "c.json": b'{"a\\u0000b": 1, "price": Infinity, "tags": ["Red"], "n": 99999999999999999999}',
    "c.cls": b"cup",
    "d.json": b'["not", "an", "object"]',
}


@pytest.fixture(params=["tar", "folder"])
def index(request, command, model_path, tmp_path):
    """An index of four pictures and their sidecars, and what encoding them said."""
    members = [(f"{name}.jpg", encoded(number)) for number, name in enumerate("abcd")] + list(SIDECARS.items())
    source = tmp_path / f"set.{request.param}"
    if request.param == "tar":
        write_tar(source, sorted(members))
    else:
        source.mkdir()
        for name, data in members:
            (source / name).write_bytes(data)
    code, _, err = command("encoder", "encode", source, "--model", model_path, "--out", tmp_path / "codes")
    assert code == 0, err
    assert "4 labels could not be kept as given" in err
    assert command("indexer", "build", tmp_path / "codes", "--out", tmp_path / "index")[0] == 0
    return tmp_path / "index"


def test_labels_of_all_kinds_come_through_and_bad_ones_are_named(index, command, tmp_path):
    code, out, _ = command("encoder", "inspect", tmp_path / "codes", "--bad-labels", "--json")
    assert code == 0
    assert {
        (one["name"].rpartition("/")[2], one["why"]) for one in map(json.loads, out.replace(".jpg", "").splitlines())
    } == {
        ("b", "label 'exif.iso' is text here and int before, as of 'a'; all are kept as text"),
        ("b.json", "left out, lists of lists or objects: 1, first 'boxes'"),
        ("c.json", "left out, a control character in the name: 1, first 'a\\x00b'"),
        ("d.json", "not a JSON object"),
    }
    info = command("indexer", "info", "--index", index)[1]
    for field in (
        "caption (text)",
        "cls (text)",
        "exif.iso (text)",
        "n (text)",
        "price (float)",
        "sold (bool)",
        "tags (texts)",
    ):
        assert field in info


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("label.price < 3.995", "a"),
        ("label.price >= 4", "bc"),
        ("label.sold = false", "b"),
        ("label.tags has 'red'", "a"),
        ("label.tags ~ '[rR]*'", "ac"),
        ("label.tags is not null and not label.tags ~ '*'", "b"),
        ("label.exif.iso = '400'", "a"),
        ("label.caption ~ '*grüne*'", "b"),
        ("label.cls = 'cup' and label.n ~ '9*'", "c"),
        ("label.price is null", "d"),
    ],
)
def test_filters_look_at_every_kind(index, command, where, found):
    [key] = [key for key in ("a", "a.jpg") if command("indexer", "query", f"key:{key}", "--index", index)[0] == 0]
    code, out, err = command("indexer", "query", f"key:{key}", "--index", index, "--where", where, "--json", "-k", 10)
    assert code == 0, err
    assert sorted(json.loads(line)["key"].removesuffix(".jpg") for line in out.splitlines()) == list(found)
