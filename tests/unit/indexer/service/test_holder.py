import gc
import threading
import time

import numpy as np
import pytest

import indexer
from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.build import build
from indexer.index import Index
from indexer.service.holder import Holder, canary, random_rows
from indexer.service.metrics import open_files
from indexer.service.server import make_state, warm_searches
from indexer.service.settings import ServeSettings
from indexer.settings import BuildSettings


@pytest.fixture
def folder(tmp_path, write_codes, rng):
    for name in ("a", "b"):
        write_codes(name, {Level.FINE: rng.integers(0, 256, (40, 8), np.uint8)})
    build(list_code_files([tmp_path / "codes" / "a.h5"]), tmp_path / "index", BuildSettings())
    return tmp_path / "index"


def add(folder):
    with indexer.writer(folder) as writer:
        writer.add([folder.parent / "codes" / "b.h5"])


def remove(folder, key):
    """Publish a generation; nothing that the writer had open is left in this process."""
    with indexer.writer(folder) as writer:
        writer.remove([key])


def test_a_newer_generation_is_taken_once(folder):
    told: list[str] = []
    holder = Holder(indexer.open(folder), canary, changed=told.append)
    first = holder.current
    assert not holder.swap_if_newer()
    add(folder)
    assert holder.swap_if_newer()
    assert not holder.swap_if_newer()
    assert (first.ntotal, holder.current.ntotal, told) == (40, 80, ["swap"])
    assert holder.current.segments[0] is not None


def test_the_former_generation_answers_for_a_while(folder):
    holder = Holder(indexer.open(folder), canary, grace=0.2)
    former = holder.current
    add(folder)
    holder.swap_if_newer()
    assert holder.of(None) is holder.of(holder.current.generation) is holder.current
    assert holder.of(former.generation) is former
    time.sleep(0.25)
    holder.swap_if_newer()
    with pytest.raises(HashgrainError) as gone:
        holder.of(former.generation)
    assert gone.value.reason is Reason.GENERATION_MISSING


def test_a_generation_that_fails_its_trial_stays_out_and_is_not_tried_again(folder, caplog):
    tried, told = list[str](), list[str]()

    def refuse(index):
        tried.append(index.generation)
        raise HashgrainError(Reason.INDEX_DAMAGED, "rows are not found")

    holder = Holder(indexer.open(folder), refuse, changed=told.append)
    first = holder.current
    add(folder)
    assert [holder.swap_if_newer() for _ in range(3)] == [False, False, False]
    assert holder.current is first
    assert (len(tried), told) == (1, ["refused"])
    assert "is not served" in caplog.text
    with indexer.writer(folder) as writer:
        writer.remove(["a-1"])
    holder.swap_if_newer()
    assert len(tried) == 2


def test_a_generation_that_a_slice_does_not_have_yet_is_tried_again(folder):
    down = [HashgrainError(Reason.SLICE_DOWN, "slice 1 does not answer")]
    told = list[str]()

    def verify(_):
        if down:
            raise down.pop()

    holder = Holder(indexer.open(folder), verify, changed=told.append)
    add(folder)
    assert [holder.swap_if_newer() for _ in range(3)] == [False, True, False]
    assert told == ["swap"]


def test_a_generation_that_cannot_be_opened_stays_out(folder):
    holder = Holder(indexer.open(folder), canary)
    first = holder.current
    (folder / "CURRENT").write_text("{}")
    assert not holder.swap_if_newer()
    assert not holder.swap_if_newer()
    assert holder.current is first


def test_the_canary_finds_codes_that_are_not_those_of_their_rows(folder, monkeypatch):
    index = indexer.open(folder)
    canary(index)
    monkeypatch.setattr(Index, "codes", lambda index, level, rows: np.zeros((len(rows), 8), np.uint8))
    with pytest.raises(HashgrainError) as damaged:
        canary(index)
    assert damaged.value.reason is Reason.INDEX_DAMAGED


def test_watching_ends_when_told(folder):
    holder, stop = Holder(indexer.open(folder), canary), threading.Event()
    watching = threading.Thread(target=holder.watch, args=(0.01, stop))
    watching.start()
    add(folder)
    deadline = time.monotonic() + 10
    while holder.current.ntotal != 80:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    stop.set()
    watching.join(5)
    assert not watching.is_alive()


def test_random_rows_are_different_and_live(folder):
    with indexer.writer(folder) as writer:
        writer.remove([f"a-{row}" for row in range(0, 40, 2)])
    index = indexer.open(folder)
    for count in (0, 1, 5, 20, 60):
        rows = random_rows(index, count, np.random.default_rng(1)).tolist()
        assert len(set(rows)) == len(rows) == min(count, 20)
        assert all(int(index.key(row)[2:]) % 2 for row in rows)


def test_handles_are_those_of_two_generations_and_after_the_grace_of_one(folder):
    state = make_state(indexer.open(folder), ServeSettings(grace=0.05), with_model=False)
    holder, handles = state.holder, list[float]()
    warm_searches(holder.current, ServeSettings().warm_bytes)
    canary(holder.current)
    gc.collect()
    before = open_files()
    for row in range(12):
        remove(folder, f"a-{row}")
        assert holder.swap_if_newer()
        handles.append(open_files())
    time.sleep(0.06)
    assert not holder.swap_if_newer()
    assert max(handles) > before
    assert max(handles[6:]) <= max(handles[:6])
    assert open_files() == before
    for lane in state.lanes.all():
        lane.close()
