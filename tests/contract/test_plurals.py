"""A count of one is not followed by a plural: what commands and changes say of counts goes through `plural`."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

from encoder.plural import plural

ROOT = Path(__file__).parents[2]
SPEAKING = sorted(
    {*ROOT.glob("encoder/**/cli.py"), *ROOT.glob("indexer/**/cli.py"), *ROOT.glob("indexer/changes/*.py")}
)
COUNTED = re.compile(
    r" (?:earlier |more |code )?(rows|images|shards|files|keys|codes|lists|labels|segments|generations|steps|rejects|queries|hits|others|threads)\b(?!/)"
)
SEVERAL = re.compile(r" of (?:all )?$")
"""`3 of 10 rows` counts what is before it."""


def counts_in_words(text):
    """Yield the plurals that follow a number in f-strings, whatever the number is."""
    for string in ast.walk(ast.parse(text)):
        if not isinstance(string, ast.JoinedStr):
            continue
        before = ""
        for part, after in pairwise([*string.values, ast.Constant("")]):
            if isinstance(part, ast.FormattedValue) and _is_plain(part) and not SEVERAL.search(before):
                found = COUNTED.match(str(getattr(after, "value", "")))
                if found is not None:
                    yield f"{ast.unparse(part.value)}{found[0]}"
            before = str(part.value) if isinstance(part, ast.Constant) else ""


def _is_plain(value):
    """Whether a count may stand there: no share, no rate, and no constant, which is known to be several."""
    form = "" if value.format_spec is None else ast.unparse(value.format_spec).strip("f'\"")
    return form in {"", ","} and not (isinstance(value.value, ast.Name) and value.value.id.isupper())


@pytest.mark.parametrize("path", SPEAKING, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_counted_is_said_by_the_one_helper(path):
    assert list(counts_in_words(path.read_text())) == []


def test_plurals_after_numbers_are_seen():
    text = """f"{a:,} rows, {b} earlier rows, {c} of {d:,} rows, {e} of", f"{MOST} keys", f"{f.g()} code files, {h} others" """
    assert list(counts_in_words(text)) == ["a rows", "b earlier rows", "f.g() code files", "h others"]


@pytest.mark.parametrize(
    ("count", "noun", "said"),
    [
        (0, "row", "0 rows"),
        (1, "row", "1 row"),
        (2000, "more row", "2,000 more rows"),
        (3, "entry", "3 entries"),
        (1, "query", "1 query"),
        (2, "query", "2 queries"),
        (2, "key", "2 keys"),
    ],
)
def test_one_is_one_and_others_are_many(count, noun, said):
    assert plural(count, noun) == said
