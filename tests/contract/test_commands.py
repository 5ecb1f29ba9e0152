"""Every command in the documents works as it stands, on small data."""

import re
import shlex

import pytest

from tests.support.collection import blocks, draw_collection

DOCUMENTS = ["README.md", "docs/GUIDE.md", "docs/MODELS.md"]

SMALLER = {
    "--weights IMAGENET1K_V2": "--backbone alexnet --weights none",
    "--image-size 160": "--image-size 64",
    "encoder fit": "encoder fit --sample 64 --bits 16",
    "encoder train": "encoder train --epochs 0.1 --batch 16 --bits 16",
    "--nlist 1024": "--nlist 4",
}
"""What the documents give for real collections, and what stands for it here: no download, few pictures."""

SKIPPED = {
    r"\. \.venv/bin/activate": "sets up a shell",
    r"make ": "make targets run these same commands, and the project's own checks run them",
    r"torchrun ": "needs two processes and a GPU",
    r".*--devices all|.*--engine gpu": "needs a GPU",
    r".*(?:s3|gs|hf|https)://": "needs the network",
}
"""Commands that are not run, by what they begin with, and why."""


def commands(document: str) -> list[str]:
    """Return the lines of a document's shell blocks, continued lines as one, without comments."""
    lines = "".join(blocks(document, "sh")).replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"\s+# .*|^#.*", "", line).strip() for line in lines) if line]


def skipped(line: str) -> bool:
    return any(re.match(pattern, line) for pattern in SKIPPED)


@pytest.fixture
def collection(tmp_path, monkeypatch):
    """A folder with everything that the documents name, and the current one."""
    draw_collection(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_of_a_document_ends_well(command, collection, monkeypatch, document):
    lines = commands(document)
    ran = [line for line in lines if not skipped(line)]
    assert len(ran) >= 3
    for line in ran:
        small = line
        for large, little in SMALLER.items():
            small = small.replace(large, little)
        arguments, _, stdin = small.partition(" < ")
        with (collection / (stdin or "photo.jpg")).open() as file:
            monkeypatch.setattr("sys.stdin", file)
            code, _, err = command(*shlex.split(arguments))
        assert code == 0, f"{line}\n{err}"


def test_what_is_replaced_or_skipped_stands_in_the_documents():
    lines = [line for document in DOCUMENTS for line in commands(document)]
    assert [large for large in SMALLER if not any(large in line for line in lines)] == []
    assert [pattern for pattern in SKIPPED if not any(re.match(pattern, line) for line in lines)] == []
