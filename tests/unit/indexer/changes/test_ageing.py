from dataclasses import replace

import numpy as np
import pytest

from encoder.levels import Level
from indexer.build import build
from indexer.changes.ageing import recall_of, to_measure, worn
from indexer.changes.compact import compact
from indexer.changes.history import history
from indexer.changes.writer import writer
from indexer.index import Index
from indexer.settings import BuildSettings, CompactSettings, Dedupe, IndexKind, Retrain, SearchSettings, TuneSettings
from indexer.snapshot import Snapshot
from indexer.tune import measure_lists, tune
from indexer.verify import verify

FINE = Level.FINE
ROWS = 1500


def near(rng, centres, rows, flips=0.06):
    """Codes around centres, as learned ones lie around classes."""
    codes = centres[rng.integers(0, len(centres), rows)]
    return codes ^ np.packbits(rng.random((rows, 64)) < flips, axis=1)


@pytest.fixture
def centres(rng):
    return rng.integers(0, 256, (120, 8), dtype=np.uint8)


@pytest.fixture
def path(tmp_path, write_codes, rng, centres):
    """An index with lists, tuned."""
    write_codes("a", {FINE: near(rng, centres, ROWS)})
    settings = BuildSettings(IndexKind.IVF, nlist=32, dedupe=Dedupe.OFF)
    build([tmp_path / "codes/a.h5"], tmp_path / "index", settings)
    tune(tmp_path / "index", TuneSettings(0.9, levels=(FINE,), sample=400), {})
    return tmp_path / "index"


@pytest.fixture
def grow(path, write_codes, tmp_path):
    """Add codes under a name."""

    def add(name, codes):
        write_codes(name, {FINE: codes})
        with writer(path) as opened:
            opened.add([tmp_path / f"codes/{name}.h5"])
        return opened.report

    return add


def record_of(path):
    return Index(path).manifest.segments[0].levels[FINE]


def test_lists_of_rows_like_those_before_lose_little_and_are_measured_when_there_are_half_as_many_more(
    path, grow, rng, centres
):
    before = record_of(path)
    assert before.aged is None
    assert before.trained is not None
    assert before.trained.imbalance is not None
    grow("b", near(rng, centres, 600))
    assert record_of(path).aged is None
    grow("c", near(rng, centres, 200))
    aged = record_of(path).aged
    assert aged is not None
    assert aged.rows == ROWS + 800
    assert aged.imbalance == pytest.approx(before.trained.imbalance, rel=0.2)
    expected = 1.0 if (tuned := recall_of(before)) is None else tuned  # every code is compared where that is quicker
    assert aged.recall > expected - 0.03  # nearer neighbours are easier to find
    assert [change.what for change, _ in history(path)][-1] == "measure"
    assert (to_measure(Index(path).manifest), worn(Index(path).manifest)) == ([], {})
    grow("d", near(rng, centres, 300))
    assert record_of(path).aged == aged
    compact(path, CompactSettings(all=True))
    assert record_of(path).aged == aged


def test_what_is_measured_is_what_a_query_finds(path, grow, rng, centres):
    grow("b", near(rng, centres, 900))
    opened = Index(path)
    asked = near(rng, centres, 600)
    record = record_of(path)
    found = opened.search(FINE, asked, SearchSettings(10, nprobe=record.nprobe))
    exact = opened.search(FINE, asked, SearchSettings(10, exact=True))
    recall = np.mean([(one.distances <= all_.distances[-1]).sum() / 10 for one, all_ in zip(found, exact, strict=True)])
    assert measure_lists(Snapshot(path), FINE).recall == pytest.approx(recall, abs=0.03)


def test_worn_lists_are_named_and_trained_anew_by_compaction(path, grow, rng, command):
    before = record_of(path)
    others = rng.integers(0, 256, (2, 8), dtype=np.uint8)  # rows of other classes than those before, all in few lists
    grow("b", near(rng, others, 9 * ROWS))
    manifest = Index(path).manifest
    assert list(worn(manifest)) == [FINE]
    assert "lists of fine are worn (imbalance" in command("indexer", "info", "--index", path)[1]
    assert compact(path, CompactSettings(retrain=Retrain.NEVER)).retrained == ()
    report = compact(path, CompactSettings())
    assert report.retrained == (FINE,)
    after = verify(path, lambda *_: None)
    records = [segment.record.levels[FINE] for segment in after.segments]
    assert len(records) == 2
    assert records[0].trained == records[1].trained != before.trained
    assert records[0].trained is not None
    assert records[0].trained.rows == 10 * ROWS
    assert records[0].nlist == 128  # four times as many rows twice over make twice as many lists twice
    assert worn(after.manifest) == {}
    assert measure_lists(after, FINE).recall >= 0.88
    assert "are worn" not in command("indexer", "info", "--index", path)[1]
    assert history(path)[-1][0].what == "retrain"
    grow("c", near(rng, others, 20))
    assert Index(path).segments[-1].record.levels[FINE].trained == records[0].trained
    flat = {name for name in after.manifest.files if "flat" in name}
    assert all((after.folder / name).stat().st_nlink > 1 for name in flat)


def test_lists_can_be_trained_anew_at_once_and_then_too_of_few_rows(path, rng):
    with writer(path, compact=False) as opened:
        opened.remove([f"a-{row}" for row in range(5, ROWS)])
    assert compact(path, CompactSettings(retrain=Retrain.NOW)).retrained == (FINE,)
    verify(path, lambda *_: None)
    with writer(path) as opened:
        opened.remove([f"a-{row}" for row in range(5)])
    compact(path, CompactSettings(retrain=Retrain.NOW))
    assert verify(path, lambda *_: None).manifest.rows == 0


def test_rules_of_wear(path):
    manifest = Index(path).manifest
    [segment] = manifest.segments

    def with_aged(**changes):
        record = segment.levels[FINE]
        return replace(manifest, segments=[replace(segment, levels={FINE: replace(record, **changes)})])

    record = segment.levels[FINE]
    assert record.trained is not None
    few = replace(record.trained, rows=ROWS // 16 - 1)
    assert worn(with_aged(trained=few))[FINE] == f"trained over {ROWS // 16 - 1:,} rows, there are {ROWS:,}"
    assert worn(manifest) == {}
