"""Tables of labels: what each format gives, and one line for what is not a table."""

import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from pyarrow import parquet

from encoder.errors import HashgrainError, Reason
from encoder.images.labels.table_files import read_table, shard_table_path, table_of_shard
from encoder.images.labels.values import BadLabels


def labels_of(table, *keys):
    found = [table.labels(key, bad := BadLabels()) for key in keys]
    assert bad.count == 0
    return found


CSV = """file_name,price,sold,count,name,empty,when
0001.jpg,3.99,true,3,cup,,2024-01-02T03:04:05
0002.jpg,4,false,-1,"a, ""b""
two",,
0003.jpg,,,,NA,,2024-01-02T03:04:06
"""


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("a.csv", CSV, "utf-8"),
        ("a.CSV", CSV, "utf-8-sig"),
        ("a.csv", CSV, "utf-16"),
        ("a.tsv", CSV.replace('"a, ""b""\ntwo"', 'a, b').replace(",", "\t").replace("a\t b", '"a, ""b""\ntwo"'), "utf-8"),
    ],
)  # fmt: skip
def test_a_csv_has_the_kinds_that_its_cells_show(tmp_path, name, text, encoding):
    (tmp_path / name).write_text(text, encoding=encoding)
    assert labels_of(read_table(tmp_path / name), "0001", "x/0002.jpg", "0003") == [
        {"price": 3.99, "sold": True, "count": 3, "name": "cup", "when": "2024-01-02T03:04:05"},
        {"price": 4.0, "sold": False, "count": -1, "name": 'a, "b"\ntwo'},
        {"name": "NA", "when": "2024-01-02T03:04:06"},
    ]


def test_keys_stay_text(tmp_path):
    (tmp_path / "a.csv").write_text("id,n\n0001,1\n1,2\n")
    assert labels_of(read_table(tmp_path / "a.csv", "id"), "0001", "1") == [{"n": 1}, {"n": 2}]


def test_a_column_that_is_not_utf_8_is_left_out_and_said(tmp_path):
    (tmp_path / "a.csv").write_bytes("key,street,street,n\na,Große Straße,groß,1\n".encode("windows-1252"))
    table = read_table(tmp_path / "a.csv")
    assert labels_of(table, "a") == [{"n": 1}]
    assert table.notices() == ["a.csv: column 'street' left out, its text is not UTF-8; save the table in UTF-8"]


def test_json_lines_are_nested_and_their_text_stays_text(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"key": "a", "exif": {"iso": 400, "taken": "2021-01-01"}, "tags": ["red", "2021-01-01"], "day": "2021-01-01"}\n'
        '{"key": "b", "exif": null, "tags": [], "boxes": [{"x": 1}]}\n'
    )
    table = read_table(tmp_path / "a.jsonl")
    assert labels_of(table, "a", "b") == [
        {"exif.iso": 400, "exif.taken": "2021-01-01", "tags": ("red", "2021-01-01"), "day": "2021-01-01"},
        {"tags": ()},
    ]
    assert table.notices() == ["a.jsonl: column 'boxes' left out, lists of lists or objects"]


