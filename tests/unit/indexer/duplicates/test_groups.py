"""Groups of an index: only rows that live and pass, largest first, also where rows share codes and stand in several segments."""

import numpy as np
import pytest

import indexer
from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.build import build
from indexer.duplicates.groups import DuplicateSettings, find_duplicates
from indexer.settings import BuildSettings, Dedupe

CODES = np.array([[0, 0], [1, 0], [3, 0], [255, 255], [0, 255], [255, 255], [7, 0], [0, 254]], np.uint8)
"""0, 1, 2, 6 are a chain of single bits; 3 and 5 are equal; 4 and 7 differ in one bit."""


@pytest.fixture(params=[Dedupe.OFF, Dedupe.ON])
def opened(request, tmp_path, write_codes):
    labels = [{"side": "left" if row < 4 else "right"} for row in range(8)]
    write_codes("a", {Level.FINE: CODES[:5]}, labels=labels[:5])
    build(list_code_files([tmp_path / "codes"]), tmp_path / "index", BuildSettings(dedupe=request.param))
    more = write_codes("b", {Level.FINE: CODES[5:]}, labels=labels[5:])
    with indexer.writer(tmp_path / "index", compact=False) as writer:
        writer.add([more])
    return indexer.open(tmp_path / "index")


def groups(opened, **settings):
    found = find_duplicates(opened.snapshot, DuplicateSettings(Level.FINE, **settings))
    return [(group.rows.tolist(), group.distances.tolist()) for group in found.groups]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"radius": 0}, [([3, 5], [0, 0])]),
        ({"radius": 1}, [([0, 1, 2, 6], [0, 1, 2, 3]), ([3, 5], [0, 0]), ([4, 7], [0, 1])]),
        ({"radius": 1, "strict": True}, [([0, 1], [0, 1]), ([2, 6], [0, 1]), ([3, 5], [0, 0]), ([4, 7], [0, 1])]),
        ({"radius": 1, "where": 'label.side = "left"'}, [([0, 1, 2], [0, 1, 2])]),
    ],
)
def test_groups(opened, settings, expected):
    assert groups(opened, **settings) == expected


def test_removed_rows_are_in_no_group(opened):
    with indexer.writer(opened.path, compact=False) as writer:
        writer.remove(["a-1", "b-0"])
    opened.refresh()
    assert groups(opened, radius=1) == [([2, 6], [0, 1]), ([4, 7], [0, 1])]


def test_counts(opened):
    found = find_duplicates(opened.snapshot, DuplicateSettings(Level.FINE, 1))
    assert (found.rows, found.extra) == (8, 5)


@pytest.mark.parametrize(
    ("level", "radius", "reason"),
    [("fine", 16, Reason.BAD_VALUE), ("mid", 1, Reason.LEVEL_UNKNOWN), ("fine", -1, Reason.BAD_VALUE)],
)
def test_what_cannot_be_asked(opened, level, radius, reason):
    with pytest.raises(HashgrainError) as caught:
        find_duplicates(opened.snapshot, DuplicateSettings(level, radius))
    assert caught.value.reason is reason
