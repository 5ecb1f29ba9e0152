"""Values, kinds and their join, and how an object becomes labels."""

import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.images.labels.values import (
    MAX_CHARS,
    MAX_DEPTH,
    MAX_FIELDS,
    MAX_ITEMS,
    MAX_NAMED,
    BadLabels,
    LabelKind,
    as_kind,
    flatten,
    kind_of,
    text_of,
)

BOOL, INT, FLOAT, TEXT, TEXTS = LabelKind
VALUES = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.lists(st.text(max_size=3), max_size=3).map(tuple)
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text(max_size=4), parts, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("one", "other", "joined", "clashes"),
    [
        (BOOL, INT, TEXT, True),
        (BOOL, FLOAT, TEXT, True),
        (BOOL, TEXT, TEXT, True),
        (BOOL, TEXTS, TEXTS, True),
        (INT, FLOAT, FLOAT, False),
        (INT, TEXT, TEXT, True),
        (INT, TEXTS, TEXTS, True),
        (FLOAT, TEXT, TEXT, True),
        (FLOAT, TEXTS, TEXTS, True),
        (TEXT, TEXTS, TEXTS, True),
    ],
)
def test_two_kinds_become_one(one, other, joined, clashes):
    assert one.joined(other) is other.joined(one) is joined
    assert one.clashes(other) is other.clashes(one) is clashes
    assert one.joined(one) is one
    assert not one.clashes(one)


def test_the_order_of_joins_makes_no_difference():
    for a, b, c in itertools.product(LabelKind, repeat=3):
        assert a.joined(b).joined(c) is a.joined(b.joined(c))


@given(VALUES, st.lists(st.sampled_from(LabelKind), max_size=3))
def test_a_value_is_the_same_however_often_its_kind_was_joined(value, kinds):
    step, kind = value, kind_of(value)
    for other in kinds:
        kind = kind.joined(other)
        step = as_kind(step, kind)
        assert kind_of(step) is kind
    exact = not isinstance(value, int) or isinstance(value, bool) or abs(value) < 2**53  # float64 rounds the others
    assert step == as_kind(value, kind) or not exact


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"), (False, "false"), (3, "3"), (3.0, "3"), (-0.0, "0"), (3.5, "3.5"), (1e300, "1e+300"),
        (math.inf, "Infinity"), (-math.inf, "-Infinity"), ("a", "a"), (("a", "b"), "a, b"), (2**63 - 1, str(2**63 - 1)),
    ],
)  # fmt: skip
def test_numbers_are_written_as_json_writes_them(value, text):
    assert text_of(value) == text
    if not isinstance(value, str | tuple):
        assert json.loads(text) == value


def test_an_object_becomes_fields_with_their_kinds():
    labels, faults = flatten(
        {
            "sold": True, "n": 3, "price": 3.99, "name": "cup", "tags": ["red", 3, 2.0, None, False], "none": [],
            "exif": {"iso": 400, "lens": {"f": 1.8}, "empty": {}}, "gone": None, "nan": math.nan, "far": math.inf,
            "long": 2**70, "a.b": 1,
        }
    )  # fmt: skip
    assert labels == {
        "sold": True, "n": 3, "price": 3.99, "name": "cup", "tags": ("red", "3", "2", "false"), "none": (),
        "exif.iso": 400, "exif.lens.f": 1.8, "far": math.inf, "long": str(2**70), "a.b": 1,
    }  # fmt: skip
    assert labels["sold"] is True
    assert faults == []


@pytest.mark.parametrize(
    ("fields", "kept", "why"),
    [
        ({"boxes": [{"x": 1}], "more": [[1]], "n": 1}, {"n": 1}, "left out, lists of lists or objects: 2, first 'boxes'"),
        ({"a\0b": 1, "n": 1}, {"n": 1}, r"left out, a control character in the name: 1, first 'a\x00b'"),
        ({"a\nb": 1, "\x7f": 2}, {}, r"left out, a control character in the name: 2, first 'a\nb'"),
        ({"x" * (MAX_CHARS + 1): 1}, {}, f"left out, a name of more than 1,024 characters: 1, first '{'x' * 80}'"),
        ({"a.b": 1, "a": {"b": 2, "c": 3}}, {"a.b": 1, "a.c": 3}, "left out, an earlier field has the name: 1, first 'a.b'"),
        ({"s": "é" * 1025}, {"s": "é" * 1024}, "cut, texts of more than 1,024 characters: 1, first 's'"),
        ({"raw": b"x", "n": 1}, {"n": 1}, "left out, values of type bytes: 1, first 'raw'"),
    ],
)  # fmt: skip
def test_what_cannot_be_held_is_said_and_the_rest_is_kept(fields, kept, why):
    assert flatten(fields) == (kept, [why])


def test_fields_items_and_depth_are_bounded_and_what_is_beyond_is_counted():
    labels, faults = flatten({f"{n:04}": n for n in range(MAX_FIELDS + 5)})
    assert len(labels) == MAX_FIELDS
    assert faults == ["left out, fields beyond the first 1,024: 5, first '1024'"]
    labels, faults = flatten({"tags": list(range(MAX_ITEMS + 1))})
    assert labels == {"tags": tuple(map(str, range(MAX_ITEMS)))}
    assert faults == ["cut, lists of more than 1,024 items: 1, first 'tags'"]
    deep: dict[str, object] = {"x": 1}
    for _ in range(MAX_DEPTH - 1):
        deep = {"d": deep}
    assert flatten(deep) == ({"d." * (MAX_DEPTH - 1) + "x": 1}, [])
    assert flatten({"d": deep})[1] == [f"left out, objects nested deeper than 16: 1, first '{'d.' * 15}d'"]


def test_lone_surrogates_become_question_marks():
    assert flatten({"\ud800": "a\udcff"}) == ({"?": "a?"}, [])


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=5))
def test_any_object_becomes_labels_that_can_be_stored(fields):
    labels, _ = flatten(fields)
    for name, value in labels.items():
        name.encode()
        assert "\0" not in name
        for text in value if isinstance(value, tuple) else (str(value),):
            assert len(text.encode()) <= 4 * MAX_CHARS
        assert kind_of(value) in LabelKind
        assert not (isinstance(value, float) and math.isnan(value))
        assert not isinstance(value, int) or -(2**63) <= value < 2**63


def test_bad_labels_are_all_counted_and_the_first_ones_named():
    bad, more = BadLabels(), BadLabels()
    for n in range(MAX_NAMED - 1):
        bad.add(str(n), "why")
    for n in range(3):
        more.add(f"more {n}\udcff", "why")
    bad.extend(more)
    assert (bad.count, len(bad.first), bad.first[-1].name) == (MAX_NAMED + 2, MAX_NAMED, "more 0?")
