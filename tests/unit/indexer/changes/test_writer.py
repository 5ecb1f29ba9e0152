from functools import partial

import numpy as np
import pytest

import indexer
from encoder.codes.file import list_code_files
from encoder.codes.label_columns import LabelColumn
from encoder.codes.strings import TextColumn
from encoder.errors import HashgrainError, Reason
from encoder.images.labels.values import LabelKind
from encoder.levels import Level
from indexer.build import build
from indexer.changes import writer as changes
from indexer.changes.history import history
from indexer.engines.faiss_cpu import assign
from indexer.engines.faiss_file import read_centroids
from indexer.index import Index
from indexer.settings import BuildSettings, Dedupe, Engine, IndexKind, OnDuplicate, SearchSettings
from indexer.storage.row_source import ArrayRows
from indexer.verify import verify

writer = partial(changes.writer, compact=False)
"""Rows keep their numbers here; tests of compaction are elsewhere."""
LISTS = BuildSettings(IndexKind.IVF, nlist=4, dedupe=Dedupe.OFF)
SETTINGS = [BuildSettings(), LISTS, BuildSettings(IndexKind.IVF, nlist=4, dedupe=Dedupe.ON)]


@pytest.fixture
def codes(rng):
    """Codes with many ties, by name of their code file."""
    return {name: rng.integers(0, 3, (rows, 2), dtype=np.uint8) for name, rows in (("a", 40), ("b", 30), ("c", 20))}


@pytest.fixture
def index(tmp_path, write_codes, codes, request):
    """An index of the rows a-0 to a-39, flat or as the test asks; b and c wait."""
    write_codes("a", {Level.FINE: codes["a"]}, labels=[{"n": row} for row in range(40)])
    path = tmp_path / "index"
    build([tmp_path / "codes/a.h5"], path, getattr(request, "param", BuildSettings()))
    return path


def answers(path, where=None):
    """Return keys and distances of flat search for all codes there are, by each engine."""
    opened = Index(path)
    queries = np.array([[first, second] for first in range(3) for second in range(3)], np.uint8)
    found = []
    for engine in (Engine.FAISS, Engine.SCAN):
        settings = SearchSettings(7, exact=True, engine=engine, where=where)
        matches = opened.search(Level.FINE, queries, settings)
        found.append([([opened.key(row) for row in one.rows.tolist()], one.distances.tolist()) for one in matches])
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("index", SETTINGS, indirect=True, ids=["flat", "lists", "shared"])
def test_added_rows_come_last_and_are_found(index, tmp_path, write_codes, codes):
    write_codes("b", {Level.FINE: codes["b"]}, labels=[{"n": 100 + row, "new": "yes"} for row in range(30)])
    with writer(index) as opened:
        added = opened.add([tmp_path / "codes/b.h5"])
    assert (added.rows, added.replaced, added.left_out) == (30, 0, 0)
    assert (opened.report.generation, opened.report.rows, opened.report.added) == ("gen-000002", 70, 30)
    after = verify(index, lambda *_: None)
    assert [after.key(row) for row in range(70)] == [f"a-{row}" for row in range(40)] + [
        f"b-{row}" for row in range(30)
    ]
    assert after.labels(45) == {"n": 105, "new": "yes"}
    assert after.shard(45) == "/nowhere"
    build(list_code_files([tmp_path / "codes"]), tmp_path / "whole", BuildSettings())
    assert answers(index) == answers(tmp_path / "whole")
    assert answers(index, "label.n >= 35") == answers(tmp_path / "whole", "label.n >= 35")
    assert [change.what for change, _ in history(index)] == ["build", "add"]
    spans = [span for segment in after.manifest.segments for span in segment.shards]
    assert [(span.codes, len(span.seal or "")) for span in spans] == [("a.h5", 64), ("b.h5", 64)]


@pytest.mark.parametrize("index", [LISTS], indirect=True)
def test_lists_of_added_rows_have_the_centroids_of_the_first(index, tmp_path, write_codes, codes):
    write_codes("b", {Level.FINE: codes["b"]})
    with writer(index) as opened:
        opened.add([tmp_path / "codes/b.h5"])
    records = [segment.record.levels[Level.FINE] for segment in Index(index).segments]
    assert records[0].trained == records[1].trained is not None
    folders = [segment.folder for segment in Index(index).segments]
    first, second = (read_centroids(folder / "fine.ivf.faiss") for folder in folders)
    assert np.array_equal(first, second)
    assert (records[1].nlist, records[1].nprobe) == (records[0].nlist, records[0].nprobe)
    ivf = Index(index).segments[1].levels[Level.FINE].ivf
    assert ivf is not None
    assert ivf.fault() is None
    nearest = assign(codes["b"], first)
    sizes = [ivf.index.invlists.list_size(number) for number in range(4)]
    assert sizes == np.bincount(nearest, minlength=4).tolist()


