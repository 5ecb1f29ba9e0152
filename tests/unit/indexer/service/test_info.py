"""What a service says of the fields of labels: their kind, as a filter has to be written, and their most frequent values."""

import numpy as np
import pytest

import indexer
from encoder.codes.file import list_code_files
from encoder.levels import Level
from indexer.build import build
from indexer.service.info import MOST_VALUES, label_fields
from indexer.settings import BuildSettings


@pytest.fixture
def fields(tmp_path, write_codes):
    labels = [
        {
            "tags": ["a", "b"] if row % 2 else ["a"],
            "price": row / 2,
            "sold": row % 2 == 0,
            "name": f"n{row}",
            "n": row % 3,
        }
        for row in range(60)
    ]
    write_codes("a", {Level.FINE: np.arange(60, dtype=np.uint8)[:, None]}, labels=labels)
    build(list_code_files([tmp_path / "codes"]), tmp_path / "index", BuildSettings())
    return label_fields(indexer.open(tmp_path / "index"))


def test_kinds_are_those_of_the_filters_language(fields):
    assert {name: of.kind for name, of in fields.items()} == {
        "tags": "texts",
        "price": "number",
        "sold": "boolean",
        "name": "text",
        "n": "number",
    }


def test_values_come_by_how_frequent_they_are(fields):
    assert fields["tags"].values == ("a", "b")
    assert fields["n"].values == (0, 1, 2)
    assert (len(fields["name"].values), fields["name"].distinct) == (MOST_VALUES, 60)
    assert (fields["price"].least, fields["price"].most) == (0.0, 29.5)
