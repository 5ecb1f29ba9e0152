"""The folders explain themselves, and the unit tests stand as the code does."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("encoder", "indexer", "pipelines")
ROOMS = sorted(path.parent for package in PACKAGES for path in (ROOT / package).rglob("__init__.py"))


def names(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("room", ROOMS, ids=names)
def test_a_room_says_what_it_is_for(room):
    paragraph = ast.get_docstring(ast.parse((room / "__init__.py").read_text()))
    assert paragraph is not None
    assert len(paragraph.split()) >= 10


def test_every_folder_of_code_is_a_room():
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert folders == set(ROOMS)


@pytest.mark.parametrize("test", sorted((ROOT / "tests/unit").rglob("*.py")), ids=names)
def test_each_unit_test_stands_where_its_module_does(test):
    place = test.relative_to(ROOT / "tests/unit")
    assert (ROOT / place.with_name(place.name.removeprefix("test_"))).is_file()
