"""Which image a sidecar belongs to, in a folder and in an archive, and what is read of it."""

import codecs
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.images.labels import sidecars as module
from encoder.images.labels.sidecars import (
    MAX_SIDECAR_BYTES,
    ArchiveSidecars,
    FolderSidecars,
    read_sidecar,
    sidecar_of,
    stems_of,
)
from encoder.images.labels.values import BadLabels, Labels, kind_of


@pytest.mark.parametrize(
    ("image", "stems"),
    [
        ("IMG.jpg", ("IMG", "IMG.jpg")),
        ("a.b/0001.left.jpg", ("a.b/0001", "a.b/0001.left", "a.b/0001.left.jpg")),
        ("a/x.y.z.png", ("a/x", "a/x.y.z", "a/x.y.z.png")),
        ("no-ending", ("no-ending",)),
        ("a/.hidden", ("a/.hidden",)),
        (".hidden.jpg", (".hidden", ".hidden.jpg")),
    ],
)
def test_what_the_sidecars_of_an_image_may_be_called(image, stems):
    assert stems_of(image) == stems


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("IMG.json", ("IMG", ".json")),
        ("a/IMG.jpg.JSON", ("a/IMG.jpg", ".json")),
        ("x.Cls", ("x", ".cls")),
        ("x.txt", ("x", ".txt")),
        ("x.jsonl", None),
        ("x.jpg", None),
        ("json", None),
        ("a/.json", None),
    ],
)
def test_what_is_a_sidecar(name, expected):
    assert sidecar_of(name) == expected


PAIRS = [
    ("IMG.jpg", ["IMG.json"]),
    ("IMG.jpg", ["IMG.jpg.json"]),
    ("IMG.jpg", ["IMG.JSON"]),
    ("IMG.jpg", ["IMG.txt", "IMG.cls"]),
    ("0001.left.jpg", ["0001.json", "0001.left.json"]),
    ("0001.right.jpg", ["0001.json"]),
    ("photo.v2.jpg", ["photo.v2.json"]),
    ("photo.v2.jpg", ["photo.json", "photo.v2.json", "photo.v2.jpg.json"]),
]
OTHERS = [
    "IM.json",
    "IMG2.json",
    "IMG.jpeg.json",
    "0002.json",
    "photo.v1.json",
    "photo.v2.png.json",
    "0001.left.extra.json",
]


@pytest.mark.parametrize(("image", "names"), PAIRS)
def test_a_folder_and_an_archive_bring_the_same_sidecars_to_an_image(image, names):
    assert set(FolderSidecars([*OTHERS, *names, image]).of(image)) == set(names)
    labels: dict[str, Labels] = {name: {name: 1} for name in names}
    for before in range(len(names) + 1):
        archive, got = ArchiveSidecars(BadLabels()), Labels()
        for name in [*OTHERS, *names[:before]]:
            assert archive.sidecar(name, labels.get(name, {"other": 1})) == []
        got |= archive.image(image)
        for name in names[before:]:
            whole = name == f"{image}.json"
            assert archive.sidecar(name, labels[name]) == [image if whole else image.rpartition(".")[0]]
            got |= labels[name]
        assert got == dict.fromkeys(names, 1)


def test_the_most_specific_sidecar_wins_and_then_the_order_of_their_endings():
    names = ["photo.v2.jpg.json", "photo.json", "photo.v2.txt", "photo.v2.json", "photo.v2.cls"]
    assert FolderSidecars(names).of("photo.v2.jpg") == [
        "photo.json", "photo.v2.json", "photo.v2.cls", "photo.v2.txt", "photo.v2.jpg.json",
    ]  # fmt: skip
    archive = ArchiveSidecars(BadLabels())
    for name in names:
        archive.sidecar(name, {"x": name})
    assert archive.image("photo.v2.jpg") == {"x": "photo.v2.jpg.json"}


