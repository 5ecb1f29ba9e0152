import shutil
from pathlib import Path

import numpy as np
import pytest

from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from encoder.runtime import durable
from indexer.build import build
from indexer.changes.history import gc, history, rollback
from indexer.changes.writer import writer
from indexer.index import Index
from indexer.settings import BuildSettings
from indexer.storage.current import read_current
from indexer.verify import verify


@pytest.fixture
def index(tmp_path, write_codes, rng):
    """Four generations: 20 rows; 30; a-0 and b-0 removed; a-0 again, and b-1 replaced."""
    write_codes("a", {Level.FINE: rng.integers(0, 256, (20, 2), dtype=np.uint8)})
    write_codes("b", {Level.FINE: rng.integers(0, 256, (10, 2), dtype=np.uint8)})
    write_codes("c", {Level.FINE: rng.integers(0, 256, (2, 2), dtype=np.uint8)}, keys=["a-0", "b-1"])
    path = tmp_path / "index"
    build([tmp_path / "codes/a.h5"], path, BuildSettings())
    with writer(path) as opened:
        opened.add([tmp_path / "codes/b.h5"])
    with writer(path) as opened:
        opened.remove(["a-0", "b-0"])
    with writer(path) as opened:
        opened.add([tmp_path / "codes/c.h5"])
    return path


def state(path):
    opened = verify(path, lambda *_: None)
    rows = opened.live_rows()
    return [opened.key(row) for row in rows.tolist()], opened.codes(Level.FINE, rows).tolist()


def test_the_history_says_what_was_done(index):
    found = [
        (change.generation, change.what, change.added, change.removed, change.rows) for change, _ in history(index)
    ]
    assert found == [
        ("gen-000001", "build", 20, 0, 20),
        ("gen-000002", "add", 10, 0, 30),
        ("gen-000003", "remove", 0, 2, 28),
        ("gen-000004", "add", 2, 1, 29),
    ]
    assert all(there for _, there in history(index))
    shutil.rmtree(index / "gen-000002")
    assert [there for _, there in history(index)] == [True, False, True, True]


@pytest.mark.parametrize(("to", "generation"), [(1, 1), (2, 2), (3, 3), (-1, 3), (-3, 1)])
def test_a_rollback_is_a_generation_with_the_rows_of_the_earlier_one(index, tmp_path, to, generation):
    copy = Path(shutil.copytree(index, tmp_path / "copy"))
    name = f"gen-{generation:06d}"
    (copy / "CURRENT").unlink()
    from indexer.storage.current import write_pointer

    write_pointer(copy, name)
    change = rollback(index, to)
    assert (change.generation, change.what, change.of) == ("gen-000005", "rollback", name)
    assert state(index) == state(copy)
    folder, manifest = read_current(index)
    assert folder.name == "gen-000005"
    assert [change.what for change in manifest.history] == ["build", "add", "remove", "add", "rollback"]
    before = state(index)
    rollback(index, 4)
    assert len(state(index)[0]) == 29
    rollback(index, -1)
    assert state(index) == before


def test_an_index_goes_on_after_a_rollback(index, tmp_path):
    rollback(index, 2)
    with writer(index) as opened:
        opened.add([tmp_path / "codes/c.h5"])
        opened.remove(["a-19"])
    keys, _ = state(index)
    assert keys == [*(f"a-{row}" for row in range(1, 19)), "b-0", *(f"b-{row}" for row in range(2, 10)), "a-0", "b-1"]


def test_a_rollback_steps_over_changes_and_not_over_what_followed_them_by_itself(index, tmp_path, write_codes, rng):
    """A build of 20 rows, changes to 29; then 20, 20 and 20 more, after the last of which four segments are one."""
    states = {}
    for name in ("d", "e", "f"):
        write_codes(name, {Level.FINE: rng.integers(0, 256, (20, 2), dtype=np.uint8)})
        states[name] = state(index)
        with writer(index) as opened:
            opened.add([tmp_path / f"codes/{name}.h5"])
    after = state(index)
    changes = [(change.generation, change.what) for change, _ in history(index)]
    assert changes[-2:] == [("gen-000007", "add"), ("gen-000008", "compact")]
    assert rollback(index, -1).of == "gen-000006"
    assert state(index) == states["f"]
    assert rollback(index, -1).of == "gen-000008"  # the rollback is undone, and what was joined stays so
    assert state(index) == after
    assert rollback(index, -4, keep=99).of == "gen-000005"
    assert state(index) == states["e"]


@pytest.mark.parametrize("to", ["2", "gen-000002", "gen-2", "gen-0000000002"])
def test_a_generation_is_named_as_the_history_shows_it_or_by_its_number(index, to):
    assert rollback(index, to).of == "gen-000002"


@pytest.mark.parametrize("to", ["", "gen-", "gen--1", "gen-000002x", "two", "--2", "1.5", "9" * 99, "\u0663"])
def test_what_names_no_generation_is_one_line(index, to):
    before = state(index)
    with pytest.raises(
        HashgrainError, match=r"^a generation is called [^\n]+; expected its number or name \(3, gen-000003\)"
    ) as caught:
        rollback(index, to)
    assert caught.value.reason is Reason.BAD_VALUE
    assert state(index) == before


@pytest.mark.parametrize("to", [4, 5, 0, -4, 99])
def test_a_generation_that_is_not_there_is_named_with_those_that_are(index, to):
    before = state(index)
    said = f"has no generation {to} before the current one, gen-000004, on the disk; it has gen-000001, gen-000002, gen-000003$"
    with pytest.raises(HashgrainError, match=said) as caught:
        rollback(index, to)
    assert caught.value.reason is Reason.GENERATION_MISSING
    assert state(index) == before


def test_gc_keeps_the_newest_and_what_is_read(index):
    reader = Index(index)
    rollback(index, 1)
    assert gc(index, 2) == ["gen-000001", "gen-000002", "gen-000003"]
    assert gc(index, 1) == []
    assert reader.find("b-1") == 31
    del reader
    assert gc(index, 1) == ["gen-000004"]
    assert len(state(index)[0]) == 20
    with pytest.raises(HashgrainError, match="keep is 0"):
        gc(index, 0)


def test_generations_beyond_those_kept_go_by_themselves(index):
    for row in range(1, 9):
        with writer(index, keep=3, compact=False) as opened:
            opened.remove([f"a-{row}"])
    assert sorted(path.name for path in index.glob("gen-*")) == ["gen-000010", "gen-000011", "gen-000012"]
    assert len(history(index)) == 12


def test_a_generation_that_was_never_the_current_one_is_none_to_go_back_to(index, monkeypatch):
    def fail(name, path):
        if name == "pointer":
            raise OSError(5, "no", str(path))

    monkeypatch.setattr(durable, "on_step", fail)
    with pytest.raises(HashgrainError, match="could not be written"), writer(index, compact=False) as opened:
        opened.remove(["b-2"])
    monkeypatch.setattr(durable, "on_step", None)
    before = state(index)
    with writer(index, compact=False) as opened:
        opened.remove(["b-3"])
    assert len({path.name for path in index.glob("gen-*")}) == len(history(index)) == 5
    rollback(index, -1)
    assert state(index) == before
