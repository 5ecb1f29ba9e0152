"""Labels: folders, files beside an image, tables."""

import json
from collections.abc import Mapping
from pathlib import Path

from encoder.errors import Reject
from encoder.images.labels.values import Labels
from tests.support.archives import zipped
from tests.support.inputs.case import Group, Steps, put
from tests.support.pictures import encoded, write_tar

LABELS = Group("Labels beside images")
PHOTO = encoded(0)


def like(*names: str) -> dict[str, bytes]:
    """Photos by name."""
    return {name: encoded(number) for number, name in enumerate(names)}


def in_a_tar(title: str, members: Mapping[str, bytes], **expected: object) -> None:
    """Add a tar of these members in order, and an index over it."""

    def steps(here: Path) -> Steps:
        write_tar(here / "shard.tar", list(members.items()))
        outcome = yield "encode shard.tar"
        outcome.check(**expected)  # type: ignore[arg-type]

    LABELS.case(title)(steps)


LABELS.photos(
    "A folder per class",
    like("cats/1.jpg", "cats/2.jpg", "dogs/1.jpg"),
    rows=3,
    labels={"cats/1.jpg": {"folder": "cats"}, "dogs/1.jpg": {"folder": "dogs"}},
)
LABELS.photos(
    "Folders of classes in folders of classes",
    like("animals/cats/1.jpg", "plants/trees/1.jpg"),
    labels={
        "animals/cats/1.jpg": {"folder": "cats", "folder_1": "animals", "folder_2": "cats"},
        "plants/trees/1.jpg": {"folder": "trees", "folder_1": "plants", "folder_2": "trees"},
    },
)
LABELS.photos(
    "`.json`, `.cls` and `.txt` beside an image in a folder",
    {**like("a.jpg", "b.jpg", "c.jpg"), "a.json": b'{"price": 3.99}', "b.cls": b"7\n", "c.txt": b"a red car\n"},
    labels={"a.jpg": {"price": 3.99}, "b.jpg": {"cls": 7}, "c.jpg": {"caption": "a red car"}},
)
in_a_tar(
    "`.json`, `.cls` and `.txt` in a tar",
    {
        **like("a.jpg"), "a.json": b'{"price": 3.99}', "b.jpg": encoded(1), "b.cls": b"7\n", "c.jpg": encoded(2),
        "c.txt": b"a red car\n",
    },
    labels={"a": {"price": 3.99}, "b": {"cls": 7}, "c": {"caption": "a red car"}},
)  # fmt: skip
LABELS.photos(
    "`IMG.jpg.json`, `IMG.JSON` and `IMG.Txt` in a folder",
    {**like("a.jpg", "b.jpg", "c.jpg"), "a.jpg.json": b'{"x": 1}', "b.JSON": b'{"x": 2}', "c.Txt": b"three"},
    labels={"a.jpg": {"x": 1}, "b.jpg": {"x": 2}, "c.jpg": {"caption": "three"}},
)
in_a_tar(
    "`IMG.jpg.json`, `IMG.JSON` and `IMG.Txt` in a tar",
    {**like("a.jpg", "b.jpg", "c.jpg"), "a.jpg.json": b'{"x": 1}', "b.JSON": b'{"x": 2}', "c.Txt": b"three"},
    labels={"a": {"x": 1}, "b": {"x": 2}, "c": {"caption": "three"}},
)
LABELS.photos(
    "`0001.left.jpg`, `0001.right.jpg` and `0001.json` in a folder",
    {**like("0001.left.jpg", "0001.right.jpg"), "0001.json": b'{"pair": 1}'},
    labels={"0001.left.jpg": {"pair": 1}, "0001.right.jpg": {"pair": 1}},
)
in_a_tar(
    "`0001.left.jpg`, `0001.right.jpg` and `0001.json` in a tar, as webdataset has it",
    {**like("0001.left.jpg", "0001.right.jpg"), "0001.json": b'{"pair": 1}', **like("0002.left.jpg")},
    labels={"0001.left": {"pair": 1}, "0001.right": {"pair": 1}, "0002.left": {}},
)
LABELS.photos(
    "A byte-order mark before a `.cls` and a `.json`, and UTF-16",
    {
        **like("a.jpg", "b.jpg", "c.jpg"), "a.cls": b"\xef\xbb\xbf3", "b.json": b'\xef\xbb\xbf{"x": 1}',
        "c.json": '{"x": 2}'.encode("utf-16"),
    },
    labels={"a.jpg": {"cls": 3}, "b.jpg": {"x": 1}, "c.jpg": {"x": 2}},
)  # fmt: skip
LABELS.photos(
    "Numbers with and without a fraction in one field, true and false, lists, objects",
    {
        **like("a.jpg", "b.jpg"),
        "a.json": b'{"price": 3.99, "sold": true, "tags": ["red", "car"], "size": {"width": 3, "unit": "m"}}',
        "b.json": b'{"price": 4, "sold": false, "tags": [], "size": {"width": 5}}',
    },
    labels={
        "a.jpg": {"price": 3.99, "sold": True, "tags": ("red", "car"), "size.width": 3, "size.unit": "m"},
        "b.jpg": {"price": 4.0, "sold": False, "tags": (), "size.width": 5},
    },
)
LABELS.photos(
    "What JSON has beside these: null, not a number, a very large number",
    {**like("a.jpg"), "a.json": b'{"none": null, "nan": NaN, "large": 123456789012345678901234567890, "x": 1}'},
    rows=1,
)
LABELS.photos(
    "A field's name with a NUL in it",
    {**like("a.jpg", "b.jpg"), "a.json": b'{"a\\u0000b": 1, "x": 2}', "b.json": b'{"x": 3}'},
    rows=2,
    labels={"b.jpg": {"x": 3}},
    bad=["a.json"],
)