@pytest.mark.parametrize("index", SETTINGS, indirect=True, ids=["flat", "lists", "shared"])
def test_a_key_that_comes_again_replaces_its_row(index, tmp_path, write_codes, codes):
    keys = ["a-3", "c-1", "a-39", *(f"c-{row}" for row in range(3, 20))]
    write_codes("c", {Level.FINE: codes["c"]}, keys=keys, labels=[{"n": -1}] * 20)
    with writer(index) as opened:
        added = opened.add([tmp_path / "codes/c.h5"])
    assert (added.rows, added.replaced) == (20, 2)
    after = verify(index, lambda *_: None)
    assert (after.manifest.rows, after.manifest.live) == (60, 58)
    assert after.find("a-3") == 40
    assert after.labels(after.find("a-3")) == {"n": -1}
    kept = [row for row in range(40) if row not in {3, 39}]
    write_codes(
        "fresh", {Level.FINE: np.concatenate([codes["a"][kept], codes["c"]])}, keys=[f"a-{row}" for row in kept] + keys
    )
    build([tmp_path / "codes/fresh.h5"], tmp_path / "fresh", BuildSettings())
    assert answers(index) == answers(tmp_path / "fresh")


def test_the_first_of_a_key_stays_where_that_is_wanted_and_an_error_changes_nothing(
    index, tmp_path, write_codes, codes
):
    write_codes("c", {Level.FINE: codes["c"]}, keys=["a-3", *(f"c-{row}" for row in range(19))])
    said = "has 1 key of .*c.h5 already, first 'a-3'; replace"
    with pytest.raises(HashgrainError, match=said) as caught, writer(index) as opened:
        opened.add([tmp_path / "codes/c.h5"], on_duplicate=OnDuplicate.ERROR)
    assert caught.value.reason is Reason.DUPLICATE_KEYS
    assert [path.name for path in index.glob("gen-*")] == ["gen-000001"]
    with writer(index) as opened:
        added = opened.add([tmp_path / "codes/c.h5"], on_duplicate=OnDuplicate.FIRST)
    assert (added.rows, added.replaced, added.left_out) == (19, 0, 1)
    assert Index(index).find("a-3") == 3


@pytest.mark.parametrize("index", SETTINGS, indirect=True, ids=["flat", "lists", "shared"])
def test_removed_rows_are_gone_from_the_next_query_on(index, tmp_path, write_codes, codes):
    reader = Index(index)
    with writer(index) as opened:
        assert opened.remove(["a-3", "a-3", "a-17"], where="label.n >= 30") == 12
    assert (opened.report.removed, opened.report.rows) == (12, 28)
    after = verify(index, lambda *_: None)
    gone = {3, 17, *range(30, 40)}
    assert after.live_rows().tolist() == [row for row in range(40) if row not in gone]
    kept = [row for row in range(40) if row not in gone]
    write_codes("fresh", {Level.FINE: codes["a"][kept]}, keys=[f"a-{row}" for row in kept])
    build([tmp_path / "codes/fresh.h5"], tmp_path / "fresh", BuildSettings())
    assert answers(index) == answers(tmp_path / "fresh")
    assert reader.find("a-3") == 3
    assert (index / "gen-000002/segment-000/places.npy").samefile(index / "gen-000001/segment-000/places.npy")
    with writer(index) as opened:
        opened.remove(["a-0"])
    assert verify(index, lambda *_: None).manifest.segments[0].removed == 13


def test_a_key_that_is_not_there_is_named_unless_it_may_be_missing(index):
    for keys in (["a-1", "b-9", "b-8"], ["b-9", "\udcff"]):
        said = "keys are not in .*, first 'b-9'; give keys as they"
        with pytest.raises(HashgrainError, match=said) as caught, writer(index) as opened:
            opened.remove(keys)
        assert caught.value.reason is Reason.KEY_UNKNOWN
    with writer(index) as opened:
        assert opened.remove(["a-1", "b-9", "a-1"], missing_ok=True) == 1
        assert opened.remove(["a-1"], missing_ok=True) == 0


