"""What the documents promise is there."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from encoder.cli import app as encoder_app
from indexer.cli import app as indexer_app

ROOT = Path(__file__).parents[2]
MADE_BY_EXAMPLES = {
    "encoder/hashing/pcarr.py",
    "encoder/images/readers/zip.py",
    "indexer/engines/plain.py",
    "tests/unit/encoder/images/readers/test_zip.py",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("app", [encoder_app, indexer_app], ids=["encoder", "indexer"])
def test_every_command_has_help_with_an_example_and_stands_in_the_readme(app):
    name = "encoder" if app is encoder_app else "indexer"
    readme = (ROOT / "README.md").read_text()
    for command in app.registered_commands:
        documentation = command.callback.__doc__ or ""
        assert f"Example: {name} {command.callback.__name__}" in documentation
        assert f"{name} {command.callback.__name__}" in readme


def test_every_room_stands_in_the_architecture():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = [
        path.parent for folder in ("encoder", "indexer", "pipelines") for path in (ROOT / folder).rglob("*/__init__.py")
    ]
    assert len(rooms) > 15
    assert [room.name for room in rooms if f"`{room.name}/`" not in text] == []


def test_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert named
    assert named <= targets


def test_one_version():
    assert PROJECT["version"] == version("hashgrain")
    versions = re.findall(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[:1] == [PROJECT["version"]]


def test_every_package_of_the_wheel_is_typed():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "packages"
    ]
    assert packages
    assert all((ROOT / package / "py.typed").is_file() for package in packages)


def test_the_licence_is_the_one_that_the_metadata_name():
    assert [(ROOT / name).read_text().split()[0] for name in PROJECT["license-files"]] == [PROJECT["license"]]


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "SECURITY.md", ".pre-commit-config.yaml", ".ci/run"])
def test_what_a_document_names_exists(document):
    text = (ROOT / document).read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:`|: |^)make ([a-z-]+)", text, re.MULTILINE)
    assert set(named) <= targets
    paths = re.findall(r"`((?:encoder|indexer|pipelines|tests|docs)/[\w./-]*|[A-Z]+\.md)`", text)
    assert named or paths
    assert [path for path in paths if path not in MADE_BY_EXAMPLES and not (ROOT / path).exists()] == []
