import math
import operator
from fnmatch import fnmatchcase
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.codes.label_columns import LabelColumn
from encoder.codes.strings import TextColumn, TextsColumn
from encoder.errors import HashgrainError, Reason
from encoder.images.labels.values import LabelKind, as_kind, kind_of
from encoder.images.shards import ShardKind
from encoder.levels import Level
from indexer.build import build
from indexer.filters import evaluate as module
from indexer.filters.evaluate import passing
from indexer.filters.expression import label_fields
from indexer.filters.parser import parse, spelled
from indexer.index import Index
from indexer.settings import BuildSettings
from indexer.storage.columns import write_column, write_text
from indexer.storage.labels import LabelField, LabelWriter
from indexer.storage.manifest import ShardSpan
from indexer.storage.row_table import RowTable, hash_keys


def table_of(folder, rows):
    """Write rows (dicts of `key` and `labels`) as a segment's columns."""
    keys = [row["key"] for row in rows]
    hashes = hash_keys(keys)
    write_text(folder, "keys", [TextColumn.of(keys)])
    write_column(folder / "keys.order.npy", np.argsort(hashes, kind="stable"))
    write_column(folder / "keys.hashes.npy", np.sort(hashes))
    write_column(folder / "places.npy", np.zeros((len(rows), 2), np.uint64))
    fields = []
    for name in sorted({name for row in rows for name in row["labels"]}):
        kinds = [kind_of(row["labels"][name]) for row in rows if name in row["labels"]]
        fields.append(LabelField(name, reduce(LabelKind.joined, kinds)))
    with LabelWriter(folder, len(rows), fields) as writer:
        for part in (rows[:2], rows[2:]):
            columns = {
                field.name: LabelColumn.of(field.kind, [row["labels"].get(field.name) for row in part])
                for field in fields
            }
            writer.add(columns.get, len(part))
        writer.finish()
    return RowTable(folder, len(rows), fields), {field.name: field.kind for field in fields}


def spans_of(shards):
    """Return the spans of (path, rows)."""
    firsts = np.cumsum([0, *(rows for _, rows in shards)]).tolist()
    return [ShardSpan(first, ShardKind.TAR, path, "") for (path, _), first in zip(shards, firsts, strict=False)]


ROWS = [
    {"key": "a/0.jpg", "labels": {"fine": 3, "name": "dog", "price": 3.99, "sold": True, "tags": ("red", "round")}},
    {"key": "a/1.jpg", "labels": {"fine": -7, "name": "Dog*", "price": 4, "tags": ()}},
    {"key": "a/2.jpg", "labels": {"name": "", "price": -0.0, "sold": False}},
    {"key": "b/Ä.jpg", "labels": {"fine": 0, "sold": True, "tags": ("", "Red", "red")}},
    {"key": "b/🐕.jpg", "labels": {"fine": 2**63 - 1, "name": "ünï", "price": math.inf, "tags": ("ünï", "x*")}},
]
SHARDS = [("/data/train-0000.tar", 2), ("/data/empty.tar", 0), ("/data/train/val.tar", 3)]