def test_steps_apply_in_order_and_become_one_generation(index, tmp_path, write_codes, codes):
    write_codes("b", {Level.FINE: codes["b"]})
    write_codes("c", {Level.FINE: codes["c"]}, keys=[f"b-{row}" for row in range(20)])
    with writer(index) as opened:
        opened.add([tmp_path / "codes/b.h5"])
        opened.remove(["b-0", "a-0"])
        opened.add([tmp_path / "codes/c.h5"])
    assert [path.name for path in sorted(index.glob("gen-*"))] == ["gen-000001", "gen-000002"]
    after = verify(index, lambda *_: None)
    assert [after.key(row) for row in after.live_rows().tolist()] == [
        *(f"a-{row}" for row in range(1, 40)),
        *(f"b-{row}" for row in range(20, 30)),
        *(f"b-{row}" for row in range(20)),
    ]
    assert (opened.report.added, opened.report.removed, opened.report.rows) == (50, 21, 69)
    assert after.manifest.history[-1].rows == after.manifest.live == 69


def test_an_exception_leaves_the_index_as_it_was(index, tmp_path, write_codes, codes):
    write_codes("b", {Level.FINE: codes["b"]})
    before = sorted(path for path in index.rglob("*"))

    def change_and_fail():
        with writer(index) as opened:
            opened.add([tmp_path / "codes/b.h5"])
            opened.remove(["a-1"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change_and_fail()
    assert sorted(path for path in index.rglob("*")) == before
    assert verify(index, lambda *_: None).manifest.live == 40


def test_a_step_that_fails_does_nothing_of_itself(index, tmp_path, write_codes, codes):
    write_codes("b", {Level.FINE: codes["b"]}, keys=[f"a-{row}" for row in range(30)])
    write_codes("other", {Level.FINE: codes["c"]}, fingerprint="e" * 64)
    with writer(index) as opened:
        for step in (
            lambda: opened.add([tmp_path / "codes/b.h5"], on_duplicate=OnDuplicate.ERROR),
            lambda: opened.add([tmp_path / "codes/other.h5"]),
            lambda: opened.remove(["a-1", "nobody"]),
            lambda: opened.remove(["a-1"], where="label.n >"),
        ):
            with pytest.raises(HashgrainError):
                step()
        assert opened.report.rows == 40
    assert [path.name for path in index.glob("gen-*")] == ["gen-000001"]


def test_nothing_done_makes_no_generation(index):
    with writer(index) as opened:
        opened.add([])
        opened.remove([], where="label.n > 1000")
    assert opened.report.generation == "gen-000001"
    assert [path.name for path in index.glob("gen-*")] == ["gen-000001"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "e" * 64}, "b.h5 was made by model eeeeeeeeeeee, the index"),
        ({"codes": {Level.FINE: np.zeros((1, 4), np.uint8)}}, "b.h5 has 32 bits at level fine, the index .* has 16;"),
        ({"codes": {Level.MID: np.zeros((1, 2), np.uint8)}}, "b.h5 has no bits at level fine, the index .* has 16;"),
    ],
    ids=["model", "bits", "level"],
)
def test_codes_that_do_not_belong_to_the_index_are_refused(index, tmp_path, write_codes, change, message):
    options = {"codes": {Level.FINE: np.zeros((1, 2), np.uint8)}} | change
    write_codes("b", **options)
    with pytest.raises(HashgrainError, match=message) as caught, writer(index) as opened:
        opened.add([tmp_path / "codes/b.h5"])
    assert caught.value.reason is Reason.CODES_MISMATCH


def test_only_one_writes_at_a_time(index):
    with writer(index), pytest.raises(HashgrainError) as caught, writer(index):
        pass
    assert caught.value.reason is Reason.BUSY


def test_where_there_is_no_index_none_is_made(tmp_path):
    with pytest.raises(HashgrainError) as caught, indexer.writer(tmp_path / "index"):
        pass
    assert caught.value.reason is Reason.INDEX_MISSING
    assert not (tmp_path / "index").exists()


def test_rows_of_arrays_are_added_like_those_of_code_files(index, codes):
    labels = {"n": LabelColumn.of(LabelKind.INT, [7] * 20), "t": LabelColumn.of(LabelKind.TEXTS, [("x", "y")] * 20)}
    source = ArrayRows("codes.npy", TextColumn.of(f"c-{row}" for row in range(20)), {Level.FINE: codes["c"]}, labels)
    with writer(index) as opened:
        opened.add_rows([source.only(np.arange(20) >= 5), source.only(np.arange(20) < 5)], "f" * 64)
    after = verify(index, lambda *_: None)
    assert [after.key(row) for row in (40, 54, 55, 59)] == ["c-5", "c-19", "c-0", "c-4"]
    assert after.codes(Level.FINE, np.arange(40, 60)).tolist() == codes["c"][[*range(5, 20), *range(5)]].tolist()
    assert after.labels(41) == {"n": 7, "t": ("x", "y")}
    with pytest.raises(HashgrainError, match="has no picture"):
        after.image(41)
