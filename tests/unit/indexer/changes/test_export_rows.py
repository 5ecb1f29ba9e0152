import numpy as np
import pytest

from encoder.errors import HashgrainError
from encoder.levels import Level
from indexer.build import build
from indexer.changes import export_rows
from indexer.changes.export_rows import ExportRows
from indexer.changes.writer import writer
from indexer.settings import BuildSettings
from indexer.snapshot import Snapshot


def test_rows_come_in_their_order_with_their_numbers_and_without_those_removed(tmp_path, write_codes, rng, monkeypatch):
    monkeypatch.setattr(export_rows, "BLOCK_ROWS", 7)
    for name in "ab":
        write_codes(name, {Level.FINE: rng.integers(0, 256, (20, 4), np.uint8)}, labels=[{"n": 1}] * 20)
    build([tmp_path / "codes/a.h5"], tmp_path / "index", BuildSettings())
    with writer(tmp_path / "index", compact=False) as opened:
        opened.add([tmp_path / "codes/b.h5"])
        opened.remove([*(f"a-{row}" for row in range(7)), "b-19"])
    snapshot, rows = Snapshot(tmp_path / "index"), ExportRows(tmp_path / "index", [Level.FINE, Level.FINE])
    told = []
    blocks = list(rows.blocks(lambda share, what: told.append((share, what))))
    numbers = np.concatenate([block.rows for block in blocks])
    assert np.array_equal(numbers, snapshot.live_rows())
    assert [key for block in blocks for key in block.keys] == [snapshot.key(row) for row in numbers.tolist()]
    codes = np.concatenate([block.codes[Level.FINE] for block in blocks])
    assert np.array_equal(codes, snapshot.codes(Level.FINE, numbers))
    assert (rows.count, rows.bits, rows.generation) == (32, {Level.FINE: 32}, "gen-000002")
    assert len(snapshot.segments) == 2
    assert told[-1] == (1.0, "32 rows")
    with pytest.raises(HashgrainError, match="level mid is not in"):
        ExportRows(tmp_path / "index", [Level.MID])
