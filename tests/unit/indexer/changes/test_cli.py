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
    for name in ("a", "b"):
        labels = [{"n": row} for row in range(10)]
        codes = {Level.FINE: rng.integers(0, 256, (10, 8), dtype=np.uint8)}
        write_codes(name, codes, labels=labels, shard_path=f"/shards/{name}.tar")
    path = tmp_path / "index"
    build([tmp_path / "codes/a.h5"], path, BuildSettings())
    return path


@pytest.fixture
def change(command, index):
    """Run a command on the index, which joins no segments: its exit code, its answer (of JSON, if asked for) and its notices."""

    def call(*arguments):
        alone = ["--no-compact"] if arguments[0] in {"add", "remove"} else []
        code, out, err = command("indexer", *arguments, *alone, "--index", index)
        return code, [json.loads(line) for line in out.splitlines()] if "--json" in arguments else out, err

    return call


def test_rows_are_added_and_what_replaces_is_said(change, index, tmp_path):
    code, out, err = change("add", tmp_path / "codes")
    assert (code, out.splitlines()[0].split(" MB")[0]) == (0, f"20 rows added to {index} (gen-000002): 20 rows, 0.0")
    assert err == "10 earlier rows replaced\n"
    _, [answer], _ = change("add", tmp_path / "codes", "--on-duplicate", "first", "--json")
    assert {name: answer[name] for name in ("rows", "replaced", "left_out", "generation", "live")} == {
        "rows": 0,
        "replaced": 0,
        "left_out": 20,
        "generation": "gen-000002",
        "live": 20,
    }
    code, _, err = change("add", tmp_path / "codes/b.h5", "--on-duplicate", "error")
    assert code == 1
    assert "10 keys of" in err
    assert "(--on-duplicate)" in err


def test_rows_are_removed_by_key_file_filter_and_shard(change, index, tmp_path):
    change("add", tmp_path / "codes/b.h5")
    (tmp_path / "keys.txt").write_text("a-0\na-1\r\n\nb-9\n")
    assert (
        change("remove", "a-5", "--from-file", tmp_path / "keys.txt")[1]
        == f"4 rows removed from {index} (gen-000003): 16 rows\n"
    )
    assert change("remove", "--where", "label.n = 3", "--json")[1] == [
        {"removed": 2, "generation": "gen-000004", "live": 14}
    ]
    assert change("remove", "--shard", "b.*", "--json")[1][0]["removed"] == 8
    left = Index(index)
    assert [left.key(row) for row in left.live_rows().tolist()] == ["a-2", "a-4", "a-6", "a-7", "a-8", "a-9"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from-file", "nowhere.txt"], "nowhere.txt cannot be read as keys"),
        (["--missing-ok"], "nothing to remove; give keys, --from-file, --where or --shard"),
        (["a-1", "nobody"], "1 of 2 keys are not in"),
        (["nobody"], "(--missing-ok)"),
    ],
)
def test_what_cannot_be_removed_is_one_line(change, index, arguments, said):
    code, out, err = change("remove", *arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert said in err
    assert Index(index).manifest.live == 10


def test_a_change_is_undone_and_generations_are_listed_and_cleared(change, index):
    change("remove", "a-1")
    change("remove", "a-2")
    code, out, _ = change("rollback", "-1")
    assert (code, out) == (0, f"{index} (gen-000004) is as gen-000002 was: 9 rows\n")
    assert change("rollback", "1", "--json")[1][0]["of"] == "gen-000001"
    lines = change("history")[1].splitlines()
    assert [(line.split()[0], line.partition("  20")[2].partition("  ")[2]) for line in lines] == [
        ("gen-000001", "build: +10 -0, 10 rows"),
        ("gen-000002", "remove: +0 -1, 9 rows"),
        ("gen-000003", "remove: +0 -1, 8 rows"),
        ("gen-000004", "rollback to gen-000002: +1 -0, 9 rows"),
        ("gen-000005", "rollback to gen-000001: +1 -0, 10 rows"),
    ]
    assert change("gc", "--keep", 2)[1] == f"3 generations of {index} removed: gen-000001, gen-000002, gen-000003\n"
    assert [line["on_disk"] for line in change("history", "--json")[1]] == [False, False, False, True, True]
    code, _, err = change("rollback", "3")
    assert (code, err.count("\n")) == (1, 1)
    assert "it has gen-000004 (indexer history)" in err
    code, _, err = change("rollback", "gen-77")
    assert (code, err.count("\n"), "has no generation 77 before the current one, gen-000005" in err) == (1, 1, True)
    code, _, err = change("rollback", "yesterday")
    assert (code, err.count("\n"), "expected its number or name (3, gen-000003)" in err) == (1, 1, True)
    assert change("rollback", "gen-000004")[1] == f"{index} (gen-000006) is as gen-000004 was: 9 rows\n"


@pytest.fixture
def waiting(tmp_path, write_codes, rng):
    """An index of twelve rows; b, c and d of twelve rows each wait."""
    for name in "abcd":
        write_codes(name, {Level.FINE: rng.integers(0, 256, (12, 2), dtype=np.uint8)})
    build([tmp_path / "codes/a.h5"], tmp_path / "index", BuildSettings())
    return tmp_path / "index"


def segments(index):
    return [segment.record.rows for segment in Index(index).segments]


def test_segments_are_joined_after_a_change_or_when_that_is_asked_for(command, waiting, tmp_path):
    index, codes = waiting, tmp_path / "codes"
    assert command("indexer", "add", codes / "b.h5", codes / "c.h5", "--index", index)[0] == 0
    code, out, err = command("indexer", "add", codes / "d.h5", "--index", index, "--no-compact")
    assert (code, err) == (0, "")
    assert segments(index) == [12, 24, 12]
    code, out, _ = command("indexer", "compact", "--index", index, "--json")
    assert (code, json.loads(out)["steps"]) == (0, 0)
    code, out, err = command("indexer", "compact", "--index", index, "--all", "--max-gb", 0.001)
    assert code == 0
    assert out.startswith(f"{index} (gen-000004): 48 rows in 1 segment, 0.0 MB written in 1 step")
    code, out, err = command("indexer", "remove", *[f"a-{row}" for row in range(12)], "--index", index, "--json")
    assert (code, json.loads(out)["live"]) == (0, 36)
    assert "1 segment now (gen-000006): 0.0 MB written to join others" in err
    assert segments(index) == [36]
