import json
from pathlib import Path

import numpy as np
import pytest

from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.images.labels.values import Labels
from encoder.levels import Level
from indexer.build import build
from indexer.index import Index
from indexer.page.labels import compared_fields, file_labels, query_labels, shared_fields, texts
from indexer.query import ByImage, ByKey
from indexer.settings import BuildSettings
from tests.support.pictures import encoded

LABELS: list[Labels] = [
    {"fine": row // 2, "fine_name": f"class {row // 2}", "height": 32, "taken": 1000 + row, "folder": "ab"[row % 2]}
    for row in range(12)
]
QUERY: Labels = {"fine": 3, "fine_name": "class 3", "height": 32, "taken": 1003, "folder": "a"}


@pytest.fixture
def index(tmp_path, write_codes):
    """Twelve rows: two per class, one height, and a time that is different for each."""
    codes = np.zeros((len(LABELS), 1), dtype=np.uint8)
    write_codes("a", {Level.FUSED: codes}, keys=[f"{row}.png" for row in range(len(LABELS))], labels=LABELS)
    build(list_code_files([tmp_path / "codes"]), tmp_path / "index", BuildSettings(levels=(Level.FUSED,)))
    return Index(tmp_path / "index")


def test_constants_and_identifiers_do_not_count(index):
    assert set(compared_fields(index, [QUERY])) == {"fine", "folder"}


def test_a_field_that_no_query_has_does_not_count(index):
    assert compared_fields(index, [{"fine": 1}, {}]) == ["fine"]
    assert compared_fields(index, [{}]) == []


@pytest.mark.parametrize("match", [["label.fine"], ["fine"], ["fine_name", "label.fine"]])
def test_the_fields_that_count_are_chosen_as_in_a_filter(index, match):
    assert compared_fields(index, [QUERY], match) == ["fine"]


def test_a_field_that_is_nowhere_is_one_line(index):
    with pytest.raises(HashgrainError, match=r"'fien' is not in .*; it has .*fine.*height") as caught:
        compared_fields(index, [QUERY], ["label.fien"])
    assert caught.value.reason is Reason.BAD_VALUE


@pytest.mark.parametrize(
    ("query", "hit", "shared"),
    [
        ({"fine": 3}, {"fine": 3, "fine_name": "rye"}, {"fine"}),
        ({"fine_name": "rye"}, {"fine": 3, "fine_name": "rye"}, {"fine"}),
        ({"fine": 3}, {"fine": "3"}, {"fine"}),
        ({"fine": 3}, {"fine": 4}, set()),
        ({"fine": 3, "kind": "a"}, {"fine": 4, "kind": "a", "height": 1}, {"kind"}),
        ({"height": 1}, {"height": 1}, set()),
        ({}, {"fine": 3}, set()),
        ({"kind": ("red", "round")}, {"kind": ("green", "round")}, {"kind"}),
        ({"kind": ("red",)}, {"kind": ("green", "round")}, set()),
        ({"kind": ()}, {"kind": ()}, set()),
        ({"kind": "red"}, {"kind": ("green", "red")}, {"kind"}),
        ({"kind": True}, {"kind": "true"}, {"kind"}),
        ({"kind": 3.0}, {"kind": 3}, {"kind"}),
        ({"kind": 3.5}, {"kind": 3}, set()),
    ],
)
def test_a_hit_shares_what_counts_by_number_or_by_name(query, hit, shared):
    assert shared_fields(["fine", "kind"], query, hit) == shared


def test_a_name_is_shown_for_its_number_and_a_number_alone_with_its_field():
    assert texts({"fine": 3, "fine_name": "rye", "height": 2, "kind": "bread"}) == {
        "fine": "rye",
        "height": "height 2",
        "kind": "bread",
    }


def test_each_kind_is_shown_as_people_write_it():
    labels: Labels = {
        "sold": True,
        "price": 3.9900000095,
        "tags": ("red", "round"),
        "none": (),
        "n": -1,
        "far": float("inf"),
        "e": "",
    }
    assert texts(labels) == {
        "tags": "red, round", "e": "", "sold": "sold true", "price": "price 3.99", "n": "n -1", "far": "far inf",
    }  # fmt: skip


def test_lists_vary_by_their_items(tmp_path, write_codes):
    tags = [("a", "b"), ("b", "c"), ("c", "a"), ("a",), (), ("b",)]
    labels: list[Labels] = [{"tags": tag, "id": (f"{row}",), "same": ("x",)} for row, tag in enumerate(tags)]
    write_codes("a", {Level.FUSED: np.zeros((len(labels), 1), dtype=np.uint8)}, labels=labels)
    build(list_code_files([tmp_path / "codes"]), tmp_path / "index", BuildSettings(levels=(Level.FUSED,)))
    assert compared_fields(Index(tmp_path / "index"), [labels[0]]) == ["tags"]


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "rye" / "photo.png"
    path.parent.mkdir()
    path.write_bytes(encoded(1, "PNG"))
    return path


def test_a_photo_takes_the_labels_of_its_folder(photo, monkeypatch):
    assert file_labels(photo) == {"folder": "rye"}
    monkeypatch.chdir(photo.parent)
    assert file_labels(photo.relative_to(photo.parent)) == {"folder": "rye"}


def test_a_photo_takes_the_labels_of_its_sidecars_before_its_folder(photo):
    photo.with_suffix(".cls").write_text("7")
    assert file_labels(photo) == {"cls": 7, "folder": "rye"}
    photo.with_suffix(".json").write_text(json.dumps({"fine": 3, "box": [1, 2]}))
    assert file_labels(photo) == {"fine": 3, "box": ("1", "2"), "cls": 7, "folder": "rye"}


def test_a_photo_that_is_gone_or_whose_sidecar_is_damaged_has_no_labels_of_it(photo, tmp_path):
    photo.with_suffix(".json").write_text("{")
    assert file_labels(photo) == {"folder": "rye"}
    assert file_labels(tmp_path / "gone.png") == {}


def test_labels_of_a_query_that_the_index_has_no_field_for_are_left_out(index, photo):
    photo.with_suffix(".json").write_text(json.dumps({"fine": 3, "mood": "good"}))
    assert query_labels(index, ByImage(photo)) == {"fine": 3, "folder": "rye"}


def test_a_key_has_the_labels_of_its_row_and_stdin_has_none(index):
    assert query_labels(index, ByKey("4.png")) == LABELS[4]
    assert query_labels(index, ByImage(b"")) == {}


def test_the_folder_of_a_path_with_dots_is_where_they_lead(tmp_path, monkeypatch):
    (tmp_path / "rye/deep").mkdir(parents=True)
    (tmp_path / "rye/a.png").write_bytes(encoded(1, "PNG"))
    monkeypatch.chdir(tmp_path / "rye/deep")
    assert file_labels(Path("../a.png")) == {"folder": "rye"}
