"""Errors of the library speak of settings; the command line says what they are called there."""

import ast
import re
from pathlib import Path

import pytest

from encoder.cli import REMEDIES as ENCODER
from encoder.errors import Reason
from indexer.cli import REMEDIES as INDEXER

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs/CLI.md").read_text()
LIBRARY = sorted(
    path
    for package in ("encoder", "indexer")
    for path in (ROOT / package).rglob("*.py")
    if not path.name.endswith("cli.py")
)


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_text_of_the_library_names_an_option_or_command(path):
    tree = ast.parse(path.read_text())
    documentation = {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documentation
    ]
    named = [text for text in texts if re.search(r"(?<!\w)--[a-z]{2}|`(encoder|indexer) [a-z]", text)]
    assert named in ([], GIT.get(path.name, []))


GIT = {"job.py": ["--always", "--dirty", "--exclude=*"]}
"""Options of git, by which a training says what it was made by."""


@pytest.mark.parametrize(("name", "remedies"), [("encoder", ENCODER), ("indexer", INDEXER)])
def test_remedies_are_options_and_commands_that_there_are(name, remedies):
    pages = dict(re.findall(r"^## ((?:encoder|indexer) \w+)$(.*?)(?=^## |\Z)", REFERENCE, re.MULTILINE | re.DOTALL))
    for command, of_reasons in remedies.items():
        for reason, remedy in of_reasons.items():
            assert reason in Reason
            for part in remedy.split(", "):
                words = part.split()
                page = pages[" ".join(words[:2])] if words[0] in {"encoder", "indexer"} else pages[f"{name} {command}"]
                assert [word for word in words if word.startswith("--") and word not in page] == []
