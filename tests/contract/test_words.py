"""One word for one thing, and plain sentences, in everything that a user reads."""

import re

from tests.support.prose import PACKAGES, ROOT, clumsy, docstrings, documents

MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
GLOSSARY = re.findall(r"^- \*\*(.+?)\*\*: (.+)$", (ROOT / "docs/GLOSSARY.md").read_text(), re.MULTILINE)


def test_each_word_of_the_glossary_is_one_sentence_and_stands_in_public_docstrings():
    assert len(GLOSSARY) > 20
    assert [word for word, meaning in GLOSSARY if not re.fullmatch(r"[A-Z](?:[^.]|\.\S)*\.", meaning)] == []
    public = " ".join(text.words for path in MODULES for text in docstrings(path))
    assert [word for word, _ in GLOSSARY if not re.search(rf"\b{word}(?:e?s)?\b", public, re.IGNORECASE)] == []


def test_the_documents_are_in_plain_english():
    assert clumsy(documents()) == []
