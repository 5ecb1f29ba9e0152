"""Labels of a code file: every kind comes back, mixtures become one kind, many fields take few passes."""

import json
import time

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.codes import labels as module
from encoder.codes.file import _seal, open_codes
from encoder.errors import HashgrainError, Reason
from encoder.images.labels.sidecars import read_sidecar
from encoder.images.labels.values import MAX_FIELDS, MAX_NAMED, LabelKind, as_kind, flatten
from encoder.levels import Level

CODES = {Level.FINE: np.zeros((3, 1), np.uint8)}


def codes_of(rows):
    return {Level.FINE: np.zeros((len(rows), 1), np.uint8)}


def written(write_codes, rows, name="a"):
    """Return the kinds and the rows' labels as they are read back, and what is said of them."""
    with open_codes(write_codes(name, codes_of(rows), labels=rows)) as file:
        columns = {field: file.label(field).to_list() for field in file.label_fields()}
        back = [{field: of[row] for field, of in columns.items() if of[row] is not None} for row in range(len(rows))]
        assert file.header.bad_labels >= len(file.bad_labels())
        return file.label_fields(), back, file.bad_labels()


def test_every_kind_comes_back(write_codes):
    rows = [
        {"sold": True, "n": -(2**63), "price": 3.5, "name": "é", "tags": ("red", ""), "far": float("inf")},
        {"sold": False, "price": 3, "name": "", "tags": ()},
        {},
    ]
    kinds, back, bad = written(write_codes, rows)
    assert back == rows
    assert [type(value) for value in back[0].values()] == [float, int, str, float, bool, tuple]
    assert kinds == {"far": "float", "n": "int", "name": "text", "price": "float", "sold": "bool", "tags": "texts"}
    assert bad == []


@pytest.mark.parametrize("beside", [-1, 0, 1])
def test_rows_come_back_however_many_fill_a_line(write_codes, beside):
    rows = [{"n": number} for number in range(2 * module.OF_A_LINE + beside)]
    assert written(write_codes, rows)[1] == rows


@pytest.mark.parametrize(
    ("values", "kind", "stored", "says"),
    [
        ([1, "one"], "text", ["1", "one"], "label 'x' is text here and int before, as of 'a-0'; all are kept as text"),
        ([1, 2.5], "float", [1, 2.5], None),
        ([True, 1], "text", ["true", "1"], "label 'x' is int here and bool before, as of 'a-0'; all are kept as text"),
        ([2.0, "x"], "text", ["2", "x"], "label 'x' is text here and float before, as of 'a-0'; all are kept as text"),
        (["a", ("b", "c")], "texts", [("a",), ("b", "c")], "label 'x' is texts here and text before, as of 'a-0'; all are kept as texts"),
        ([1.5, ()], "texts", [("1.5",), ()], "label 'x' is texts here and float before, as of 'a-0'; all are kept as texts"),
    ],
)  # fmt: skip
def test_a_field_of_several_kinds_becomes_one_and_that_is_said_once(write_codes, values, kind, stored, says):
    kinds, back, bad = written(write_codes, [{"x": value} for value in [*values, *values]])
    assert kinds == {"x": kind}
    assert back == [{"x": value} for value in [*stored, *stored]]
    assert [(one.name, one.why) for one in bad] == ([("a-1", says)] if says else [])


values = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=4)
    | st.lists(st.text(max_size=3), max_size=3).map(tuple)
)


@settings(max_examples=100)
@given(
    rows=st.lists(st.dictionaries(st.sampled_from(["a", "b/c", "", "é"]), values, max_size=4), max_size=6),
    memory=st.sampled_from([1, 200, 1 << 27]),
)
def test_whatever_is_written_comes_back_as_its_fields_kind(write_codes, monkeypatch, rows, memory):
    monkeypatch.setattr(module, "MEMORY", memory)
    kinds, back, _ = written(write_codes, rows)
    assert set(kinds) == {name for row in rows for name in row}
    for row, read in zip(rows, back, strict=True):
        assert read == {name: as_kind(value, kinds[name]) for name, value in row.items()}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=3), parts, max_size=3),
    max_leaves=12,
)