def test_a_parquet_has_what_arrow_has(tmp_path):
    columns = {
        "key": pa.array(["a", "b"]),
        "n": pa.array([2**64 - 1, None], pa.uint64()),
        "f": pa.array([0.5, float("nan")], pa.float32()),
        "price": pa.array([Decimal("3.99"), None]),
        "day": pa.array([date(2024, 1, 2), None]),
        "nano": pa.array([1704164645000000001, None], pa.timestamp("ns")),
        "nanos": pa.array([[1704164645000000001], None], pa.list_(pa.timestamp("ns"))),
        "view": pa.array(["x", None], pa.string_view()),
        "zone": pa.array([datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
        "kind": pa.array(["x", None]).dictionary_encode(),
        "tags": pa.array([["red", None, "blue"], None]),
        "vec": pa.array([[0.5, 1.0], None], pa.list_(pa.float32(), 2)),
        "nested": pa.array([{"a": {"b": 1}, "raw": b"x"}, None]),
        "raw": pa.array([b"pixels", None]),
        "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
        "none": pa.nulls(2),
        "n.dotted": pa.array([1, 2]),
    }
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    table = read_table(tmp_path / "a.parquet")
    assert labels_of(table, "a", "b") == [
        {
            "n": str(2**64 - 1), "f": 0.5, "price": 3.99, "day": "2024-01-02", "nano": "2024-01-02T03:04:05",
            "nanos": ("2024-01-02T03:04:05",), "view": "x",
            "zone": "2024-01-02T03:04:05+00:00", "kind": "x", "tags": ("red", "blue"), "vec": ("0.5", "1"), "nested.a.b": 1,
            "n.dotted": 1,
        },
        {"n.dotted": 2},
    ]  # fmt: skip
    assert table.notices() == [
        "a.parquet: column 'nested.raw' left out, bytes are not labels",
        "a.parquet: column 'raw' left out, bytes are not labels",
        "a.parquet: column 'map' left out, values of type map",
    ]


def test_the_table_of_img2dataset_stands_beside_its_tar(tmp_path):
    columns = {
        "url": ["https://a/1", "https://a/2"], "caption": ["a cup", None], "key": ["000000000", "000000001"],
        "status": ["success", "failed_to_download"], "width": [640, None], "similarity": [0.31, 0.3], "jpg": [b"x", None],
    }  # fmt: skip
    parquet.write_table(pa.table(columns), tmp_path / "00000.parquet")
    bad = BadLabels()
    for name in ("00000.tar", "00000.tar.gz"):
        assert shard_table_path(str(tmp_path / name)) == tmp_path / "00000.parquet"
        table = table_of_shard(str(tmp_path / name), bad)
        assert table is not None
        assert table.labels("000000000", bad) == {
            "url": "https://a/1", "caption": "a cup", "status": "success", "width": 640, "similarity": 0.31,
        }  # fmt: skip
    for name in ("00001.tar", "00000.zip", "00000"):
        assert table_of_shard(str(tmp_path / name), bad) is None
    parquet.write_table(pa.table({"other": [1]}), tmp_path / "00001.parquet")
    assert table_of_shard(str(tmp_path / "00001.tar"), bad) is None
    assert bad.count == 0
    (tmp_path / "00002.parquet").write_bytes(b"PAR1 cut")
    assert table_of_shard(str(tmp_path / "00002.tar"), bad) is None
    assert bad.first[0].name == "00002.parquet"


@pytest.mark.parametrize(
    ("name", "content", "key", "says"),
    [
        ("a.xlsx", b"", None, "are not a table; give one that ends in .csv, .tsv, .parquet, .jsonl"),
        ("a.csv", None, None, "could not be read: No such file or directory"),
        ("a.parquet", None, None, "could not be read: "),
        ("a.csv", b"", None, "could not be read: Empty CSV file"),
        ("a.csv", b"a,b\n1,2,3\n", "a", "could not be read: CSV parse error: Expected 2 columns, got 3"),
        ("a.csv", b"a\n\xff\xfe\xfd\n", "a", "could not be read: "),
        ("a.csv", b"a,b\n1,2\n", "c", "have no column c to say which image a row is of; they have a, b"),
        ("a.csv", b"a,b\n1,2\n", None, "have no column key or file_name to say which image a row is of; they have a, b"),
        ("a.csv", b"key,key\n1,2\n", None, "have several columns key; keep one of them"),
        ("a.csv", b"key;price\na;3,99\n", None, "have semicolons between their columns; save them with commas, and 3,99 as 3.99"),
        ("a.jsonl", b"{}{", None, "could not be read: JSON parse error"),
        ("a.jsonl", b'{"key": "a", "x": 1}\n{"key": "b", "x": "y"}\n', None, "Column(/x) changed from number to string in row 1"),
        ("a.parquet", b"PAR1", None, "could not be read: "),
    ],
)  # fmt: skip
def test_what_is_not_a_table_is_one_line(tmp_path, name, content, key, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(HashgrainError) as caught:
        read_table(tmp_path / name, key)
    assert caught.value.reason is Reason.BAD_VALUE
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_many_columns_are_named_up_to_a_number(tmp_path):
    (tmp_path / "a.csv").write_text(",".join(f"c{n}" for n in range(30)) + "\n")
    with pytest.raises(HashgrainError, match=r"they have c0, .*c19, \.\.\.$"):
        read_table(tmp_path / "a.csv")


def test_pyarrow_is_loaded_when_a_table_is_opened():
    script = "import sys, encoder.cli, encoder.images.labels.table_files; sys.exit('pyarrow' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_pictures_in_a_table_of_labels_are_not_read(tmp_path):
    """A picture inside a struct, as Hugging Face has it: its path is a label, its bytes are left out unread."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"key": "a", "image": {"bytes": b"x" * 1000, "path": "p/a.jpg"}, "price": 3}]
    parquet.write_table(
        pa.Table.from_pylist(rows, pa.schema([("key", pa.string()), ("image", kind), ("price", pa.int64())])),
        tmp_path / "t.parquet",
    )
    table = read_table(tmp_path / "t.parquet", "key")
    assert table.labels("a", BadLabels()) == {"image.path": "p/a.jpg", "price": 3}
    assert list(table.left_out) == ["image.bytes"]


def test_a_parquet_file_without_keys_beside_a_tar_is_not_read(tmp_path, monkeypatch):
    parquet.write_table(pa.table({"number": [1]}), tmp_path / "a.parquet")
    monkeypatch.setattr(parquet.ParquetFile, "read", None)
    assert table_of_shard(str(tmp_path / "a.tar"), BadLabels()) is None