def test_a_sidecar_of_several_images_reaches_all_of_them_whenever_they_come():
    archive = ArchiveSidecars(bad := BadLabels())
    assert archive.image("0001.left.jpg") == {}
    assert archive.sidecar("0001.json", {"n": 1}) == ["0001.left"]
    assert archive.image("0001.right.jpg") == {"n": 1}
    assert archive.sidecar("0001.cls", {"cls": 2}) == ["0001.left", "0001.right"]
    assert archive.image("0001.top.jpg") == {"n": 1, "cls": 2}
    archive.close()
    assert bad.count == 0


def test_a_sidecar_without_an_image_is_counted_and_one_that_waits_too_long_too(monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 2500)
    archive = ArchiveSidecars(bad := BadLabels())
    for name in ["a.json", "b.json", "readme.txt", "c.cls"]:
        archive.sidecar(name, {"n": 1})
    assert archive.image("a.jpg") == {}
    assert archive.image("c.jpg") == {"n": 1}
    archive.sidecar("d.json", {})
    archive.sidecar("d.cls", {})
    archive.close()
    assert archive.texts == 1
    waited = "no image has its name within 0 MiB of other labels"
    assert [(one.name, one.why) for one in bad.first] == [
        ("a.json", waited), ("b.json", waited), ("d.json", "no image has its name"), ("d.cls", "no image has its name"),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ['{"n": 1, "é": "ü"}', '{"n": 1}'])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
    ],
)
def test_a_byte_order_mark_is_read_past(text, mark, encoding):
    assert read_sidecar("a.json", mark + text.encode(encoding)) == (json.loads(text), [])
    assert read_sidecar("a.txt", mark + "eine Tasse\n".encode(encoding)) == ({"caption": "eine Tasse"}, [])
    assert read_sidecar("a.cls", mark + b"".join(c.encode(encoding) for c in " 7\n")) == ({"cls": 7}, [])


@pytest.mark.parametrize(
    ("name", "data", "labels"),
    [
        ("a.cls", b"7\n", {"cls": 7}),
        ("a.cls", b"-3", {"cls": -3}),
        ("a.CLS", b"dog", {"cls": "dog"}),
        ("a.cls", b"--5", {"cls": "--5"}),
        ("a.cls", b"9" * 30, {"cls": "9" * 30}),
        ("a.cls", "٣".encode(), {"cls": "٣"}),
        ("a.txt", b" a red cup\non a table \n", {"caption": "a red cup\non a table"}),
        ("a.txt", b"\n", {}),
        ("a.cls", b"\n", {}),
        ("a.JSON", b'{"a": {"b": [1, 2]}, "c": true, "d": null, "e": NaN}', {"a.b": ("1", "2"), "c": True}),
        ("a.json", b'{"far": -Infinity, "over": 1e999}', {"far": -float("inf"), "over": float("inf")}),
        ("a.json", b'{"n": ' + b"9" * 5000 + b"}", {"n": "9" * 1024}),
    ],
)
def test_what_is_read(name, data, labels):
    assert read_sidecar(name, data)[0] == labels


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (None, "larger than 1,048,576 bytes"),
        (b"", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"[1]", "not a JSON object"),
        (b'"a"', "not a JSON object"),
        (b"{", "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"\xff{}", "not text in UTF-8: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b'{"a":' * 100_000, "nested too deep"),
    ],
)
def test_a_bad_sidecar_has_no_labels_and_a_reason(data, why):
    assert read_sidecar("a.json", data) == ({}, [why])


def test_a_name_with_a_null_character_leaves_the_rest():
    labels, [why] = read_sidecar("a.json", b'{"a\\u0000b": 1, "n": 2}')
    assert labels == {"n": 2}
    assert "control character" in why


@given(st.sampled_from(["a.json", "a.cls", "a.txt"]), st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_no_content_is_too_odd(name, data):
    labels, faults = read_sidecar(name, data)
    assert all(kind_of(value) and key for key, value in labels.items() if key)
    assert all("\n" not in why for why in faults)
    assert MAX_SIDECAR_BYTES == 1 << 20