@pytest.fixture(params=[1, 2, 1 << 20], ids=lambda block: f"block{block}")
def found(request, monkeypatch, tmp_path):
    """Return the rows of ROWS that a filter finds, whatever the size of a block."""
    monkeypatch.setattr(module, "BLOCK", request.param)
    table, labels = table_of(tmp_path, ROWS)
    return lambda text: np.flatnonzero(passing(parse(text, labels), table, spans_of(SHARDS))).tolist()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("label.fine in (3, 0, 5)", [0, 3]),
        ("label.fine not in (3, 0)", [1, 4]),
        ("not label.fine in (3, 0)", [1, 4]),
        ("label.fine = 0", [3]),
        ("label.fine != 3", [1, 3, 4]),
        ("label.fine < 0", [1]),
        ("label.fine <= 0", [1, 3]),
        ("label.fine > 3", [4]),
        ("label.fine >= 3", [0, 4]),
        ("label.fine < 2.5", [1, 3]),
        ("label.fine >= -7.0", [0, 1, 3, 4]),
        ("label.fine = 3.0 or label.fine = 2.5", [0]),
        ("label.fine != 2.5", [0, 1, 3, 4]),
        ("label.fine in (3.0, 0.5, 1e30)", [0]),
        ("label.fine < 1e30", [0, 1, 3, 4]),
        ("not label.fine > 9.3e18", [0, 1, 3, 4]),
        ("label.price < 3.99", [2]),
        ("label.price <= 3.99", [0, 2]),
        ("label.price = 4", [1]),
        ("label.price in (4, 0, 3.99)", [0, 1, 2]),
        ("label.price not in (4, 0)", [0, 4]),
        ("label.price in (-0.0) and label.price = -0.0", [2]),
        ("label.fine in (-0.0)", [3]),
        ("label.price > 1e308", [4]),
        ("label.price != 9007199254740993", [0, 1, 2, 4]),
        ("label.price is null", [3]),
        ("label.sold = true", [0, 3]),
        ("label.sold != TRUE", [2]),
        ("not label.sold = true", [2]),
        ("label.sold in (false, true)", [0, 2, 3]),
        ("label.sold is null", [1, 4]),
        ("label.tags has 'red'", [0, 3]),
        ("label.tags not has 'red'", [1, 4]),
        ("not label.tags has ''", [0, 1, 4]),
        ("label.tags has 'r'", []),
        ("label.tags ~ '[rR]ed'", [0, 3]),
        ("label.tags ~ '*'", [0, 3, 4]),
        ("label.tags !~ 'r*'", [1, 4]),
        ("label.tags ~ '?[*]'", [4]),
        ("label.tags is null", [2]),
        ("label.tags is not null", [0, 1, 3, 4]),
        ("label.tags has 'red' or label.tags is null", [0, 2, 3]),
        ("label.fine is null", [2]),
        ("not label.fine is null", [0, 1, 3, 4]),
        ("label.fine = 3 or label.name = ''", [0, 2]),
        ("label.fine != 3 or label.fine is null", [1, 2, 3, 4]),
        ("not (label.fine = 3 and label.name = 'dog')", [1, 2, 3, 4]),
        ("not (label.fine = 3 or label.name = 'x')", [1, 4]),
        ("label.name = ''", [2]),
        ("label.name ~ ''", [2]),
        ("label.name ~ '*'", [0, 1, 2, 4]),
        ("label.name !~ 'dog'", [1, 2, 4]),
        ("label.name ~ '?og*'", [0, 1]),
        ("label.name ~ '*[*]'", [1]),
        ("label.name ~ '???'", [0, 4]),
        ("label.name ~ '[!d]*'", [1, 4]),
        ("label.name < 'dog'", [1, 2]),
        ("label.name in ('ünï', 'x')", [4]),
        ("key = 'b/🐕.jpg'", [4]),
        ("key ~ 'b/?.jpg'", [3, 4]),
        ("key ~ '*jpg' and key > 'a/1.jpg'", [2, 3, 4]),
        ("key is null", []),
        ("shard ~ 'train-*'", [0, 1]),
        ("shard ~ '/data/train*'", [0, 1, 2, 3, 4]),
        ("shard !~ 'train-*'", [2, 3, 4]),
        ("shard = 'val.tar'", []),
        ("shard in ('/data/train/val.tar', '/data/empty.tar')", [2, 3, 4]),
        ("shard < '/data/train/'", [0, 1]),
        ("shard is not null and not label.name is null", [0, 1, 2, 4]),
    ],
)
def test_which_rows_pass(found, text, rows):
    assert found(text) == rows


OTHERS = {"other": LabelKind.INT, "text": LabelKind.TEXT, "tags": LabelKind.TEXTS, "sold": LabelKind.BOOL}


@pytest.mark.parametrize(
    "text", ["key = 'a'", "shard ~ '*'", "label.other = 3", "label.text ~ '*'", "label.tags has 'a'", "key is null"]
)
def test_no_rows_give_no_rows(tmp_path, text):
    table, _ = table_of(tmp_path, [])
    for shards in ([], [("/empty.tar", 0)]):
        assert passing(parse(text, OTHERS), table, spans_of(shards)).shape == (0,)


