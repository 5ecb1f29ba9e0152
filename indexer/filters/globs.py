"""Patterns of `*`, `?` and `[...]`, with the meaning that Python's fnmatch gives them, for RE2.

RE2 answers in time linear in the text whatever the pattern is; fnmatch's own translation is for Python's engine, and RE2
has no lookahead for it.
"""

import re

_PART = re.compile(r"\*+|\?|\[(?P<others>!?+)(?P<set>\]?+[^\]]*+)\]|(?P<plain>.)", re.DOTALL)
_RANGE = re.compile(r"(?P<low>.)-(?P<high>.)|(?P<one>.)", re.DOTALL)
_NONE = r"[^\x{0}-\x{10ffff}]"


def to_re2(pattern: str) -> str:
    """Return the RE2 expression that finds exactly the whole texts that a pattern matches.

    Source: meaning of fnmatch.fnmatchcase, which the tests hold it against.
    """
    return rf"(?s)\A{''.join(map(_part, _PART.finditer(pattern)))}\z"


def _part(match: re.Match[str]) -> str:
    if match["plain"] is not None:
        return _character(match["plain"])
    if match["set"] is not None:
        return _one_of(match["set"], others=bool(match["others"]))
    return "." if match[0] == "?" else ".*"


def _one_of(characters: str, *, others: bool) -> str:
    """Translate the inside of brackets; a range that falls is empty."""
    ranges = [(match["one"] or match["low"], match["one"] or match["high"]) for match in _RANGE.finditer(characters)]
    inside = "".join(f"{_character(low)}-{_character(high)}" for low, high in ranges if low <= high)
    if not inside:
        return "." if others else _NONE
    return f"[{'^' * others}{inside}]"


def _character(character: str) -> str:
    """Spell a character by its number: nothing in it can then have a meaning."""
    return rf"\x{{{ord(character):x}}}"
