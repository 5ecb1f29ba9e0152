import re
import subprocess
import sys
from pathlib import Path

import pytest

from encoder.errors import HashgrainError, Reason
from encoder.images.labels.values import LabelKind
from encoder.levels import Level
from indexer.filters.expression import (
    AllOf,
    AnyOf,
    Compare,
    Field,
    Has,
    Like,
    Missing,
    Not,
    OneOf,
    Source,
    label_fields,
)
from indexer.filters.parser import MAX_DEPTH, MAX_PATTERN, parse, spelled
from indexer.storage.labels import LabelField
from indexer.storage.manifest import LevelRecord, SegmentRecord

BOOL, INT, FLOAT, TEXT, TEXTS = LabelKind
LABELS = {"fine": INT, "name": TEXT, "taken at": TEXT, 'a "b"': INT, "größe": INT, "in": INT}
LABELS |= {"price": FLOAT, "sold": BOOL, "tags": TEXTS}
KEY, SHARD = Field(Source.KEY), Field(Source.SHARD)
PRICE, SOLD, TAGS = (Field(Source.LABEL, LABELS[name], name) for name in ("price", "sold", "tags"))
FINE, NAME = Field(Source.LABEL, INT, "fine"), Field(Source.LABEL, TEXT, "name")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'label.fine in (3, 7) and shard ~ "train-*"',
            AllOf((OneOf(FINE, (3, 7)), Like(SHARD, "train-*"))),
        ),
        ("label.fine=-3", Compare(FINE, "=", -3)),
        (f"label.fine >= {-(2**63)}", Compare(FINE, ">=", -(2**63))),
        (f"label.fine!=+{2**63 - 1}", Compare(FINE, "!=", 2**63 - 1)),
        ("label.fine < 3.5", Compare(FINE, "<", 3.5)),
        ("label.price < 3.99", Compare(PRICE, "<", 3.99)),
        ("label.price <= 4", Compare(PRICE, "<=", 4)),
        ("label.price > -.5e-3", Compare(PRICE, ">", -0.0005)),
        ("label.price = 1e+300", Compare(PRICE, "=", 1e300)),
        ("label.price in (1., +2, 3E2)", OneOf(PRICE, (1.0, 2, 300.0))),
        ("label.sold = true", Compare(SOLD, "=", True)),
        ("label.sold != FALSE", Compare(SOLD, "!=", False)),
        ("label.sold not in (true, False)", Not(OneOf(SOLD, (True, False)))),
        ("label.tags has 'red'", Has(TAGS, "red")),
        ("label.tags NOT HAS ''", Not(Has(TAGS, ""))),
        ("not label.tags not has 'a'", Not(Not(Has(TAGS, "a")))),
        ("label.tags ~ 'r*'", Like(TAGS, "r*")),
        ("label.tags !~ 'r*'", Not(Like(TAGS, "r*"))),
        ("label.tags is null", Missing(TAGS)),
        ("label.name < 'it''s \"x\"'", Compare(NAME, "<", 'it\'s "x"')),
        ('label.name <= "it\'s ""x"""', Compare(NAME, "<=", 'it\'s "x"')),
        (r"key = 'C:\n'", Compare(KEY, "=", r"C:\n")),
        ("key = ''", Compare(KEY, "=", "")),
        ("key not in ('a')", Not(OneOf(KEY, ("a",)))),
        ("key !~ '?'", Not(Like(KEY, "?"))),
        ("shard is null", Missing(SHARD)),
        ("label.fine is not null", Not(Missing(FINE))),
        ("not not not label.fine > 1", Not(Compare(FINE, ">", 1))),
        ("not not key = 'and'", Compare(KEY, "=", "and")),
        ("KEY = 'A' AND Not Label.fine Is NULL", AllOf((Compare(KEY, "=", "A"), Not(Missing(FINE))))),
        ("label.'taken at' = 'x'", Compare(Field(Source.LABEL, TEXT, "taken at"), "=", "x")),
        ('label."a ""b"""=1', Compare(Field(Source.LABEL, INT, 'a "b"'), "=", 1)),
        ("label.größe = 1", Compare(Field(Source.LABEL, INT, "größe"), "=", 1)),
        ("label.in in (1)", OneOf(Field(Source.LABEL, INT, "in"), (1,))),
        ("\n label.fine = 1\t", Compare(FINE, "=", 1)),
        ("key = '\udcff'", Compare(KEY, "=", "?")),
        (
            "label.fine = 1 or label.fine = 2 and not key = 'a' or key = 'b'",
            AnyOf(
                (
                    Compare(FINE, "=", 1),
                    AllOf((Compare(FINE, "=", 2), Not(Compare(KEY, "=", "a")))),
                    Compare(KEY, "=", "b"),
                )
            ),
        ),
        (
            "not (label.fine = 1 or key = 'a') and (key = 'b')",
            AllOf((Not(AnyOf((Compare(FINE, "=", 1), Compare(KEY, "=", "a")))), Compare(KEY, "=", "b"))),
        ),
    ],
)
def test_what_a_filter_says(text, expected):
    assert parse(text, LABELS) == expected