def test_a_label_of_another_segment_is_missing_here(tmp_path):
    table, _ = table_of(tmp_path, [{**row, "labels": {}} for row in ROWS])
    for text in (
        "label.other = 3", "label.other not in (3)", "label.text ~ '*'", "not label.text = 'a'", "label.tags ~ '*'",
        "not label.tags has 'a'", "label.sold = false", "label.sold != false",
    ):  # fmt: skip
        assert not passing(parse(text, OTHERS), table, spans_of(SHARDS)).any()
    for name in OTHERS:
        assert passing(parse(f"label.{name} is null", OTHERS), table, spans_of(SHARDS)).all()


def test_numbers_of_a_label_that_is_text_elsewhere_are_text(tmp_path):
    table, _ = table_of(tmp_path, ROWS)
    condition = parse("label.fine in ('3', '-7') or label.fine ~ '9*'", {"fine": LabelKind.TEXT})
    assert passing(condition, table, spans_of(SHARDS)).tolist() == [True, True, False, False, True]
    condition = parse("label.sold = 'true'", {"sold": LabelKind.TEXT})
    assert passing(condition, table, spans_of(SHARDS)).tolist() == [True, False, False, True, False]


def test_a_value_of_a_label_that_is_lists_elsewhere_is_a_list_of_one(tmp_path):
    table, _ = table_of(tmp_path, ROWS)
    for text, rows in [("label.name has 'dog'", [0]), ("label.price ~ '3*'", [0]), ("label.price has 'Infinity'", [4])]:
        condition = parse(text, {"name": LabelKind.TEXTS, "price": LabelKind.TEXTS})
        assert np.flatnonzero(passing(condition, table, spans_of(SHARDS))).tolist() == rows


def test_whole_numbers_of_a_label_that_has_others_elsewhere_are_compared_exactly(tmp_path):
    table, _ = table_of(tmp_path, ROWS)
    condition = parse("label.fine = 9223372036854775807 or label.fine < -6.5", {"fine": LabelKind.FLOAT})
    assert passing(condition, table, spans_of(SHARDS)).tolist() == [False, True, False, False, True]


def test_a_path_that_is_no_unicode_is_matched_with_question_marks(tmp_path):
    table, _ = table_of(tmp_path, ROWS[:1])
    for text in ("shard = '/data/?.tar'", "shard ~ '[?].tar'", "shard = '/data/\udcff.tar'"):
        assert passing(parse(text, {}), table, spans_of([("/data/\udcff.tar", 1)])).all()


@pytest.mark.parametrize(
    ("text", "offsets"),
    [(b"abc", [0, 2, 1, 3]), (b"abc", [0, 9, 9, 3]), (b"a\xff\xff", [0, 1, 2, 3]), (b"abc", [2**64 - 1, 0, 0, 3])],
    ids=["falling", "beyond", "no-utf8", "negative"],
)
def test_a_damaged_column_of_text_is_noticed(tmp_path, text, offsets):
    table, _ = table_of(tmp_path, ROWS[:3])
    table.keys = TextColumn(np.frombuffer(text, np.uint8), np.array(offsets, np.uint64))
    with pytest.raises(HashgrainError, match=r"^column of keys, rows 0 to 3, is not text \(.*\); build") as caught:
        passing(parse("key = 'a'", {}), table, spans_of([("/a", 3)]))
    assert caught.value.reason is Reason.INDEX_DAMAGED


@pytest.mark.parametrize("starts", [[0, 3, 2, 2], [0, 1, 2, 9], [2**64 - 1, 0, 0, 2]])
def test_damaged_lists_are_noticed(tmp_path, starts):
    table, labels = table_of(tmp_path, [ROWS[0], ROWS[1], ROWS[2]])
    column = table.label_column("tags")
    harmed = LabelColumn(column.kind, TextsColumn(np.array(starts, np.uint64), column.values.items), column.present)
    table.label_column = {"tags": harmed}.get
    with pytest.raises(
        HashgrainError, match=r"^column of label 'tags', rows 0 to 3, is not lists of the 2 items; build"
    ):
        passing(parse("label.tags has 'red'", labels), table, spans_of([("/a", 3)]))


