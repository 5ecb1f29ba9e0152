"""Commands that change an index."""

import json

import numpy as np
import pytest

from encoder.levels import Level
from indexer.build import build
from indexer.index import Index
from indexer.settings import BuildSettings


@pytest.fixture
def index(tmp_path, write_codes, rng):
    """Twelve rows; b, c and d of twelve rows each wait."""
    for name in "abcd":
        write_codes(name, {Level.FINE: rng.integers(0, 256, (12, 2), dtype=np.uint8)})
    build([tmp_path / "codes/a.h5"], tmp_path / "index", BuildSettings())
    return tmp_path / "index"


def segments(index):
    return [segment.record.rows for segment in Index(index).segments]


def test_segments_are_joined_after_a_change_or_when_that_is_asked_for(command, index, tmp_path):
    codes = tmp_path / "codes"
    assert command("indexer", "add", codes / "b.h5", codes / "c.h5", "--index", index)[0] == 0
    code, out, err = command("indexer", "add", codes / "d.h5", "--index", index, "--no-compact")
    assert (code, err) == (0, "")
    assert segments(index) == [12, 24, 12]
    code, out, _ = command("indexer", "compact", "--index", index, "--json")
    assert (code, json.loads(out)["steps"]) == (0, 0)
    code, out, err = command("indexer", "compact", "--index", index, "--all", "--max-gb", 0.001)
    assert code == 0
    assert out.startswith(f"{index} (gen-000004): 48 rows in 1 segments, 0.0 MB written in 1 steps")
    code, out, err = command("indexer", "remove", *[f"a-{row}" for row in range(12)], "--index", index, "--json")
    assert (code, json.loads(out)["live"]) == (0, 36)
    assert "1 segments now (gen-000006): 0.0 MB written to join others" in err
    assert segments(index) == [36]
