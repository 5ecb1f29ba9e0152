"""One word for one thing, and plain sentences, in everything that a user reads."""

import re

import pytest

from tests.support.prose import PACKAGES, ROOT, Text, clumsy, docstrings, documents, error_texts, help_texts

MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
GLOSSARY = re.findall(r"^- \*\*(.+?)\*\*: (.+)$", (ROOT / "docs/GLOSSARY.md").read_text(), re.MULTILINE)


def test_each_word_of_the_glossary_is_one_sentence_and_stands_in_public_docstrings():
    assert len(GLOSSARY) > 20
    assert [word for word, meaning in GLOSSARY if not re.fullmatch(r"[A-Z](?:[^.]|\.\S)*\.", meaning)] == []
    public = " ".join(text.words for path in MODULES for text in docstrings(path))
    assert [word for word, _ in GLOSSARY if not re.search(rf"\b{word}(?:e?s)?\b", public, re.IGNORECASE)] == []


def test_the_documents_are_in_plain_english():
    assert clumsy(documents()) == []


@pytest.mark.parametrize("kind", [docstrings, help_texts, error_texts])
def test_the_texts_in_the_code_are_in_plain_english(kind):
    texts = [text for path in MODULES for text in kind(path)]
    assert len(texts) > 100
    assert clumsy(texts) == []


def test_a_text_that_breaks_a_rule_is_noticed():
    """The grep is crude; this is what it is for, and what it lets pass."""
    broken = ["ms a query", "one file a shard", "a tar is no shard", "two images A second"]
    fine = ["ms per query", "hits a query shows", "there is no shard", "it is no longer there", "one of a query's hits"]
    assert [text.words for text in map(at_home, [*broken, *fine]) if clumsy([text])] == broken


def at_home(words: str) -> Text:
    return Text("here:1", words)