def test_rows_of_a_built_index_pass(tmp_path, write_codes, rng):
    codes = {Level.FINE: rng.integers(0, 256, (6, 8), np.uint8)}
    for name in "ab":
        labels = [{"fine": n} if n % 2 else {} for n in range(6)]
        write_codes(name, codes, labels=labels, shard_path=f"/data/{name}.tar")
    files = [tmp_path / "codes/a.h5", tmp_path / "codes/b.h5"]
    build(files, tmp_path / "index", BuildSettings(levels=(Level.FINE,)))
    index = Index(tmp_path / "index")
    condition = parse("label.fine > 1 and shard ~ 'b.*'", label_fields(index.manifest.segments))
    [segment] = index.segments
    rows = np.flatnonzero(passing(condition, segment.table, segment.record.shards)).tolist()
    assert [index.key(row) for row in rows] == ["b-3", "b-5"]


# The law: a random filter over random rows in random segments finds what plain Python says of each row by itself, as the segment
# keeps it: a whole number beside others of its field is one of float64 there, which cannot hold each of int64.

ORDERS = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
TEXTS = st.text("ab*[]'\"é🐕\n", max_size=3)
PATTERNS = st.text("aab**?[]!-é", max_size=4)
WHOLE = st.integers(-2, 2) | st.sampled_from([-(2**63), 2**63 - 1, 2**53, 2**53 + 1])
REALS = st.integers(-4, 4).map(lambda half: half / 2) | st.sampled_from([1e30, -1e-5, float(2**53), -0.0])
NUMBERS = WHOLE | REALS
LISTS = st.lists(TEXTS, max_size=3).map(tuple)
NAME_PATTERNS = st.sampled_from(["a.tar", "?b.*", "[!a]"]) | PATTERNS
PATHS = st.sampled_from(["/d/a.tar", "/d/ab.tar", "/e/a.tar", "/d/é"])


class Said(NamedTuple):
    """A filter, and what it says of a row: True, False or None (unknown)."""

    text: str
    of: object
    binds: int
    """3 a test or parentheses, 2 `and`, 1 `or`."""


def inside(part, binds):
    return part.text if part.binds >= binds else f"({part.text})"


def quoted(text, quote):
    return quote + text.replace(quote, 2 * quote) + quote


@st.composite
def segments(draw):
    """Segments: rows, and the (path, rows) of their shards; `mixed` and `lists` have one kind here and another there."""
    drawn = []
    for number in range(draw(st.integers(1, 3))):
        shards = draw(st.lists(st.tuples(PATHS, st.integers(0, 3)), min_size=1, max_size=3))
        labels = st.fixed_dictionaries(
            {},
            optional={
                "n": WHOLE if number == 1 else NUMBERS,
                "t t": TEXTS,
                "mixed": TEXTS if number == 1 else st.booleans() if number == 2 else WHOLE,
                "yes": st.booleans(),
                "lists": LISTS if number == 1 else TEXTS,
                "tags": LISTS,
            },
        )
        rows = [
            {"key": draw(TEXTS), "shard": path, "labels": draw(labels)} for path, count in shards for _ in range(count)
        ]
        drawn.append((rows, shards))
    return drawn


