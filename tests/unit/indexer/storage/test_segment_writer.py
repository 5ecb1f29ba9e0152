from dataclasses import replace

import numpy as np
import pytest

from encoder.codes.file import list_code_files
from encoder.levels import Level
from indexer.build import build
from indexer.engines.faiss_file import read_centroids
from indexer.index import Index
from indexer.settings import BuildSettings, Dedupe, IndexKind, OnDuplicate, SearchSettings
from indexer.verify import verify

ROWS = {"a": 37, "b": 0, "c": 5, "d": 41}


@pytest.fixture
def files(tmp_path, write_codes, rng):
    for name, rows in ROWS.items():
        codes = {
            Level.FINE: rng.integers(0, 4, (rows, 4), dtype=np.uint8),
            Level.MID: rng.integers(0, 9, (rows, 8), dtype=np.uint8),
        }
        labels = [
            {"n": row, "t": "é" * (row % 3), "l": ["x", name][: row % 3]} if row % 4 else {} for row in range(rows)
        ]
        write_codes(
            name, codes, labels=labels, shard_path=f"/shards/{name}.tar", places=[(row, row) for row in range(rows)]
        )
    return list_code_files([tmp_path / "codes"])


@pytest.mark.parametrize("dedupe", [Dedupe.OFF, Dedupe.ON])
@pytest.mark.parametrize("kind", [IndexKind.FLAT, IndexKind.IVF])
def test_rows_in_several_segments_are_those_of_one(files, tmp_path, kind, dedupe):
    settings = BuildSettings(kind, nlist=4 if kind is IndexKind.IVF else None, dedupe=dedupe)
    build(files, tmp_path / "one", settings)
    build(files, tmp_path / "many", replace(settings, segment_rows=10))
    one, many = Index(tmp_path / "one"), verify(tmp_path / "many", lambda *_: None)
    assert [segment.record.rows for segment in many.segments] == [10] * 8 + [3]
    for row in range(one.ntotal):
        assert many.key(row) == one.key(row)
        assert many.find(one.key(row)) == row
        assert many.labels(row) == one.labels(row)
        assert many.shard(row) == one.shard(row)
    for level in (Level.FINE, Level.MID):
        rows = np.arange(one.ntotal)
        codes = one.codes(level, rows)
        assert np.array_equal(many.codes(level, rows), codes)
        exact = SearchSettings(9, exact=True)
        for mine, truth in zip(many.search(level, codes, exact), one.search(level, codes, exact), strict=True):
            assert mine.rows.tolist() == truth.rows.tolist()
        if kind is IndexKind.IVF:
            records = [segment.record.levels[level] for segment in many.segments]
            assert len({record.trained for record in records}) == 1
            centroids = {read_centroids(segment.folder / f"{level}.ivf.faiss").tobytes() for segment in many.segments}
            assert len(centroids) == 1


@pytest.mark.parametrize(("slices", "rows"), [(1, [83]), (4, [21, 21, 21, 20]), (83, [1] * 83), (100, [1] * 83)])
def test_slices_are_segments_of_equal_size(files, tmp_path, slices, rows):
    build(files, tmp_path / "index", BuildSettings(slices=slices))
    assert [segment.record.rows for segment in Index(tmp_path / "index").segments] == rows


def test_the_places_and_shards_of_chosen_rows_stay_with_them(files, tmp_path, write_codes):
    later = write_codes(
        "e",
        {level: np.ones((3, size), np.uint8) for level, size in ((Level.FINE, 4), (Level.MID, 8))},
        keys=["a-36", "e-1", "d-0"],
        shard_path="/shards/e.tar",
        places=[(row, 99) for row in range(3)],
    )
    settings = BuildSettings(on_duplicate=OnDuplicate.REPLACE, segment_rows=30)
    build([*files, later], tmp_path / "index", settings)
    index = verify(tmp_path / "index", lambda *_: None)
    keys = [
        *(f"a-{row}" for row in range(36)),
        *(f"c-{row}" for row in range(5)),
        *(f"d-{row}" for row in range(1, 41)),
        "a-36",
        "e-1",
        "d-0",
    ]
    assert [index.key(row) for row in range(index.ntotal)] == keys
    for row, key in enumerate(keys):
        number = keys.index(key) - 81 if key in {"a-36", "e-1", "d-0"} else int(key[2:])
        name = "e" if row >= 81 else key[0]
        table = index.segments[row // 30].table
        assert table.places[row % 30].tolist() == ([number, 99] if name == "e" else [number, number])
        assert index.shard(row) == f"/shards/{name}.tar"
