"""The filter language: which rows may be found.

    label.fine in (3, 7) and shard ~ "train-*"
    not (label.name = 'dog' or key ~ '*/draft/*') and label."taken at" is not null
    label.price < 3.99 and label.sold = true and label.tags has 'red'

In the words of a grammar (`|` or, `[ ]` may be left out, `{ }` any number of times):

    condition  all {"or" all}
    all        one {"and" one}
    one        {"not"} ("(" condition ")" | test)
    test       field ("=" | "!=" | "<" | "<=" | ">" | ">=") value
             | field ["not"] "in" "(" value {"," value} ")"
             | field ["not"] "has" string
             | field ("~" | "!~") string
             | field "is" ["not"] "null"
    field      "key" | "shard" | "label." name
    name       letters, digits and "_", with "." between them, or a string
    value      number | string | "true" | "false"
    number     a whole number (int64), or one with a point or an exponent (float64)
    string     '...' or "..."; the quote itself is doubled inside: 'it''s'. A backslash is a plain character.

Words may be written in any case; names and text are taken as they are. docs/FILTERS.md says what each test means.
This file knows words, not rows: `indexer/filters/evaluate.py` finds the rows.
"""

import math
import re
from dataclasses import dataclass

from encoder.errors import HashgrainError, Reason
from encoder.images.labels.values import LabelKind, LabelValue
from indexer.filters.expression import (
    AllOf,
    AnyOf,
    Compare,
    Condition,
    Field,
    Has,
    LabelFields,
    Like,
    Missing,
    Not,
    OneOf,
    Source,
)

MAX_DEPTH = 64
"""Parentheses in parentheses."""
MAX_PATTERN = 1024
"""Characters of a pattern; no label is longer."""
SHOWN = 20
"""Characters of the filter, and fields of the index, that an error quotes."""


def parse(text: str, labels: LabelFields) -> Condition:
    """Read a filter.

    Args:
        text: in the language above. What is not Unicode (lone surrogates) counts as `?`.
        labels: `label_fields` of the index that is searched.

    Returns:
        The condition; every field is one that the index has, every value of its field's kind.

    Raises:
        HashgrainError: `bad-value` with the place in the text and what was expected there.
    """
    return _Parser(text.encode(errors="replace").decode(), labels).whole()


_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string> '(?:[^']|'')*+' | "(?:[^"]|"")*+" )
    | (?P<number> [+-]?\.?[0-9](?:[eE][+-]|[\w.])* )
    | (?P<label>  label\.(?: \w+ (?:\.\w+)* | '(?:[^']|'')*+' | "(?:[^"]|"")*+" ) )
    | (?P<word>   \w+ )
    | (?P<symbol> [=!<>~]+ | \S )
    | (?P<end>    \Z )
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_ORDERS = ("=", "!=", "<", "<=", ">", ">=")
_EXPECTED_TEST = f"{' '.join(_ORDERS)} ~ !~, in (...), not in (...), has, is null or is not null"
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?P<point>\.[0-9]*)?|(?P<less>\.[0-9]+))(?P<exponent>[eE][+-]?[0-9]+)?")
_HOLDS = {
    LabelKind.BOOL: "is true or false",
    LabelKind.INT: "holds whole numbers",
    LabelKind.FLOAT: "holds numbers",
    LabelKind.TEXT: "is text",
    LabelKind.TEXTS: "holds lists of text",
}
_TESTS = {
    LabelKind.BOOL: ("= != in", "= != or in"),
    LabelKind.INT: ("= != < <= > >= in", "= != < <= > >= or in"),
    LabelKind.FLOAT: ("= != < <= > >= in", "= != < <= > >= or in"),
    LabelKind.TEXT: ("= != < <= > >= in ~ !~", "= != < <= > >= ~ !~ or in"),
    LabelKind.TEXTS: ("has ~ !~", "has, ~ or !~"),
}
"""By kind, the tests there are, and how an error says it; each kind may be null."""
_VALUES = {
    LabelKind.BOOL: "true or false",
    LabelKind.INT: "a number",
    LabelKind.FLOAT: "a number",
    LabelKind.TEXT: "a string in quotes",
    LabelKind.TEXTS: "a string in quotes",
}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int

    @property
    def word(self) -> str:
        """A word or symbol of the language, in small letters; empty for a string or number: `'and'` in quotes is not the word."""
        return self.text.lower() if self.kind in {"word", "symbol"} else ""


