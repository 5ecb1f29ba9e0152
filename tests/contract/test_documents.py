"""What the documents promise is there."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from benchmarks.chart import times
from docs.generate_cli import PAGE, reference
from encoder.cli import app as encoder_app
from indexer.cli import app as indexer_app

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(path for path in sorted(ROOT.glob("*.md")) if path.name != "CHANGELOG.md"),
    ROOT / "encoder/model/builtin.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("app", [encoder_app, indexer_app], ids=["encoder", "indexer"])
def test_every_command_has_help_with_an_example_and_stands_in_the_readme(app):
    name = "encoder" if app is encoder_app else "indexer"
    readme = (ROOT / "README.md").read_text()
    for command in app.registered_commands:
        documentation = command.callback.__doc__ or ""
        assert f"Example: {name} {command.callback.__name__}" in documentation
        assert f"{name} {command.callback.__name__}" in readme


def test_the_reference_of_the_commands_is_what_their_help_says():
    assert PAGE.read_text() == reference(), "docs/CLI.md is stale: run `python docs/generate_cli.py`"


def test_every_room_stands_in_the_architecture():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = [
        path.parent for folder in ("encoder", "indexer", "pipelines") for path in (ROOT / folder).rglob("*/__init__.py")
    ]
    assert len(rooms) > 15
    assert [room.name for room in rooms if f"`{room.name}/`" not in text] == []


@pytest.mark.parametrize("package", ["encoder", "indexer"])
def test_the_layers_of_the_architecture_are_those_of_the_lint(package):
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract.get("containers") == [package]]
    chain = " > ".join(f"`{layer}`" for layer in layers if layer != "__main__")
    assert f"\n{chain}\n" in (ROOT / "ARCHITECTURE.md").read_text()


def test_make_targets_of_the_documents_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        assert set(re.findall(r"(?:`|^)make ([a-z-]+)", document.read_text(), re.MULTILINE)) <= targets, document


def test_links_of_the_documents_lead_somewhere():
    for document in DOCUMENTS:
        for link, heading in re.findall(r"\]\(([^)#:]+)(?:#([^)]*))?\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
            assert not heading or heading in anchors(document.parent / link), f"{document.name}: {link}#{heading}"


def anchors(document: Path) -> set[str]:
    """Return what the headings of a document are linked by, as GitHub makes it of them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_one_version():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == version("hashgrain")


def test_the_chart_of_the_readme_shows_the_figures_of_the_benchmarks():
    drawn = re.findall(r"<!-- (.+?) -->", (ROOT / "docs/speed.svg").read_text())
    figures = [time for panel in times().values() for systems in panel.values() for time in systems.values()]
    assert len(figures) == 12
    assert [time for time in figures if f"{time:.1f}" not in drawn] == [], "run `python benchmarks/chart.py`"
