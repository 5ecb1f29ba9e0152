import operator
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.codes.strings import TextColumn
from encoder.errors import HashgrainError, Reason
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
from indexer.storage.manifest import ShardSpan
from indexer.storage.row_table import LabelField, RowTable, hash_keys


def table_of(folder, rows):
    """Write rows (dicts of `key` and `labels`) as a segment's columns."""
    keys = [row["key"] for row in rows]
    hashes = hash_keys(keys)
    write_text(folder, "keys", [TextColumn.of(keys)])
    write_column(folder / "keys.order.npy", np.argsort(hashes, kind="stable"))
    write_column(folder / "keys.hashes.npy", np.sort(hashes))
    write_column(folder / "places.npy", np.zeros((len(rows), 2), np.uint64))
    fields = []
    for number, name in enumerate(sorted({name for row in rows for name in row["labels"]})):
        values = [row["labels"].get(name) for row in rows]
        is_text = any(isinstance(value, str) for value in values)
        write_column(folder / f"label.{number:03d}.present.npy", np.array([value is not None for value in values]))
        if is_text:
            strings = ("" if value is None else str(value) for value in values)
            write_text(folder, f"label.{number:03d}", [TextColumn.of(strings)])
        else:
            write_column(folder / f"label.{number:03d}.npy", np.array([value or 0 for value in values], np.int64))
        fields.append(LabelField(name, is_text))
    return RowTable(folder, len(rows), fields), {field.name: field.is_text for field in fields}


def spans_of(shards):
    """Return the spans of (path, rows)."""
    firsts = np.cumsum([0, *(rows for _, rows in shards)]).tolist()
    return [ShardSpan(first, ShardKind.TAR, path, "") for (path, _), first in zip(shards, firsts, strict=False)]


ROWS = [
    {"key": "a/0.jpg", "labels": {"fine": 3, "name": "dog"}},
    {"key": "a/1.jpg", "labels": {"fine": -7, "name": "Dog*"}},
    {"key": "a/2.jpg", "labels": {"name": ""}},
    {"key": "b/Ä.jpg", "labels": {"fine": 0}},
    {"key": "b/🐕.jpg", "labels": {"fine": 2**63 - 1, "name": "ünï"}},
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


@pytest.mark.parametrize("text", ["key = 'a'", "shard ~ '*'", "label.other = 3", "label.text ~ '*'", "key is null"])
def test_no_rows_give_no_rows(tmp_path, text):
    table, _ = table_of(tmp_path, [])
    for shards in ([], [("/empty.tar", 0)]):
        assert passing(parse(text, {"other": False, "text": True}), table, spans_of(shards)).shape == (0,)


def test_a_label_of_another_segment_is_missing_here(tmp_path):
    table, _ = table_of(tmp_path, ROWS)
    labels = {"other": False, "text": True}
    for text in ("label.other = 3", "label.other not in (3)", "label.text ~ '*'", "not label.text = 'a'"):
        assert not passing(parse(text, labels), table, spans_of(SHARDS)).any()
    assert passing(parse("label.other is null and label.text is null", labels), table, spans_of(SHARDS)).all()


def test_numbers_of_a_label_that_is_text_elsewhere_are_text(tmp_path):
    table, _ = table_of(tmp_path, ROWS)
    condition = parse("label.fine in ('3', '-7') or label.fine ~ '9*'", {"fine": True})
    assert passing(condition, table, spans_of(SHARDS)).tolist() == [True, True, False, False, True]


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


# The law: a random filter over random rows in random segments finds what plain Python says of each row by itself.

ORDERS = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
TEXTS = st.text("ab*[]'\"é🐕\n", max_size=3)
PATTERNS = st.text("aab**?[]!-é", max_size=4)
NUMBERS = st.integers(-2, 2) | st.sampled_from([-(2**63), 2**63 - 1])
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
    """Segments: rows, and the (path, rows) of their shards; `mixed` has numbers here and text there."""
    drawn = []
    for number in range(draw(st.integers(1, 3))):
        shards = draw(st.lists(st.tuples(PATHS, st.integers(0, 3)), min_size=1, max_size=3))
        mixed = TEXTS if number == 1 else NUMBERS
        labels = st.fixed_dictionaries({}, optional={"n": NUMBERS, "t t": TEXTS, "mixed": mixed})
        rows = [
            {"key": draw(TEXTS), "shard": path, "labels": draw(labels)} for path, count in shards for _ in range(count)
        ]
        drawn.append((rows, shards))
    return drawn


@st.composite
def a_test(draw, labels):
    name = draw(st.sampled_from(["key", "shard", *labels]))
    is_text = labels.get(name, True)
    values = (PATHS | TEXTS if name == "shard" else TEXTS | NUMBERS.map(str)) if is_text else NUMBERS
    field = spelled(name) if name in labels else name

    def literal(value):
        return quoted(value, draw(st.sampled_from("'\""))) if is_text else str(value)

    def value_of(row):
        value = row["labels"].get(name) if name in labels else row[name]
        return str(value) if is_text and value is not None else value

    def known(answer):
        return lambda row: None if (value := value_of(row)) is None else answer(value)

    kind = draw(st.sampled_from(["order", "in", "null", "like"] if is_text else ["order", "in", "null"]))
    negated = draw(st.booleans())
    if kind == "order":
        order, value = draw(st.sampled_from(sorted(ORDERS))), draw(values)
        return Said(f"{field} {order} {literal(value)}", known(lambda mine: ORDERS[order](mine, value)), 3)
    if kind == "in":
        options = draw(st.lists(values, min_size=1, max_size=3))
        text = f"{field} {'not in' if negated else 'in'} ({', '.join(map(literal, options))})"
        return Said(text, known(lambda mine: (mine in options) != negated), 3)
    if kind == "null":
        return Said(f"{field} is {'not ' * negated}null", lambda row: (value_of(row) is None) != negated, 3)
    pattern = draw(NAME_PATTERNS if name == "shard" else PATTERNS)

    def matches(mine):
        others = [Path(mine).name] if name == "shard" else []
        return any(fnmatchcase(text, pattern) for text in [mine, *others]) != negated

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


@given(data=st.data(), drawn=segments())
def test_a_filter_finds_what_plain_python_finds(monkeypatch, data, drawn):
    monkeypatch.setattr(module, "BLOCK", 3)
    tables, labels = [], dict[str, bool]()
    with TemporaryDirectory() as folder:
        for number, (rows, _) in enumerate(drawn):
            home = Path(folder, str(number))
            home.mkdir()
            table, fields = table_of(home, rows)
            tables.append(table)
            labels |= {name: labels.get(name, False) or is_text for name, is_text in fields.items()}
        for said in data.draw(st.lists(filters(labels), min_size=4, max_size=8)):
            condition = parse(said.text, labels)
            for table, (rows, shards) in zip(tables, drawn, strict=True):
                expected = [said.of(row) is True for row in rows]
                assert passing(condition, table, spans_of(shards)).tolist() == expected