class _Parser:
    """One method per line of the grammar; `_next` is the token that nothing has taken yet."""

    def __init__(self, text: str, labels: LabelFields) -> None:
        self._text, self._labels = text, labels
        self._tokens = (_token(match) for match in _TOKEN.finditer(text))
        self._next = next(self._tokens)
        self._depth = 0

    def whole(self) -> Condition:
        if self._next.kind == "end":
            raise HashgrainError(
                Reason.BAD_VALUE, f"the filter is empty; give a condition on one of {self._fields()}, or no filter"
            )
        condition = self._condition()
        if self._next.kind != "end":
            raise self._error("expected 'and', 'or' or the end")
        return condition

    def _condition(self) -> Condition:
        parts = [self._all()]
        while self._take_if("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _all(self) -> Condition:
        parts = [self._one()]
        while self._take_if("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _one(self) -> Condition:
        negated = False
        while self._take_if("not"):
            negated = not negated
        part = self._inside() if self._next.word == "(" else self._test()
        return Not(part) if negated else part

    def _inside(self) -> Condition:
        if self._depth == MAX_DEPTH:
            raise self._error(f"expected at most {MAX_DEPTH} parentheses in one another; take away the ones not needed")
        self._depth += 1
        self._take()
        condition = self._condition()
        self._expect(")", "'and', 'or' or ')'")
        self._depth -= 1
        return condition

    def _test(self) -> Condition:
        field = self._field()
        if self._take_if("is"):
            negated = self._take_if("not")
            self._expect("null", "null" if negated else "null or not null")
            return Not(Missing(field)) if negated else Missing(field)
        negated = self._take_if("not")
        test = self._next.word
        if test not in ({"in", "has"} if negated else {*_ORDERS, "~", "!~", "in", "has"}):
            raise self._error("expected in (...) or has" if negated else f"expected {_EXPECTED_TEST}")
        there, expected = _TESTS[field.kind]
        if test not in there.split():
            raise self._error(f"{_what(field)} {_HOLDS[field.kind]}, which has no {test!r}; expected {expected}")
        self._take()
        match test:
            case "in":
                part: Condition = self._one_of(field)
            case "has":
                part = Has(field, str(self._value(field)))
            case "~" | "!~":
                negated, part = test == "!~", self._like(field)
            case _:
                part = Compare(field, test, self._value(field))
        return Not(part) if negated else part

    def _one_of(self, field: Field) -> OneOf:
        self._expect("(", "'(' and a list of values")
        values = [self._value(field)]
        while self._take_if(","):
            values.append(self._value(field))
        self._expect(")", "',' or ')'")
        return OneOf(field, tuple(values))

    def _like(self, field: Field) -> Like:
        at = self._next
        pattern = str(self._value(field))
        if len(pattern) > MAX_PATTERN:
            raise self._error(f"expected a pattern of at most {MAX_PATTERN} characters, it has {len(pattern)}", at)
        return Like(field, pattern)

    def _field(self) -> Field:
        if self._next.word in {Source.KEY, Source.SHARD}:
            return Field(Source(self._take().word))
        if self._next.kind != "label":
            raise self._error(f"expected a field: {self._fields()}")
        name = self._next.text[len("label.") :]
        name = _unquoted(name) if name[0] in "'\"" else name
        if name not in self._labels:
            raise self._error(f"no image has a label {name!r}; expected one of the fields {self._fields()}")
        self._take()
        return Field(Source.LABEL, self._labels[name], name)

    def _value(self, field: Field) -> LabelValue:
        """Take a literal of the field's kind."""
        token, kind, expected = self._next, field.kind, _VALUES[field.kind]
        if token.kind == "number" and kind.is_number:
            return self._number()
        if token.kind == "string" and kind in {LabelKind.TEXT, LabelKind.TEXTS}:
            return _unquoted(self._take().text)
        if token.word in {"true", "false"} and kind is LabelKind.BOOL:
            return self._take().word == "true"
        if token.text in {"'", '"'}:
            raise self._error(
                "a string begins here that does not end; expected its closing quote (inside it is doubled)"
            )
        found = (
            "true or false"
            if token.word in {"true", "false"}
            else {"string": "text", "number": "a number"}.get(token.kind)
        )
        if found is None:
            raise self._error(f"expected {expected}")
        if expected == "a string in quotes":
            expected = f"it in quotes: '{token.text}'"
        elif found == "text":
            expected += " without quotes"
        raise self._error(f"{_what(field)} {_HOLDS[kind]}, this is {found}; expected {expected}")

    def _number(self) -> int | float:
        text = self._next.text
        if not (match := _NUMBER.fullmatch(text)):
            raise self._error("expected a number: 3, -0.5 or 1e-3")
        if match["point"] or match["less"] or match["exponent"]:
            if not math.isfinite(value := float(text)):
                raise self._error("expected a number of float64, at most 1.8e308")
            self._take()
            return value
        # The length first: int() takes time that grows with its square.
        if len(text) > SHOWN or not -(2**63) <= int(text) < 2**63:
            raise self._error(
                "expected a whole number from -2^63 to 2^63 - 1; with a point or an exponent it may be larger"
            )
        self._take()
        return int(text)

    def _take(self) -> _Token:
        """Consume the next token and return it."""
        taken = self._next
        self._next = next(self._tokens, taken)
        return taken

    def _take_if(self, word: str) -> bool:
        """Consume the next token if it is a word or symbol, and report whether it was."""
        if self._next.word != word:
            return False
        self._take()
        return True

    def _expect(self, word: str, expected: str) -> None:
        if not self._take_if(word):
            raise self._error(f"expected {expected}")

    def _fields(self) -> str:
        labels = [spelled(name) for name in sorted(self._labels)]
        more = f" and {len(labels) - SHOWN} more labels" if len(labels) > SHOWN else ""
        return ", ".join([Source.KEY, Source.SHARD, *labels[:SHOWN]]) + more

    def _error(self, message: str, token: _Token | None = None) -> HashgrainError:
        at = (token or self._next).at
        rest = self._text[at : at + SHOWN] + ("..." if len(self._text) > at + SHOWN else "")
        where = f"at character {at + 1}, {rest!r}" if rest else "at its end"
        before = f" {self._text[:at][-SHOWN:]!r}" if at else ""
        return HashgrainError(Reason.BAD_VALUE, f"filter{before} {where}: {message}")


def _what(field: Field) -> str:
    return f"label {field.name!r}" if field.source is Source.LABEL else f"a {field.source}"


def spelled(name: str) -> str:
    """Return how a filter names a label: `label.fine`, `label.exif.iso`, `label."taken at"`."""
    return f"label.{name}" if re.fullmatch(r"\w+(?:\.\w+)*", name) else 'label."{}"'.format(name.replace('"', '""'))


def _token(match: re.Match[str]) -> _Token:
    kind = str(match.lastgroup)
    return _Token(kind, match[kind], match.start(kind))


def _unquoted(text: str) -> str:
    quote = text[0]
    return text[1:-1].replace(2 * quote, quote)
