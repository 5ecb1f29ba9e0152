import sys

import lance
import numpy as np
import pytest

from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.build import build
from indexer.changes import export_rows, lance_rows
from indexer.changes.lance_rows import export_to_lance
from indexer.changes.writer import writer
from indexer.index import Index
from indexer.settings import BuildSettings, Dedupe, SearchSettings

LABELS = [
    {
        "key": f"of-{row}",
        "a.b": row,
        "a_b": row / 7,
        "odd": bool(row % 2),
        "tags": ("a", f"t{row % 3}"),
        "codes_fine": "ä",
    }
    for row in range(40)
]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    for module in (export_rows, lance_rows):
        monkeypatch.setattr(module, "BLOCK_ROWS", 16)


@pytest.fixture
def index(tmp_path, write_codes, rng):
    """An index of two segments, with labels that are called as columns are, and rows removed of both."""
    for name in "ab":
        codes = {Level.FINE: rng.integers(0, 256, (40, 8), np.uint8), Level.MID: rng.integers(0, 3, (40, 2), np.uint8)}
        write_codes(name, codes, labels=LABELS if name == "a" else [{"late": 1.5, "a.b": "text"}] * 40)
    build([tmp_path / "codes/a.h5"], tmp_path / "index", BuildSettings(dedupe=Dedupe.ON))
    with writer(tmp_path / "index") as opened:
        opened.add([tmp_path / "codes/b.h5"])
        opened.remove(["a-0", "a-17", "b-39"])
    return tmp_path / "index"


def test_keys_codes_and_labels_come_back(tmp_path, index):
    report = export_to_lance(index, tmp_path / "out.lance")
    opened, dataset = Index(index), lance.dataset(str(tmp_path / "out.lance"))
    rows = opened.snapshot.live_rows()
    table = dataset.to_table()
    assert table["row"].to_pylist() == rows.tolist()
    assert table["key"].to_pylist() == [opened.key(row) for row in rows.tolist()]
    for level in (Level.FINE, Level.MID):
        assert np.array_equal(np.array(table[f"codes_{level}"].to_pylist(), np.uint8), opened.codes(level, rows))
    assert report.renamed == {"a_b": "a_b_0", "codes_fine": "codes_fine_0", "key": "key_0", "a.b": "a_b"}
    assert table.column_names == list(report.columns)
    labels = {field.metadata[b"hashgrain.label"].decode(): field.name for field in dataset.schema if field.metadata}
    for at, row in enumerate(rows.tolist()):
        own = opened.labels(row) | ({"a.b": str(opened.labels(row)["a.b"])})  # of both kinds, so it is text
        found = {label: table[column][at].as_py() for label, column in labels.items()}
        assert {label: value for label, value in found.items() if value is not None} == {
            label: list(value) if isinstance(value, tuple) else value for label, value in own.items()
        }
    assert (report.rows, report.generation) == (77, "gen-000002")
    assert report.bytes == sum(path.stat().st_size for path in (tmp_path / "out.lance").rglob("*") if path.is_file())


@pytest.mark.parametrize(("level", "k"), [(Level.FINE, 1), (Level.FINE, 10), (Level.FINE, 77), (Level.MID, 25)])
def test_lance_finds_the_same_distances(tmp_path, index, level, k, rng):
    export_to_lance(index, tmp_path / "out.lance")
    opened, dataset = Index(index), lance.dataset(str(tmp_path / "out.lance"))
    size = opened.snapshot.manifest.bits[level] // 8
    queries = np.concatenate([opened.codes(level, np.arange(5)), rng.integers(0, 256, (5, size), np.uint8)])
    for query, ours in zip(queries, opened.search(level, queries, SearchSettings(k)), strict=True):
        nearest = {"column": f"codes_{level}", "q": query, "k": k, "metric": "hamming"}
        theirs = dataset.to_table(columns=["row", "_distance"], nearest=nearest)
        assert theirs["_distance"].to_pylist() == ours.distances.tolist()
        within = ours.distances[-1]  # ties at the last place are Lance's own choice
        assert {
            row
            for row, far in zip(theirs["row"].to_pylist(), theirs["_distance"].to_pylist(), strict=True)
            if far < within
        } == {row for row, far in zip(ours.rows.tolist(), ours.distances.tolist(), strict=True) if far < within}


def test_levels_and_no_rows(tmp_path, index):
    export_to_lance(index, tmp_path / "mid", [Level.MID])
    assert [name for name in lance.dataset(str(tmp_path / "mid")).schema.names if name.startswith("codes_")] == [
        "codes_mid", "codes_fine",
    ]  # the label  # fmt: skip
    with writer(index) as opened:
        opened.remove([Index(index).key(row) for row in Index(index).snapshot.live_rows().tolist()])
    assert export_to_lance(index, tmp_path / "empty").rows == 0
    assert lance.dataset(str(tmp_path / "empty")).count_rows() == 0


def test_only_a_dataset_of_an_export_is_replaced(tmp_path, index):
    export_to_lance(index, tmp_path / "out")
    with pytest.raises(HashgrainError, match="out exists; choose another folder, or replace it") as caught:
        export_to_lance(index, tmp_path / "out")
    assert caught.value.reason is Reason.EXISTS
    with writer(index) as opened:
        opened.remove(["a-1"])
    assert export_to_lance(index, tmp_path / "out", overwrite=True).rows == 76
    dataset = lance.dataset(str(tmp_path / "out"))
    lance.write_dataset(dataset.to_table().replace_schema_metadata(None), str(tmp_path / "theirs"))
    for path in (index, tmp_path / "theirs", tmp_path / "codes/a.h5"):
        with pytest.raises(HashgrainError, match="exists and is not an export; choose another folder"):
            export_to_lance(index, path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codes", "index", "out", "theirs"]


def test_what_fails_while_rows_are_read_is_told_as_it_is(tmp_path, index):
    [offsets, *_] = sorted(index.rglob("gen-000002/segment-001/keys.offsets.npy"))
    data = bytearray(offsets.read_bytes())
    data[-8:] = b"\xff" * 8
    offsets.unlink()  # a hard link of the generation before
    offsets.write_bytes(data)
    with pytest.raises(HashgrainError) as caught:
        export_to_lance(index, tmp_path / "out")
    assert caught.value.reason is Reason.INDEX_DAMAGED
    assert not (tmp_path / "out").exists()


def test_a_dataset_that_is_not_what_was_written_does_not_get_its_name(tmp_path, index, monkeypatch):
    real = lance_rows._read_back
    monkeypatch.setattr(lance_rows, "_read_back", lambda *given: real(*given)[:-1] + "x")
    with pytest.raises(HashgrainError, match="holds other keys or codes than were written"):
        export_to_lance(index, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_package_that_is_not_installed_is_one_line(tmp_path, index, monkeypatch):
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(HashgrainError, match=r"pylance, which is not installed .*; pip install 'hashgrain\[lance\]'"):
        export_to_lance(index, tmp_path / "out")