@settings(max_examples=150)
@given(st.lists(st.dictionaries(st.text(max_size=4), json_values, max_size=4), min_size=1, max_size=3))
def test_any_json_can_stand_beside_an_image(write_codes, contents):
    rows = [read_sidecar("a.json", json.dumps(content).encode())[0] for content in contents]
    kinds, back, _ = written(write_codes, rows)
    assert back == [{name: as_kind(value, kinds[name]) for name, value in row.items()} for row in rows]
    assert rows == [flatten(content)[0] for content in contents]


def test_fields_beyond_the_limit_of_a_shard_are_counted_by_image(write_codes):
    rows = [{f"{n:04}": n for n in range(MAX_FIELDS)}, {"0000": 7, "more": 1, "most": 2}, {"most": 3}]
    kinds, back, bad = written(write_codes, rows)
    assert (len(kinds), back[1], back[2]) == (MAX_FIELDS, {"0000": 7}, {})
    assert [(one.name, one.why) for one in bad] == [
        ("a-1", "left out, fields beyond the first 1,024 of the shard: 2, first 'more'"),
        ("a-2", "left out, fields beyond the first 1,024 of the shard: 1, first 'most'"),
    ]


def test_bad_labels_are_named_up_to_a_number_and_counted_beyond(write_codes):
    full = {f"{n:04}": n for n in range(MAX_FIELDS)}
    path = write_codes("many", codes_of(range(202)), labels=[full, *[{"x": 1}] * 201])
    with open_codes(path) as file:
        assert (file.header.bad_labels, len(file.bad_labels())) == (201, MAX_NAMED)


def test_a_thousand_fields_are_written_and_read_in_seconds(write_codes):
    rows = [{f"field {n}": n * row if n % 2 else f"{n} {row}" for n in range(1000)} for row in range(64)]
    start = time.process_time()
    path = write_codes("wide", codes_of(rows), labels=rows)
    assert time.process_time() - start < 10  # it took 132 s when every field read all labels again
    with open_codes(path) as file:
        assert [file.label(name).value(7) for name in ("field 3", "field 998")] == [21, "998 7"]


def test_format_version_1_named_no_kinds(write_codes):
    path = write_codes("old", CODES, labels=[{"n": 1, "t": "x"}, {}, {"n": 2}])
    with h5py.File(path, "r+") as file:
        for group in file["labels"].values():
            del group.attrs["kind"]
    _seal(path)
    with open_codes(path) as file:
        assert file.label_fields() == {"n": LabelKind.INT, "t": LabelKind.TEXT}
        assert (file.label("n").to_list(), file.label("t").to_list()) == ([1, None, 2], ["x", None, None])
        assert file.bad_labels() == []


def another_kind(group):
    group.attrs["kind"] = "complex"


def kind_of_another(group):
    group.attrs["kind"] = "float"


def falling(group):
    group["starts"][...] = [0, 2, 1, 2]


def beyond(group):
    group["starts"][...] = [0, 1, 1, 9]


def no_text(group):
    group["text"][...] = 0xFF


@pytest.mark.parametrize("harm", [another_kind, kind_of_another, falling, beyond, no_text])
def test_labels_that_contradict_themselves_are_refused(write_codes, harm):
    path = write_codes("bad", CODES, labels=[{"tags": ("a", "b")}, {}, {}])
    with h5py.File(path, "r+") as file:
        harm(file["labels/000"])
    _seal(path)
    with pytest.raises(HashgrainError) as caught, open_codes(path) as codes:
        codes.label("tags")
    assert caught.value.reason is Reason.CODES_DAMAGED


def test_a_number_that_is_none_is_no_value(write_codes):
    path = write_codes("nan", CODES, labels=[{"x": 1.5}, {"x": 2.5}, {}])
    with h5py.File(path, "r+") as file:
        file["labels/000/values"][0] = np.nan
    _seal(path)
    with open_codes(path) as codes:
        assert codes.label("x").to_list() == [None, 2.5, None]
