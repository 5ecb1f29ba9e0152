import json

import numpy as np
import pytest

import indexer
from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.build import build
from indexer.settings import BuildSettings, Engine, SearchSettings
from indexer.slices import holding
from indexer.slices.cut import cut
from indexer.slices.holding import Holding, SliceSettings
from indexer.slices.line_fan import LineFan, Replicas, Seen
from indexer.slices.lines import HOLD, NotHeldError
from indexer.slices.local_copy import read_pointer

SECRET = b"s" * 32
SETTINGS = SearchSettings(k=9, exact=True, engine=Engine.FAISS)


@pytest.fixture
def index(tmp_path, write_codes, rng):
    """Three segments, a row of each removed."""
    for name in ("a", "b", "c", "d"):
        write_codes(name, {Level.FINE: rng.integers(0, 256, (40, 8), np.uint8)})
    build(list_code_files([tmp_path / "codes" / "a.h5"]), tmp_path / "index", BuildSettings())
    with indexer.writer(tmp_path / "index", compact=False) as writer:
        writer.add([tmp_path / "codes" / "b.h5"])
        writer.add([tmp_path / "codes" / "c.h5"])
        writer.remove(["a-1", "b-1", "c-1"])
    return tmp_path / "index"


@pytest.fixture(params=["mapped where they are", "copied"])
def held(request, index, tmp_path):
    """Two processes that hold a slice each; here, two listeners."""
    copies = None if request.param.startswith("mapped") else str(tmp_path / "copies")
    made = [Holding(SliceSettings(str(index), number, 2, SECRET, copies), "127.0.0.1") for number in range(2)]
    yield made
    for one in made:
        one.close()


def fan_over(held, index):
    replicas = Replicas(2, lambda: [Seen([one.address]) for one in held], SECRET)
    opened = indexer.open(index)
    return LineFan(replicas, opened.snapshot.pointer, cut(opened.manifest, 2)), replicas


def nearest(fan, code):
    found = [one.matches[0] for one in fan.call([0, 1], "probe", Level.FINE, code, SETTINGS, None)]
    rows, distances = (np.concatenate(of) for of in zip(*((one.rows, one.distances) for one in found), strict=True))
    order = np.lexsort((rows, distances))[: SETTINGS.k]
    return rows[order].tolist(), distances[order].tolist()


def test_slices_find_together_what_the_index_finds(held, index, rng):
    fan, replicas = fan_over(held, index)
    opened = indexer.open(index)
    for code in rng.integers(0, 256, (20, 1, 8), np.uint8):
        (whole,) = opened.search(Level.FINE, code, SETTINGS)
        assert nearest(fan, code) == (whole.rows.tolist(), whole.distances.tolist())
    replicas.close()


def test_a_generation_is_opened_when_it_is_asked_for_and_the_former_goes_on(held, index, tmp_path, rng):
    fan, replicas = fan_over(held, index)
    code = rng.integers(0, 256, (1, 8), np.uint8)
    before, former = nearest(fan, code), indexer.open(index)
    with indexer.writer(index, compact=False) as writer:
        writer.add([tmp_path / "codes" / "d.h5"])
    opened = indexer.open(index)
    newer = fan.at(opened.snapshot.pointer, cut(opened.manifest, 2))
    (whole,) = opened.search(Level.FINE, code, SETTINGS)
    assert nearest(newer, code) == (whole.rows.tolist(), whole.distances.tolist())
    assert nearest(fan, code) == before
    assert former.ntotal == 120
    replicas.close()


def test_a_generation_that_is_not_asked_for_any_more_is_let_go(held, index, tmp_path, monkeypatch):
    monkeypatch.setattr(holding, "GRACE", -1.0)
    with indexer.writer(index, compact=False) as writer:
        writer.remove(["a-2"])
    opened = indexer.open(index)
    for one, part in zip(held, cut(opened.manifest, 2), strict=True):
        one.answer(opened.snapshot.pointer, (part.start, part.stop), HOLD)
        assert [pointer for pointer, _ in one._kept] == [opened.snapshot.pointer]


def test_a_generation_that_is_gone_is_told_apart_from_a_slice_that_is_gone(held, index):
    said = json.loads(read_pointer(str(index)))
    gone = json.dumps(said | {"generation": "gen-000099"}).encode()
    with pytest.raises(HashgrainError):
        held[0].answer(gone, (0, 1), HOLD)
    with pytest.raises(NotHeldError):
        held[0].answer(gone, (0, 1), "live_rows", None)


def test_nothing_but_what_a_slice_answers_can_be_asked(held, index):
    opened = indexer.open(index)
    part = cut(opened.manifest, 2)[0]
    for odd in ("__init__", "_mine", "__reduce__", "nothing"):
        with pytest.raises(HashgrainError) as refused:
            held[0].answer(opened.snapshot.pointer, (part.start, part.stop), odd)
        assert refused.value.reason is Reason.BAD_VALUE


def test_a_slice_beyond_the_segments_holds_nothing(index):
    spare = Holding(SliceSettings(str(index), 7, 8, SECRET), "127.0.0.1")
    spare.check()
    spare.close()
    spare._listener._thread.join(5)
    with pytest.raises(HashgrainError) as closed:
        spare.check()
    assert closed.value.reason is Reason.PROCESS_DIED
