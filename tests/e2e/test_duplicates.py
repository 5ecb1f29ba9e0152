"""Near-duplicates from the command line: found, written, looked through, removed."""

import base64
import hashlib
import json
import re
import shutil

import pytest
from pyarrow import parquet

from encoder.codes.file import list_code_files
from encoder.images.expand import expand
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings
from indexer.build import build
from indexer.settings import BuildSettings
from tests.support.pictures import encoded, write_tar

HOSTILE = "z<img src=x onerror=alert(1)>\u202e.jpg"


@pytest.fixture
def index(tmp_path, model_path):
    """An index of six pictures: one three times, under odd names, one twice, one once."""
    names = [("a.jpg", 1), ("b.jpg", 1), (HOSTILE, 1), ("c.jpg", 2), ("d.jpg", 2), ("e.jpg", 3)]
    write_tar(tmp_path / "shards/s.tar", [(name, encoded(seed)) for name, seed in names])
    encode(expand([str(tmp_path / "shards")]), model_path, tmp_path / "codes", EncodeSettings(batch=8))
    build(list_code_files([tmp_path / "codes"]), tmp_path / "index", BuildSettings())
    return tmp_path / "index"


def test_groups_are_shown_and_written_and_the_marks_remove_them(command, index, tmp_path):
    page, lines, table = tmp_path / "page.html", tmp_path / "groups.jsonl", tmp_path / "groups.parquet"
    arguments = ("duplicates", "--index", index, "--radius", 0)
    status, out, err = command("indexer", *arguments, "--save-html", page, "--out", lines)
    assert status == 0, err
    assert "2 groups, 3 rows more than one of each" in out
    groups = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [group["size"] for group in groups] == [3, 2]
    assert {row["distance"] for group in groups for row in group["rows"]} == {0}
    assert command("indexer", *arguments, "--json")[1] == lines.read_text()

    assert command("indexer", *arguments, "--out", table)[0] == 0
    rows = parquet.read_table(table).to_pylist()
    assert [(row["group"], row["key"]) for row in rows] == [
        (group["group"], row["key"]) for group in groups for row in group["rows"]
    ]

    html = page.read_text()
    assert html.count('class="card" aria-pressed="false"') == 5
    assert "<img src=x" not in html
    assert "\u202e" not in html
    [script] = re.findall(r"<script>(.*)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html

    marks = tmp_path / "marks.jsonl"
    marked = [
        {"key": row["key"], "mark": "drop" if at else "keep"}
        for group in groups
        for at, row in enumerate(group["rows"])
    ]
    marks.write_text("".join(json.dumps(mark) + "\n" for mark in marked))
    status, out, err = command("indexer", "remove", "--from-file", marks, "--index", index)
    assert status == 0, err
    assert out.startswith("3 rows removed")
    assert "0 groups" in command("indexer", *arguments)[1]


@pytest.mark.parametrize(
    "line", ['{"key": 3, "mark": "drop"}', "[]", "word", '{"key": "a.jpg"}', '{"key": "a.jpg", "mark": "gone"}']
)
def test_marks_that_are_none_remove_nothing(command, index, tmp_path, line):
    marks = tmp_path / "marks.jsonl"
    marks.write_text('{"key": "a", "mark": "drop"}\n' + line + "\n")
    status, _, err = command("indexer", "remove", "--from-file", marks, "--index", index)
    assert status == 1
    assert "cannot be read as keys" in err
    assert len(err.strip().splitlines()) == 1
    assert "6 rows of" in command("indexer", "duplicates", "--index", index)[1]


def test_what_goes_wrong_is_one_line(command, index, tmp_path):
    for arguments, word in (
        (("--out", tmp_path / "groups.csv"), "JSON lines nor Parquet"),
        (("--where", "label.x ="), "filter"),
        (("--index", tmp_path / "none"), "index"),
        (("--radius", 64), "joins all rows"),
        (("--out", tmp_path / "no/such/g.parquet"), "no/such"),
    ):
        status, _, err = command("indexer", "duplicates", "--index", index, *arguments)
        assert status, arguments
        assert word in err
        assert "Traceback" not in err
        assert len([line for line in err.splitlines() if line.startswith("error")]) == 1, err


def test_pictures_that_are_gone_leave_their_reason(command, index, tmp_path):
    shutil.rmtree(tmp_path / "shards")
    status, _, err = command("indexer", "duplicates", "--index", index, "--save-html", tmp_path / "page.html")
    assert status == 0, err
    assert (tmp_path / "page.html").read_text().count('<span class="gone">') == 5
