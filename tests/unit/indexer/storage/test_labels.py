"""Labels packed in few files: what code files hold comes back, and files of format version 2 are read."""

import json
import os
import time
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.codes.label_columns import LabelColumn
from encoder.codes.strings import TextColumn
from encoder.errors import HashgrainError, Reason
from encoder.images.labels.values import LabelKind, as_kind, kind_of
from encoder.levels import Level
from encoder.runtime.publish import sha256_of
from indexer.build import build
from indexer.index import Index
from indexer.settings import BuildSettings, OnDuplicate
from indexer.storage import row_writer
from indexer.storage.columns import write_column, write_text
from indexer.storage.labels import LabelField, LabelStore, LabelWriter
from indexer.verify import verify

VALUES = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text("aé\0", max_size=3)
    | st.lists(st.text("ab", max_size=2), max_size=3).map(tuple)
)
ROWS = st.lists(st.dictionaries(st.sampled_from("abc"), VALUES), max_size=4)


def codes_of(rows):
    return {Level.FINE: np.zeros((len(rows), 1), np.uint8)}


def built(write_codes, tmp_path, parts, keys=None, **settings):
    """Build an index of code files with labels, and return it with the build's report."""
    names = [f"part{number}" for number in range(len(parts))]
    files = [
        write_codes(name, codes_of(rows), labels=rows, keys=keys[number] if keys else None)
        for number, (name, rows) in enumerate(zip(names, parts, strict=True))
    ]
    report = build(files, tmp_path / "index", BuildSettings(overwrite=True, **settings))
    return Index(tmp_path / "index"), report


@settings(max_examples=40)
@given(parts=st.lists(ROWS, min_size=1, max_size=3))
def test_labels_of_code_files_come_back_as_their_joined_kinds(write_codes, tmp_path, parts):
    index, _ = built(write_codes, tmp_path, parts)
    every = [row for rows in parts for row in rows]
    kinds = {
        name: reduce(LabelKind.joined, (kind_of(row[name]) for row in every if name in row))
        for name in sorted({name for row in every for name in row})
    }
    assert {field.name: field.kind for field in index.manifest.segments[0].labels} == kinds
    for number, row in enumerate(every):
        expected = {name: as_kind(value, kinds[name]) for name, value in sorted(row.items())}
        if any(isinstance(value, int) and abs(value) >= 2**53 for value in row.values()):
            continue  # float64 of one file has rounded what is text over all
        assert index.labels(number) == expected
        assert [type(value) for value in index.labels(number).values()] == [type(value) for value in expected.values()]
    verify(tmp_path / "index", lambda *_: None)


def test_rows_that_are_left_out_do_not_shift_labels(write_codes, tmp_path):
    parts = [
        [{"t": "a", "l": ("x",), "n": 1}, {"t": "b", "l": ("y", "z")}],
        [{"t": "no", "l": ("no",), "n": 2}, {"t": "c", "l": ()}],
    ]
    index, _ = built(write_codes, tmp_path, parts, [["1", "2"], ["1", "3"]], on_duplicate=OnDuplicate.FIRST)
    assert [index.labels(row) for row in range(3)] == [*parts[0], parts[1][1]]


def test_a_clash_is_one_notice_with_both_kinds_and_a_key_of_each(write_codes, tmp_path):
    parts = [[{}, {"x": 1, "y": 1}], [{"x": "one", "y": 2.5}, {"x": "two"}], [{"x": True}]]
    index, report = built(write_codes, tmp_path, parts)
    assert report.notices == ("label 'x' is int in 'part0-1' and text in 'part1-0'; it is kept as text",)
    assert [index.labels(row).get("x") for row in range(5)] == [None, "1", "one", "two", "true"]
    assert [index.labels(row).get("y") for row in range(3)] == [None, 1.0, 2.5]


def test_an_index_has_the_fields_of_the_most_files_and_says_what_it_leaves_out(write_codes, tmp_path, monkeypatch):
    monkeypatch.setattr(row_writer, "MAX_FIELDS", 3)
    parts = [[{f"{part}-{n}": n for n in range(2)} | {"shared": part}] for part in range(3)]
    index, report = built(write_codes, tmp_path, parts)
    assert [field.name for field in index.manifest.segments[0].labels] == ["0-0", "0-1", "shared"]
    assert report.notices == ("4 labels left out, first '1-0': an index has the 3 that the most files have",)
    assert [index.labels(row)["shared"] for row in range(3)] == [0, 1, 2]


def test_the_command_shows_kinds_and_clashes(write_codes, tmp_path, command):
    parts = [[{"x": 1, "tags": ("a", "b"), "sold": True, "price": 0.5}], [{"x": "one"}]]
    for number, rows in enumerate(parts):
        write_codes(f"part{number}", codes_of(rows), labels=rows)
    code, _, err = command("indexer", "build", tmp_path / "codes", "--out", tmp_path / "index")
    assert code == 0
    assert "label 'x' is int in 'part0-0' and text in 'part1-0'; it is kept as text" in err
    assert (
        "labels: price (float), sold (bool), tags (texts), x (text)"
        in command("indexer", "info", "--index", tmp_path / "index")[1]
    )
    assert "label tags (texts): 1 row" in command("encoder", "inspect", tmp_path / "codes")[1]
    where = "label.tags has 'b' and label.sold = true and label.price < 1"
    code, out, _ = command("indexer", "query", "key:part0-0", "--index", tmp_path / "index", "--where", where, "--json")
    assert code == 0
    assert json.loads(out)["labels"] == {"price": 0.5, "sold": True, "tags": ["a", "b"], "x": "1"}
    code, out, _ = command("indexer", "query", "key:part0-0", "--index", tmp_path / "index", "--where", where)
    assert "price=0.5  sold=true  tags=a, b  x=1" in out


