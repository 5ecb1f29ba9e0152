"""Parquet files of images, and what img2dataset writes."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from encoder.errors import Reject
from tests.support.inputs.case import Group, Steps, put
from tests.support.pictures import encoded, write_tar

TABLES = Group("Parquet, and img2dataset")
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""A column of images as Hugging Face's `datasets` has it."""


def images(*numbers: int) -> list[dict[str, Any]]:
    return [{"bytes": encoded(number), "path": f"{number}.jpg"} for number in numbers]


def huggingface(*numbers: int) -> pa.Table:
    """Return a table of images and classes, with the classes' names where `datasets` keeps them."""
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    columns = {"image": pa.array(images(*numbers), STRUCT), "label": pa.array([number % 2 for number in numbers])}
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def all_read_back(title: str, table: pa.Table, rows: int, labels: dict[str, Any] | None = None) -> None:
    """Add a Parquet file of images that an index reads back."""

    def steps(here: Path) -> Steps:
        parquet.write_table(table, here / "train.parquet")
        outcome = yield "encode train.parquet"
        outcome.check(rows=rows, labels=labels)
        outcome.notes.append("keys " + ", ".join(f"`{key}`" for key in sorted(outcome.rows)))
        outcome = yield "build"
        outcome.check()
        assert len(outcome.pictures) == rows
        assert all(outcome.pictures.values())

    TABLES.case(title)(steps)


all_read_back(
    "Parquet of Hugging Face's `datasets`: images as a struct of bytes and path, classes with names",
    huggingface(0, 1, 2),
    3,
    {"0.jpg": {"label": 0, "label_name": "cat"}},
)
all_read_back(
    "Parquet with a column of plain bytes, `key` and `caption`",
    pa.table({"key": ["x", "y"], "jpg": [encoded(0), encoded(1)], "caption": ["a cat", "a dog"]}),
    2,
    {"x": {"caption": "a cat", "key": "x"}, "y": {"caption": "a dog", "key": "y"}},
)
all_read_back("Parquet with a column of plain bytes and nothing else", pa.table({"image": [encoded(0), encoded(1)]}), 2)


@TABLES.case("A folder of such files, as a data set is laid out")
def folder(here: Path) -> Steps:
    (here / "data").mkdir()
    for number in range(2):
        parquet.write_table(huggingface(2 * number, 2 * number + 1), here / f"data/train-{number:05d}-of-00002.parquet")
    outcome = yield "encode data"
    outcome.check(rows=4)


@TABLES.case("A row without an image, and one whose bytes are not one")
def bad_rows(here: Path) -> Steps:
    table = pa.table({"key": ["a", "b", "c"], "image": [encoded(0), None, b"404 not found"]})
    parquet.write_table(table, here / "train.parquet")
    outcome = yield "encode train.parquet"
    outcome.check(keys=["a"], rejects={"b": Reject.EMPTY, "c": Reject.UNKNOWN_FORMAT})


@TABLES.case("A Parquet file of URLs and captions")
def urls(here: Path) -> Steps:
    parquet.write_table(pa.table({"url": ["https://example.org/a.jpg"], "caption": ["a"]}), here / "urls.parquet")
    outcome = yield "encode urls.parquet"
    outcome.check(code=1, says="img2dataset")


@TABLES.case("A Parquet file that was cut")
def cut(here: Path) -> Steps:
    parquet.write_table(huggingface(0, 1, 2), here / "whole.parquet")
    put(here, {"train.parquet": (here / "whole.parquet").read_bytes()[:-300]})
    outcome = yield "encode train.parquet"
    assert outcome.code == 1
    assert "train.parquet" in outcome.err
    assert "Traceback" not in outcome.err


@TABLES.case(
    "What img2dataset writes: `00000.tar` with `.json` and `.txt`, `00000.parquet` beside it, `00000_stats.json`"
)
def img2dataset(here: Path) -> Steps:
    own = {"url": "https://example.org/a.jpg", "width": 48, "similarity": 0.31, "status": "success"}
    members = [("000000000.jpg", encoded(0)), ("000000000.json", json.dumps({"key": "000000000", **own}).encode())]
    write_tar(here / "out/00000.tar", [*members, ("000000000.txt", b"a cat")])
    table = {"key": ["000000000", "000000001"], "caption": ["a cat", None], "clip": [0.25, None]}
    parquet.write_table(pa.table(table), here / "out/00000.parquet")
    put(here / "out", {"00000_stats.json": b'{"count": 2}'})
    outcome = yield "encode out"
    outcome.check(keys=["000000000"], skipped={".json without an image": 1})
    assert outcome.rows["000000000"] == {**own, "key": "000000000", "caption": "a cat", "clip": 0.25}


@TABLES.case("The same in img2dataset's format `files`: a folder of images with `.json` and `.txt`")
def img2dataset_files(here: Path) -> Steps:
    files = {"000000000.jpg": encoded(0), "000000000.json": b'{"width": 48}', "000000000.txt": b"a cat"}
    put(here / "out/00000", files)
    outcome = yield "encode out"
    outcome.check(labels={"00000/000000000.jpg": {"folder": "00000", "width": 48, "caption": "a cat"}})


@TABLES.case("In its format `parquet`: images in a column `jpg`")
def img2dataset_parquet(here: Path) -> Steps:
    table = {"key": ["000000000"], "jpg": [encoded(0)], "caption": ["a cat"], "width": [48]}
    (here / "out").mkdir()
    parquet.write_table(pa.table(table), here / "out/00000.parquet")
    outcome = yield "encode out"
    outcome.check(labels={"000000000": {"caption": "a cat", "key": "000000000", "width": 48}})
