"""Which row of a table is an image's."""

import time

import pyarrow as pa
import pytest
from pyarrow import parquet

from encoder.images.labels.table_files import read_table
from encoder.images.labels.values import BadLabels


def table_of(folder, keys):
    path = folder / "labels.csv"
    path.write_text("key,row\n" + "".join(f'"{key}",{row}\n' for row, key in enumerate(keys)))
    return read_table(path)


@pytest.mark.parametrize(
    ("keys", "image", "row"),
    [
        (["a", "b"], "b", 1),
        (["b.jpg", "b"], "b", 1),
        (["b", "b.jpg"], "b.jpg", 1),
        (["a.jpg"], "a", 0),
        (["a.png"], "a.jpg", 0),
        (["x/a.jpg", "y/a.jpg"], "y/a", 1),
        (["x/a.jpg", "y/a.jpg", "a"], "z/a", 2),
        (["x/a.png", "y/a.jpg"], "z/a.jpg", 1),
        (["/data/set/x/a.jpg"], "x/a", 0),
        (["a.jpg"], "deep/down/a.jpg", 0),
        (["0001.left.jpg", "0001.right.jpg"], "0001.right", 1),
        (["photo.v1", "photo.v2"], "photo.v2.jpg", 1),
        (["a", "a"], "a", 0),
        (["A.JPG"], "A", 0),
        (["a.jpg"], "b", None),
        (["A"], "a", None),
        (["photo.v1"], "photo", None),
        (["", "b"], "a", None),
    ],
)
def test_a_row_is_found_by_its_key_or_its_name_with_or_without_the_ending(tmp_path, keys, image, row):
    table, bad = table_of(tmp_path, keys), BadLabels()
    assert table.labels(image, bad) == ({} if row is None else {"row": row})
    matched = table.matched
    assert (matched.found, matched.without, matched.ambiguous, bad.count) == (row is not None, row is None, 0, 0)


def test_an_image_that_several_rows_may_be_of_is_counted_and_said(tmp_path):
    table, bad = table_of(tmp_path, ["x/a.jpg", "y/a.jpg", "b"]), BadLabels()
    assert [table.labels(key, bad) for key in ("z/a.jpg", "a", "b")] == [{}, {}, {"row": 2}]
    assert [(one.name, one.why) for one in bad.first] == [
        (key, "labels.csv: rows of 'x/a.jpg' and 'y/a.jpg' have its name") for key in ("z/a.jpg", "a")
    ]
    assert table.notices() == ["labels.csv: 2 images without labels of it, since several rows have one name"]


def test_repeated_keys_and_images_without_a_row_are_said(tmp_path):
    table, bad = table_of(tmp_path, ["a", "b", "a", "a"]), BadLabels()
    assert [table.labels(key, bad) for key in ("a", "c", "d")] == [{"row": 0}, {}, {}]
    assert table.notices() == [
        "labels.csv: 2 rows with the key of an earlier row, which counts",
        "labels.csv: 2 images without a row, first 'c'",
    ]


def test_a_table_of_other_images_is_told_by_its_keys(tmp_path):
    table = table_of(tmp_path, ["img_1", "img_2"])
    assert table.labels("0001", BadLabels()) == {}
    assert table.notices() == ["labels.csv: no image has a row; its keys are like 'img_1', the images' like '0001'"]
    empty = table_of(tmp_path, [])
    assert empty.labels("0001", BadLabels()) == {}
    assert empty.notices() == ["labels.csv has no rows"]


def test_what_cannot_be_kept_of_a_row_is_counted(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text('{"key": "a", "text": "' + "x" * 1025 + '"}\n')
    table, bad = read_table(path), BadLabels()
    assert table.labels("a", bad) == {"text": "x" * 1024}
    assert [(one.name, one.why) for one in bad.first] == [
        ("a", "labels.jsonl: cut, texts of more than 1,024 characters: 1, first 'text'")
    ]


def test_what_python_cannot_read_is_left_out_and_counted(tmp_path):
    path, far = tmp_path / "labels.parquet", 253402300800  # year 10000
    broken = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(bytes(4) + b"\1\0\0\0"), pa.py_buffer(b"\xff")])
    columns = {
        "key": ["a"], "day": pa.array([10**8], pa.date32()), "time": pa.array([1000 * far], pa.timestamp("ms")),
        "times": pa.array([[far]], pa.list_(pa.timestamp("s"))), "text": broken, "zone": pa.array([1], pa.timestamp("us", "Nowhere")),
        "n": [1],
    }  # fmt: skip
    parquet.write_table(pa.table(columns), path)
    table, bad = read_table(path), BadLabels()
    assert table.labels("a", bad) == {"n": 1}
    assert [one.why.partition(" here cannot be read (")[0] for one in bad.first] == [
        f"labels.parquet: left out, what column {name!r} holds" for name in ("day", "time", "times", "text", "zone")
    ]


def test_a_digest_tells_tables_and_their_keys_apart(tmp_path):
    table = table_of(tmp_path, ["a"])
    assert table.digest == read_table(table.path).digest != read_table(table.path, "row").digest
    before = table.digest
    assert table_of(tmp_path, ["b"]).digest != before


def test_a_name_in_a_hundred_thousand_rows_takes_no_time(tmp_path):
    table, bad = table_of(tmp_path, [f"{n}/front.jpg" for n in range(100_000)]), BadLabels()
    start = time.process_time()
    assert [table.labels(f"{n}/front", bad)["row"] for n in range(0, 100_000, 100)] == list(range(0, 100_000, 100))
    assert [table.labels(f"x{n}/front", bad) for n in range(1000)] == [{}] * 1000
    assert time.process_time() - start < 5
    assert table.matched.ambiguous == 1000