@st.composite
def a_test(draw, labels):
    name = draw(st.sampled_from(["key", "shard", *labels]))
    kind = labels.get(name, LabelKind.TEXT)
    values = {
        LabelKind.BOOL: st.booleans(),
        LabelKind.INT: NUMBERS,
        LabelKind.FLOAT: NUMBERS,
        LabelKind.TEXT: PATHS | TEXTS if name == "shard" else TEXTS | WHOLE.map(str),
        LabelKind.TEXTS: TEXTS,
    }[kind]
    field = spelled(name) if name in labels else name

    def literal(value):
        if isinstance(value, str):
            return quoted(value, draw(st.sampled_from("'\"")))
        return (
            str(value)
            if not isinstance(value, bool)
            else draw(st.sampled_from(["true", "True"] if value else ["false"]))
        )

    def value_of(row):
        value = row["labels"].get(name) if name in labels else row[name]
        return value if value is None or kind.is_number else as_kind(value, kind)

    def known(answer):
        return lambda row: None if (value := value_of(row)) is None else answer(value)

    tests = {
        LabelKind.BOOL: ["same", "in", "null"],
        LabelKind.TEXT: ["order", "in", "null", "like"],
        LabelKind.TEXTS: ["has", "null", "like"],
    }
    test = draw(st.sampled_from(tests.get(kind, ["order", "in", "null"])))
    negated = draw(st.booleans())
    if test in {"order", "same"}:
        order, value = draw(st.sampled_from(sorted(ORDERS) if test == "order" else ["=", "!="])), draw(values)
        return Said(f"{field} {order} {literal(value)}", known(lambda mine: ORDERS[order](mine, value)), 3)
    if test == "in":
        options = draw(st.lists(values, min_size=1, max_size=3))
        text = f"{field} {'not in' if negated else 'in'} ({', '.join(map(literal, options))})"
        return Said(text, known(lambda mine: (mine in options) != negated), 3)
    if test == "has":
        item = draw(values)
        return Said(f"{field} {'not ' * negated}has {literal(item)}", known(lambda mine: (item in mine) != negated), 3)
    if test == "null":
        return Said(f"{field} is {'not ' * negated}null", lambda row: (value_of(row) is None) != negated, 3)
    pattern = draw(NAME_PATTERNS if name == "shard" else PATTERNS)

    def matches(mine):
        others = [Path(mine).name] if name == "shard" else []
        texts = mine if kind is LabelKind.TEXTS else [mine, *others]
        return any(fnmatchcase(text, pattern) for text in texts) != negated

    return Said(f"{field} {'!~' if negated else '~'} {literal(pattern)}", known(matches), 3)


def negation(part):
    return Said(f"not {inside(part, 3)}", lambda row: None if (answer := part.of(row)) is None else not answer, 3)


def all_of(parts):
    def of(row):
        answers = [part.of(row) for part in parts]
        return False if False in answers else None if None in answers else True

    return Said(" and ".join(inside(part, 2 + (part.binds == 2)) for part in parts), of, 2)


def any_of(parts):
    def of(row):
        answers = [part.of(row) for part in parts]
        return True if True in answers else None if None in answers else False

    return Said(" OR ".join(inside(part, 1 + (part.binds == 1)) for part in parts), of, 1)


def filters(labels):
    return st.recursive(
        a_test(labels),
        lambda parts: (
            parts.map(negation)
            | st.lists(parts, min_size=2, max_size=3).map(all_of)
            | st.lists(parts, min_size=2, max_size=3).map(any_of)
        ),
        max_leaves=6,
    )


BESIDE_A_FRACTION = [{"key": key, "labels": {"n": value}} for key, value in (("a", 0.5), ("b", 2**63 - 1))]


def test_a_whole_number_beside_a_fraction_is_the_nearest_of_float64(tmp_path):
    table, labels = table_of(tmp_path, BESIDE_A_FRACTION)
    for text, rows in (("label.n != 9223372036854775807", [0, 1]), ("label.n = 9.223372036854775808e18", [1])):
        assert np.flatnonzero(passing(parse(text, labels), table, spans_of([("/a", 2)]))).tolist() == rows


@given(data=st.data(), drawn=segments())
def test_a_filter_finds_what_plain_python_finds(monkeypatch, data, drawn):
    monkeypatch.setattr(module, "BLOCK", 3)
    tables, labels = [], dict[str, LabelKind]()
    with TemporaryDirectory() as folder:
        for number, (rows, _) in enumerate(drawn):
            home = Path(folder, str(number))
            home.mkdir()
            table, fields = table_of(home, rows)
            tables.append(table)
            for row in rows:
                row["labels"] = {name: as_kind(value, fields[name]) for name, value in row["labels"].items()}
            labels |= {name: kind.joined(labels.get(name, kind)) for name, kind in fields.items()}
        for said in data.draw(st.lists(filters(labels), min_size=4, max_size=8)):
            condition = parse(said.text, labels)
            for table, (rows, shards) in zip(tables, drawn, strict=True):
                expected = [said.of(row) is True for row in rows]
                assert passing(condition, table, spans_of(shards)).tolist() == expected