FIELDS = (
    'key, shard, label."a ""b""", label.fine, label.größe, label.in, label.name, label.price, label.sold, label.tags, '
    'label."taken at"'
)
TESTS = "expected = != < <= > >= ~ !~, in (...), not in (...), has, is null or is not null"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", f"the filter is empty; give a condition on one of {FIELDS}, or no filter"),
        ("  ", f"the filter is empty; give a condition on one of {FIELDS}, or no filter"),
        ("fine = 3", f"filter at character 1, 'fine = 3': expected a field: {FIELDS}"),
        ("3 = label.fine", f"filter at character 1, '3 = label.fine': expected a field: {FIELDS}"),
        ("'key' = 'a'", f"filter at character 1, \"'key' = 'a'\": expected a field: {FIELDS}"),
        ("label = 3", f"filter at character 1, 'label = 3': expected a field: {FIELDS}"),
        ("key = 'a' and", f"filter \"key = 'a' and\" at its end: expected a field: {FIELDS}"),
        (
            "not label.Fine = 3",
            "filter 'not ' at character 5, 'label.Fine = 3': no image has a label 'Fine'; "
            f"expected one of the fields {FIELDS}",
        ),
        ("label.fine", f"filter 'label.fine' at its end: {TESTS}"),
        ("label.fine == 3", f"filter 'label.fine ' at character 12, '== 3': {TESTS}"),
        ("label.fine <> 3", f"filter 'label.fine ' at character 12, '<> 3': {TESTS}"),
        ("label.fine. = 3", f"filter 'label.fine' at character 11, '. = 3': {TESTS}"),
        (
            "label.fine.x = 3",
            f"filter at character 1, 'label.fine.x = 3': no image has a label 'fine.x'; expected one of the fields {FIELDS}",
        ),
        ("key 'and' key", f"filter 'key ' at character 5, \"'and' key\": {TESTS}"),
        ("label.fine =", "filter 'label.fine =' at its end: expected a number"),
        ("key = ", "filter 'key = ' at its end: expected a string in quotes"),
        ("key = label.name", "filter 'key = ' at character 7, 'label.name': expected a string in quotes"),
        (
            "key = 'abc''",
            "filter 'key = ' at character 7, \"'abc''\": a string begins here that does not end; "
            "expected its closing quote (inside it is doubled)",
        ),
        (
            "key = 'a",
            "filter 'key = ' at character 7, \"'a\": a string begins here that does not end; "
            "expected its closing quote (inside it is doubled)",
        ),
        (
            "label.fine = 'dog'",
            "filter 'label.fine = ' at character 14, \"'dog'\": label 'fine' holds whole numbers, this is text; "
            "expected a number without quotes",
        ),
        (
            "label.name in ('3', 4)",
            "filter \"label.name in ('3', \" at character 21, '4)': label 'name' is text, this is a number; "
            "expected it in quotes: '4'",
        ),
        (
            "shard < 3",
            "filter 'shard < ' at character 9, '3': a shard is text, this is a number; expected it in quotes: '3'",
        ),
        (
            "label.fine = 3.5.1",
            "filter 'label.fine = ' at character 14, '3.5.1': expected a number: 3, -0.5 or 1e-3",
        ),
        (
            "label.fine = 0x10",
            "filter 'label.fine = ' at character 14, '0x10': expected a number: 3, -0.5 or 1e-3",
        ),
        (
            "label.price < 1e999",
            "filter 'label.price < ' at character 15, '1e999': expected a number of float64, at most 1.8e308",
        ),
        (
            "label.price = '3.99'",
            "filter 'label.price = ' at character 15, \"'3.99'\": label 'price' holds numbers, this is text; "
            "expected a number without quotes",
        ),
        (
            "label.sold = 'true'",
            "filter 'label.sold = ' at character 14, \"'true'\": label 'sold' is true or false, this is text; "
            "expected true or false without quotes",
        ),
        (
            "label.sold = 1",
            "filter 'label.sold = ' at character 14, '1': label 'sold' is true or false, this is a number; "
            "expected true or false",
        ),
        ("label.sold = yes", "filter 'label.sold = ' at character 14, 'yes': expected true or false"),
        (
            "label.sold < true",
            "filter 'label.sold ' at character 12, '< true': label 'sold' is true or false, which has no '<'; "
            "expected = != or in",
        ),
        (
            "label.name = true",
            "filter 'label.name = ' at character 14, 'true': label 'name' is text, this is true or false; "
            "expected it in quotes: 'true'",
        ),
        (
            "label.tags = 'red'",
            "filter 'label.tags ' at character 12, \"= 'red'\": label 'tags' holds lists of text, which has no '='; "
            "expected has, ~ or !~",
        ),
        (
            "label.tags in ('red')",
            "filter 'label.tags ' at character 12, \"in ('red')\": label 'tags' holds lists of text, which has no 'in'; "
            "expected has, ~ or !~",
        ),
        (
            "label.tags has 3",
            "filter 'label.tags has ' at character 16, '3': label 'tags' holds lists of text, this is a number; "
            "expected it in quotes: '3'",
        ),
        (
            "label.name has 'a'",
            "filter 'label.name ' at character 12, \"has 'a'\": label 'name' is text, which has no 'has'; "
            "expected = != < <= > >= ~ !~ or in",
        ),
        (
            f"label.fine > {2**63}",
            "filter 'label.fine > ' at character 14, '9223372036854775808': "
            "expected a whole number from -2^63 to 2^63 - 1; with a point or an exponent it may be larger",
        ),
        (
            "label.fine > -" + "9" * 9999,
            f"filter 'label.fine > ' at character 14, '-{'9' * 19}...': "
            "expected a whole number from -2^63 to 2^63 - 1; with a point or an exponent it may be larger",
        ),
        (
            "label.fine ~ '3'",
            "filter 'label.fine ' at character 12, \"~ '3'\": label 'fine' holds whole numbers, which has no '~'; "
            "expected = != < <= > >= or in",
        ),
        ("key ~ 3", "filter 'key ~ ' at character 7, '3': a key is text, this is a number; expected it in quotes: '3'"),
        (
            "key ~ '" + "*" * (MAX_PATTERN + 1) + "'",
            "filter 'key ~ ' at character 7, \"'*******************...\": "
            "expected a pattern of at most 1024 characters, it has 1025",
        ),
        ("key is 'a'", "filter 'key is ' at character 8, \"'a'\": expected null or not null"),
        ("key is not", "filter 'key is not' at its end: expected null"),
        ("key not = 'a'", "filter 'key not ' at character 9, \"= 'a'\": expected in (...) or has"),
        ("key in 'a'", "filter 'key in ' at character 8, \"'a'\": expected '(' and a list of values"),
        ("key in ()", "filter 'key in (' at character 9, ')': expected a string in quotes"),
        ("key in ('a' 'b')", "filter \"key in ('a' \" at character 13, \"'b')\": expected ',' or ')'"),
        ("key in ('a',)", "filter \"key in ('a',\" at character 13, ')': expected a string in quotes"),
        ("(key = 'a'", "filter \"(key = 'a'\" at its end: expected 'and', 'or' or ')'"),
        ("key = 'a')", "filter \"key = 'a'\" at character 10, ')': expected 'and', 'or' or the end"),
        (
            "key = 'a' && label.fine = 3 and key = 'b'",
            "filter \"key = 'a' \" at character 11, '&& label.fine = 3 an...': expected 'and', 'or' or the end",
        ),
        (
            "(" * (MAX_DEPTH + 1),
            f"filter '{'(' * 20}' at character 65, '(': "
            "expected at most 64 parentheses in one another; take away the ones not needed",
        ),
    ],
)
def test_every_mistake_is_told_with_its_place(text, line):
    with pytest.raises(HashgrainError) as caught:
        parse(text, LABELS)
    assert (caught.value.reason, str(caught.value)) == (Reason.BAD_VALUE, " ".join(line.split()))