def opened(folder):
    """Return the label files of which this process holds a handle."""
    names = (os.path.realpath(handle) for handle in Path("/proc/self/fd").iterdir())
    return [name for name in names if str(folder) in name and "label" in name]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts handles as Linux lists them")
def test_a_thousand_fields_are_built_in_seconds_and_mapped_in_few_files(write_codes, tmp_path):
    rows = [
        {f"{n}": (n * row, f"{n} {row}", n / 2, bool(row % 2), (f"{n}", f"{row}"))[n % 5] for n in range(1000)}
        for row in range(64)
    ]
    path = write_codes("wide", codes_of(rows), labels=rows)
    start = time.process_time()
    build([path], tmp_path / "index", BuildSettings())
    assert time.process_time() - start < 10
    index = Index(tmp_path / "index")
    assert index.labels(63) == dict(sorted(rows[63].items()))
    assert len(opened(tmp_path / "index")) == 9


def test_a_segment_of_format_version_2_is_read(write_codes, tmp_path):
    """As its writer wrote it: files of their own for each field, and `is_text` instead of a kind."""
    rows = [{"n": 3, "t": "é"}, {}, {"n": -1}]
    index, _ = built(write_codes, tmp_path, [rows])
    folder, segment = index.folder, index.folder / "segment-000"
    for file in segment.glob("labels.*"):
        file.unlink()
    write_column(segment / "label.000.npy", np.array([3, 0, -1]))
    write_column(segment / "label.000.present.npy", np.array([True, False, True]))
    write_text(segment, "label.001", [TextColumn.of(["é", "", ""])])
    write_column(segment / "label.001.present.npy", np.array([True, False, False]))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["version"] = 2
    manifest["segments"][0]["labels"] = [{"name": "n", "is_text": False}, {"name": "t", "is_text": True}]
    manifest["files"] = {
        str(path.relative_to(folder)): [path.stat().st_size, sha256_of(path)]
        for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    pointer = {"generation": folder.name, "manifest_sha256": sha256_of(folder / "manifest.json")}
    (tmp_path / "index/CURRENT").write_text(json.dumps(pointer))
    old = verify(tmp_path / "index", lambda *_: None)
    assert [old.labels(row) for row in range(3)] == rows
    assert {field.name: field.kind for field in old.manifest.segments[0].labels} == {"n": "int", "t": "text"}


COLUMNS = {
    "b": LabelColumn.of(LabelKind.BOOL, [True, None]),
    "f": LabelColumn.of(LabelKind.FLOAT, [0.5, None]),
    "i": LabelColumn.of(LabelKind.INT, [1, 2]),
    "l": LabelColumn.of(LabelKind.TEXTS, [("a", "bc"), ()]),
    "l2": LabelColumn.of(LabelKind.TEXTS, [("d",), None]),
    "t": LabelColumn.of(LabelKind.TEXT, ["a", "bc"]),
    "t2": LabelColumn.of(LabelKind.TEXT, [None, "d"]),
}


def test_what_is_damaged_is_said_whatever_is_damaged(rng):
    """Each file cut, and each offset replaced: never another error than that of a damaged index, never memory of others."""
    fields = [LabelField(name, column.kind) for name, column in COLUMNS.items()]
    with TemporaryDirectory() as name:
        folder = Path(name)
        with LabelWriter(folder, 2, fields) as writer:
            writer.add(COLUMNS.get, 2)
            writer.finish()
        files = sorted(folder.iterdir())
        assert len(files) == 9
        for file in files:
            whole = file.read_bytes()
            for harmed in (whole[:-1], whole[:40], b"", None):
                file.unlink() if harmed is None else file.write_bytes(harmed)
                store = LabelStore(folder, 2, fields)
                if harmed is None and file.name == "labels.present.npy":
                    store._packed = True  # a segment without this file is taken for one of version 2
                with pytest.raises(HashgrainError) as caught:
                    store.of_row(0)
                assert caught.value.reason is Reason.INDEX_DAMAGED
                file.write_bytes(whole)
            if "offsets" in file.name or "starts" in file.name:
                for value in (2**64 - 1, 2**40, 9):
                    values = np.load(file)
                    values[..., -1] = value
                    np.save(file, values)
                    with pytest.raises(HashgrainError):
                        LabelStore(folder, 2, fields).of_row(0)
                file.write_bytes(whole)
        assert LabelStore(folder, 2, fields).of_row(0) == {
            name: column.value(0) for name, column in COLUMNS.items() if name != "t2"
        }
