"""Errors of the library speak of settings; the command line says what they are called there."""

import ast
import re
from pathlib import Path

import pytest

from encoder.cli import REMEDIES as ENCODER
from encoder.errors import Reason
from indexer.cli import REMEDIES as INDEXER

ROOT = Path(__file__).parents[2]
LIBRARY = sorted(
    path for package in ("encoder", "indexer") for path in (ROOT / package).rglob("*.py") if path.name != "cli.py"
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


@pytest.mark.parametrize("remedies", [ENCODER, INDEXER], ids=["encoder", "indexer"])
def test_remedies_are_options_and_commands_that_there_are(remedies):
    text = (ROOT / "docs/CLI.md").read_text()
    assert set(remedies) <= set(Reason)
    for remedy in remedies.values():
        for part in remedy.split(", "):
            for option in re.findall(r"--[a-z-]+", part):
                assert option in text
            if part.startswith(("encoder", "indexer")):
                assert " ".join(part.split()[:2]) in text
