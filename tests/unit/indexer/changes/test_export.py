import faiss
import numpy as np
import pytest
from pyarrow import parquet

from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from encoder.runtime import durable
from indexer.build import build
from indexer.changes import export_rows
from indexer.changes.export import export
from indexer.changes.imports import ImportRequest, import_codes
from indexer.changes.writer import writer
from indexer.index import Index
from indexer.settings import BitOrder, BuildSettings, Dedupe, ExportForm, SearchSettings

LABELS = [
    {
        "key": f"of-{row}",
        "fine": row,
        "share": row / 7,
        "odd": bool(row % 2),
        "tags": ("a", f"t{row % 3}"),
        "name": f"ä{row}",
    }
    for row in range(40)
]


@pytest.fixture
def index(tmp_path, write_codes, rng):
    """An index of two segments, with labels that are called as columns are, and rows removed of both."""
    for name in "ab":
        codes = {Level.FINE: rng.integers(0, 3, (40, 4), np.uint8), Level.MID: rng.integers(0, 256, (40, 2), np.uint8)}
        write_codes(name, codes, labels=LABELS if name == "a" else [{"fine": "text", "late": 1.5}] * 40)
    build([tmp_path / "codes/a.h5"], tmp_path / "index", BuildSettings(dedupe=Dedupe.ON))
    with writer(tmp_path / "index") as opened:
        opened.add([tmp_path / "codes/b.h5"])
        opened.remove(["a-0", "a-17", "b-39"])
    return tmp_path / "index"


def taken_in(out, form, key):
    """Import what was exported."""
    order = None if form is ExportForm.FAISS else BitOrder.LITTLE
    if form is ExportForm.PARQUET:
        levels = dict.fromkeys((Level.FINE, Level.MID), out / "rows.parquet")
        request = ImportRequest(levels, order, labels=out / "rows.parquet", key_column=key)
    else:
        levels = {level: out / f"{level}.{form}" for level in (Level.FINE, Level.MID)}
        request = ImportRequest(levels, order, out / "keys.txt", out / "labels.parquet", key)
    import_codes(out.parent / "again", request)
    return Index(out.parent / "again")


def answers(opened, queries, **settings):
    found = opened.search(Level.FINE, queries, SearchSettings(9, **settings))
    return [([opened.key(row) for row in one.rows.tolist()], one.distances.tolist()) for one in found]


@pytest.mark.parametrize("form", ExportForm)
def test_what_was_exported_answers_as_the_index_when_it_is_imported(tmp_path, index, form, monkeypatch):
    monkeypatch.setattr(export_rows, "BLOCK_ROWS", 16)
    report = export(index, tmp_path / "out", form)
    assert (report.generation, report.rows, report.key_column) == ("gen-000002", 77, "key_0")
    assert report.bytes == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    opened, again = Index(index), taken_in(tmp_path / "out", form, report.key_column)
    rows = opened.snapshot.live_rows().tolist()
    assert [opened.key(row) for row in rows] == [again.key(row) for row in range(77)]
    as_one_kind = [
        opened.labels(row) | {"fine": str(opened.labels(row)["fine"])} for row in rows
    ]  # as in a build of both
    assert as_one_kind == [again.labels(row) for row in range(77)]
    queries = opened.codes(Level.FINE, np.arange(80))
    assert answers(opened, queries) == answers(again, queries)
    where = "label.share > 2 and label.tags has 't1'"
    assert answers(opened, queries, where=where) == answers(again, queries, where=where)


def test_files_that_anybody_reads(tmp_path, index):
    opened = Index(index)
    codes = opened.codes(Level.MID, opened.snapshot.live_rows())
    export(index, tmp_path / "npy", levels=[Level.MID])
    assert sorted(path.name for path in (tmp_path / "npy").iterdir()) == ["keys.txt", "labels.parquet", "mid.npy"]
    assert np.array_equal(np.load(tmp_path / "npy/mid.npy"), codes)
    assert (tmp_path / "npy/keys.txt").read_text().splitlines()[:2] == ["a-1", "a-2"]
    export(index, tmp_path / "faiss", ExportForm.FAISS)
    flat = faiss.read_index_binary(str(tmp_path / "faiss/mid.faiss"))
    assert np.array_equal(faiss.vector_to_array(flat.xb).reshape(77, 2), codes)
    export(index, tmp_path / "parquet", ExportForm.PARQUET)
    table = parquet.read_table(tmp_path / "parquet/rows.parquet")
    assert table.column_names == [
        "key_0", "codes.fine", "codes.mid", "fine", "key", "late", "name", "odd", "share", "tags",
    ]  # fmt: skip
    assert table["codes.mid"].to_pylist() == [code.tobytes() for code in codes]


def test_an_export_that_is_there_and_a_folder_that_is_none(tmp_path, index):
    export(index, tmp_path / "out")
    with pytest.raises(HashgrainError, match="out exists; choose another folder, or replace it") as caught:
        export(index, tmp_path / "out")
    assert caught.value.reason is Reason.EXISTS
    export(index, tmp_path / "out", ExportForm.PARQUET, overwrite=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rows.parquet"]
    for path in (index, tmp_path / "codes", tmp_path / "codes/a.h5"):
        with pytest.raises(HashgrainError, match="exists and is not an export; choose another folder"):
            export(index, path, overwrite=True)
    with pytest.raises(HashgrainError, match="could not be written"):
        export(index, tmp_path / "no/where")
    with pytest.raises(HashgrainError, match="level coarse is not in"):
        export(index, tmp_path / "x", levels=[Level.COARSE])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codes", "index", "out"]


def test_an_export_stays_when_what_is_to_replace_it_does_not_get_its_name(tmp_path, index, monkeypatch):
    export(index, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    new = tmp_path / "out.hashgrain.partial"

    def refuse(step, path):
        if step == "rename" and path == tmp_path / "out" and new.exists():
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(durable, "on_step", refuse)
    with pytest.raises(HashgrainError, match="out could not be written"):
        export(index, tmp_path / "out", ExportForm.PARQUET, overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codes", "index", "out"]


def test_a_key_of_two_lines_has_no_line_of_its_own(tmp_path, write_codes):
    write_codes("a", {Level.FINE: np.zeros((1, 2), np.uint8)}, keys=["x\ny"])
    build(list_code_files([tmp_path / "codes"]), tmp_path / "index", BuildSettings())
    with pytest.raises(HashgrainError, match="a key has two lines, which keys.txt cannot hold; export as parquet"):
        export(tmp_path / "index", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert export(tmp_path / "index", tmp_path / "out", ExportForm.PARQUET).rows == 1


@pytest.mark.parametrize("form", ExportForm)
def test_no_rows(tmp_path, write_codes, form):
    write_codes("a", {Level.FINE: np.zeros((1, 2), np.uint8)})
    build(list_code_files([tmp_path / "codes"]), tmp_path / "index", BuildSettings())
    with writer(tmp_path / "index") as opened:
        opened.remove(["a-0"])
    assert export(tmp_path / "index", tmp_path / "out", form).rows == 0