def test_a_long_list_of_fields_is_cut():
    with pytest.raises(HashgrainError, match=r"label\.f19 and 5 more labels$"):
        parse("x", {f"f{number:02}": TEXT for number in range(25)})


def test_depth_and_length_that_are_allowed_are_read():
    deep = "not (" * MAX_DEPTH + "key = 'a'" + ")" * MAX_DEPTH
    assert isinstance(parse(deep, {}), Not)
    assert isinstance(parse("not " * 9999 + "key = 'a'", {}), Not)
    assert parse(" and ".join(["(key = 'a')"] * 999), {}) == AllOf((Compare(KEY, "=", "a"),) * 999)


@pytest.mark.parametrize(
    "name", ["fine", "taken at", 'a "b"', "größe", "3d", "", "a.b", "a.b.0", "a.", ".a", "a..b", "it's"]
)
def test_a_label_is_read_as_it_is_spelled(name):
    assert parse(f"{spelled(name)} = 1", {name: INT}) == Compare(Field(Source.LABEL, INT, name), "=", 1)


def test_kinds_of_segments_are_joined_as_in_a_build():
    level = {Level.FINE: LevelRecord(64, "", None, None, None)}
    first = SegmentRecord("a", 0, level, [LabelField("x", INT), LabelField("y", TEXT), LabelField("n", INT)], [])
    second = SegmentRecord("b", 0, level, [LabelField("x", TEXT), LabelField("z", TEXTS), LabelField("n", FLOAT)], [])
    assert label_fields([first, second]) == {"x": TEXT, "y": TEXT, "n": FLOAT, "z": TEXTS}
    assert label_fields([]) == {}


def test_the_filters_of_the_documents_are_filters():
    root = Path(__file__).parents[4]
    shown = re.findall(r"```\n(.*?)```", (root / "docs/FILTERS.md").read_text(), re.DOTALL)[0].splitlines()
    shown += re.findall(r"--where '(.*?)'`", (root / "README.md").read_text())
    assert len(shown) == 7
    for text in shown:
        parse(text, LABELS)


def test_reading_a_filter_loads_no_pyarrow():
    script = "import sys, indexer.cli, indexer.index, indexer.filters.parser; sys.exit('pyarrow' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