@LABELS.case("1,000 fields, and a filter by one of them")
def many_fields(here: Path) -> Steps:
    fields: Labels = {f"field {number:04d}": number for number in range(1000)}
    put(here / "photos", {**like("a.jpg", "b.jpg"), "a.json": json.dumps(fields).encode()})
    outcome = yield "encode photos"
    outcome.check(labels={"a.jpg": fields, "b.jpg": {}})
    yield "build"
    outcome = yield "query key:b.jpg --level fine --where 'label.\"field 0999\" = 999' --json"
    outcome.check()
    assert [json.loads(line)["key"] for line in outcome.out.splitlines()] == ["a.jpg"], outcome.out


LABELS.photos(
    "Sidecars that cannot be read: cut, an array, not text",
    {**like("a.jpg", "b.jpg", "c.jpg"), "a.json": b'{"x": ', "b.json": b"[1, 2]", "c.cls": b"\xff\xfe\xff"},
    labels={"a.jpg": {}, "b.jpg": {}, "c.jpg": {}},
    bad=["a.json", "b.json", "c.cls"],
)
LABELS.photos(
    "A field that is a number here and a word there",
    {**like("a.jpg", "b.jpg"), "a.json": b'{"size": 3}', "b.json": b'{"size": "large"}'},
    labels={"a.jpg": {"size": "3"}, "b.jpg": {"size": "large"}},
    bad=["b.jpg"],
)


@LABELS.case("A number in one shard and a word in another, in one index")
def clash_over_shards(here: Path) -> Steps:
    for name, value in (("a", b'{"size": 3}'), ("b", b'{"size": "large"}')):
        write_tar(here / f"{name}.tar", [(f"{name}.jpg", PHOTO), (f"{name}.json", value)])
    yield "encode a.tar b.tar"
    outcome = yield "build"
    outcome.check(says="size")


MANY = 1300


@LABELS.case("A tar with 1,300 labels before their 1,300 images")
def labels_first(here: Path) -> Steps:
    labels = [(f"{number}.json", b'{"number": %d}' % number) for number in range(MANY)]
    images = [(f"{number}.jpg", PHOTO if number % 100 == 0 else b"") for number in range(MANY)]
    write_tar(here / "shard.tar", [*labels, *images])
    outcome = yield "encode shard.tar"
    assert outcome.rows == {f"{number}": {"number": number} for number in range(0, MANY, 100)}
    assert not outcome.bad_labels, outcome.bad_labels
    outcome.check(rejects={f"{number}": Reject.EMPTY for number in range(MANY) if number % 100})


LABELS.photos(
    "Labels without an image",
    {**like("a.jpg"), "b.json": b'{"x": 1}', "readme.txt": b"hello"},
    rows=1,
    skipped={".json without an image": 1, ".txt without an image": 1},
)
in_a_tar(
    "Labels without an image in a tar",
    {**like("a.jpg"), "b.json": b'{"x": 1}', "readme.txt": b"hello"},
    rows=1,
    skipped={"label file without an image": 1},
    bad=["b.json"],
)


@LABELS.case("A zip with `.json` and folders")
def in_a_zip(here: Path) -> Steps:
    put(here, {"photos.zip": zipped([("cats/a.jpg", PHOTO), ("cats/a.json", b'{"x": 1}')])})
    outcome = yield "encode photos.zip"
    outcome.check(labels={"cats/a.jpg": {"folder": "cats", "x": 1}})


def table(title: str, name: str, data: bytes, *, options: str = "", **expected: object) -> None:
    """Add a folder of three photos and a table of labels."""

    def steps(here: Path) -> Steps:
        put(here, {**like("photos/a.jpg", "photos/b.jpg", "photos/sub/0003.jpg"), name: data})
        outcome = yield f"encode photos --labels {name} {options}"
        outcome.check(**expected)  # type: ignore[arg-type]

    LABELS.case(title)(steps)


table(
    "A CSV table (`--labels`), by file name; one photo has no row",
    "labels.csv",
    b"file_name,price,kind\na.jpg,3.99,car\n0003.jpg,4,bus\n",
    labels={"a.jpg": {"price": 3.99, "kind": "car"}, "b.jpg": {}},
    says="1 image without a row",
)
table(
    "JSON lines (`--labels`), by a column that is named (`--key`)",
    "labels.jsonl",
    b'{"path": "sub/0003.jpg", "tags": ["red", "blue"]}\n{"path": "a.jpg", "tags": []}\n{"path": "b.jpg"}\n',
    options="--key path",
    rows=3,
    labels={"sub/0003.jpg": {"folder": "sub", "tags": ("red", "blue")}},
)
table(
    "A CSV table none of whose rows fits",
    "labels.csv",
    b"key,price\nx.jpg,3\ny.jpg,4\n",
    rows=3,
    says="no image has a row",
)
table("A CSV table without a column of keys", "labels.csv", b"name,price\na,3\n", code=1, says="have no column")


@LABELS.case("A Parquet table (`--labels`), one of whose columns holds bytes")
def parquet_table(here: Path) -> Steps:
    import pyarrow as pa
    from pyarrow import parquet

    put(here, like("photos/a.jpg", "photos/b.jpg"))
    columns = {"key": ["a", "b"], "price": [3.99, None], "sold": [True, False], "raw": [b"x", b"y"]}
    parquet.write_table(pa.table(columns), here / "labels.parquet")
    outcome = yield "encode photos --labels labels.parquet"
    outcome.check(
        labels={"a.jpg": {"price": 3.99, "sold": True}, "b.jpg": {"sold": False}}, says="column 'raw' left out"
    )
