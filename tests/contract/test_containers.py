"""The container starts what there is: its files are copied, its options exist."""

import json
import re
from pathlib import Path

import pytest
import typer.main

from indexer.cli import app

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_everything_that_is_copied_is_there_and_sent():
    copied = [word for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()]
    sent = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(copied) == sorted(sent)
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_command_of_the_container_is_one_that_the_program_has():
    [entry] = re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE)
    [arguments] = re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)
    program, command, *given = json.loads(entry) + json.loads(arguments)
    assert program == "indexer"
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert {word for word in given if word.startswith("--")} <= {
        option for parameter in commands[command].params for option in parameter.opts
    }


@pytest.mark.parametrize("name", ["compose.yaml", "compose.cuda.yaml"])
def test_compose_files_name_the_image_that_their_first_lines_build(name):
    text = (ROOT / name).read_text()
    assert "latest" not in text
    for image in re.findall(r"image: (\S+)", text):
        assert f"docker build -t {image} ." in text


def test_the_runbook_names_every_manifest_and_none_else():
    named = set(re.findall(r"deploy/([\w-]+\.yaml)", (ROOT / "docs/SCALE.md").read_text()))
    assert named == {path.name for path in (ROOT / "deploy").glob("*.yaml")}
