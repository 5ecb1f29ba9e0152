"""The documents agree with what they describe: commands, layers, targets, links, figures."""

import re
import tomllib
from pathlib import Path

import pytest

from benchmarks.chart import times
from docs.generate_cli import PAGE, reference

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(path for path in sorted(ROOT.glob("*.md")) if path.name != "CHANGELOG.md"),
    ROOT / "encoder/model/builtin.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def test_the_reference_of_the_commands_is_what_their_help_says():
    assert PAGE.read_text() == reference(), "docs/CLI.md is stale: run `make docs`"


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


def test_the_chart_of_the_readme_shows_the_figures_of_the_benchmarks():
    drawn = re.findall(r"<!-- (.+?) -->", (ROOT / "docs/speed.svg").read_text())
    figures = [time for panel in times().values() for systems in panel.values() for time in systems.values()]
    assert len(figures) == 12
    assert [time for time in figures if f"{time:.1f}" not in drawn] == [], "run `make docs`"
