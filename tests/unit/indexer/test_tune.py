from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.build import build
from indexer.changes.compact import compact
from indexer.changes.writer import writer
from indexer.index import Index
from indexer.settings import BuildSettings, CompactSettings, IndexKind, SearchSettings, TuneSettings
from indexer.tune import read_queries, tune
from indexer.verify import verify

FINE = (Level.FINE,)
ROWS = 4000


@pytest.fixture
def codes(rng):
    centres = rng.integers(0, 256, (100, 8), dtype=np.uint8)
    return centres[rng.integers(0, 100, ROWS)] ^ np.packbits(rng.random((ROWS, 64)) < 0.1, axis=1)


@pytest.fixture
def path(tmp_path, write_codes, codes):
    write_codes("a", {Level.FINE: codes})
    build(list_code_files([tmp_path / "codes"]), tmp_path / "index", BuildSettings(IndexKind.IVF, FINE, nlist=64))
    return tmp_path / "index"


def recall_of(index, queries, settings, k=10):
    """Share of the answers that are no farther than the k-th exact one."""
    exact = index.search(Level.FINE, queries, SearchSettings(k, exact=True))
    found = index.search(Level.FINE, queries, settings)
    return np.mean([(one.distances <= truth.distances[-1]).sum() / k for one, truth in zip(found, exact, strict=True)])


def test_the_index_then_knows_how_many_lists_a_recall_takes(path, codes, rng):
    with pytest.raises(HashgrainError, match="tune the index"):
        Index(path).search(Level.FINE, codes[:1], SearchSettings(recall=0.9))
    [curve] = tune(path, TuneSettings(0.9, levels=FINE, sample=500), {})
    index = verify(path, lambda *_: None)
    recalls = [point.recall for point in curve.points]
    assert all(later >= earlier - 0.01 for earlier, later in pairwise(recalls))
    assert recalls[-1] == 1
    assert curve.points[-1].nprobe is None
    record = index.manifest.segments[0].levels[Level.FINE]
    assert record.tuned is not None
    assert record.nprobe == curve.chosen.nprobe
    others = codes[rng.integers(0, ROWS, 500)] ^ np.packbits(rng.random((500, 64)) < 0.05, axis=1)
    measured = [recall_of(index, others, SearchSettings(recall=target)) for target in (0.5, 0.9, 0.99)]
    assert measured == sorted(measured)
    assert measured[1] > 0.85
    assert recall_of(index, others, SearchSettings(recall=1.0)) == 1  # no number of lists is known to do: all codes


def test_lists_with_fewer_rows_than_are_wanted_find_few(tmp_path, write_codes, rng):
    codes = rng.integers(0, 256, (ROWS, 8), dtype=np.uint8)
    write_codes("a", {Level.FINE: codes})
    build(list_code_files([tmp_path / "codes"]), tmp_path / "index", BuildSettings(IndexKind.IVF, FINE, nlist=64))
    [curve] = tune(tmp_path / "index", TuneSettings(0.9, k=100, levels=FINE, sample=200), {})
    recalls = [point.recall for point in curve.points]
    assert recalls == sorted(recalls)
    others = rng.integers(0, 256, (200, 8), dtype=np.uint8)
    for point in curve.points[:3]:
        measured = recall_of(Index(tmp_path / "index"), others, SearchSettings(100, nprobe=point.nprobe), 100)
        assert measured > point.recall - 0.05  # more where k are not in the lists: then every code is compared


def test_lists_that_are_quicker_replace_those_there(path):
    shares = []
    settings = TuneSettings(0.95, levels=FINE, nlists=(8, 32), sample=200)
    curves = tune(path, settings, {}, lambda share, _: shares.append(share))
    assert shares == pytest.approx([0, 1 / 3, 2 / 3])
    assert sorted(curve.nlist for curve in curves) == [8, 32, 64]
    index = verify(path, lambda *_: None)
    part = index.segments[0].levels[Level.FINE]
    assert part.ivf is not None
    assert part.ivf.nlist == part.record.nlist == curves[0].nlist
    assert [name for name in index.manifest.files if ".ivf" in name] == [f"segment-000/{part.record.ivf}"]
    assert min(curve.chosen.milliseconds for curve in curves) == curves[0].chosen.milliseconds


def test_a_flat_level_gets_lists_to_compare_with(tmp_path, path):
    build(list_code_files([tmp_path / "codes"]), path, BuildSettings(IndexKind.FLAT, FINE, overwrite=True))
    [curve] = tune(path, TuneSettings(0.95, levels=FINE, sample=100), {})
    assert curve.nlist == 64
    assert verify(path, lambda *_: None).manifest.segments[0].levels[Level.FINE].nlist == 64


def test_lists_of_several_segments_are_tuned_together_and_new_ones_share_their_centroids(
    path, tmp_path, write_codes, codes, rng
):
    added = write_codes("b", {Level.FINE: codes[:700] ^ np.packbits(rng.random((700, 64)) < 0.05, axis=1)})
    with writer(path, compact=False) as opened:
        opened.add([added])
        opened.remove([f"a-{row}" for row in range(100)])
    curves = tune(path, TuneSettings(0.9, levels=FINE, nlists=(16,), sample=300), {})
    assert sorted(curve.nlist for curve in curves) == [16, 64]
    index = verify(path, lambda *_: None)
    records = [segment.record.levels[Level.FINE] for segment in index.segments]
    assert records[0].nlist == curves[0].nlist
    assert (records[0].trained, records[0].nprobe, records[0].tuned) == (
        records[1].trained,
        records[1].nprobe,
        records[1].tuned,
    )
    assert recall_of(index, codes[rng.integers(0, ROWS, 300)], SearchSettings(recall=0.9)) > 0.85
    assert [name.partition("/")[0] for name in index.manifest.files if ".ivf" in name] == ["segment-000", "segment-001"]
    names = {folder.name: sorted(path.name for path in folder.glob("*/*.ivf*")) for folder in path.glob("gen-*")}
    assert names["gen-000001"] == ["fine.ivf.faiss"]  # what an earlier generation has is never written to
    tune(path, TuneSettings(0.9, levels=FINE, nlists=(20,), sample=300), {})
    compact(path, CompactSettings(all=True))
    assert (
        recall_of(verify(path, lambda *_: None), codes[rng.integers(0, ROWS, 300)], SearchSettings(recall=0.9)) > 0.85
    )


def test_queries_from_elsewhere_ask_in_place_of_rows(tmp_path, path, write_codes, codes):
    other = write_codes("q", {Level.FINE: codes[:50]}, folder=tmp_path / "q")
    manifest = Index(path).manifest
    given = read_queries([other], manifest)
    assert (given[Level.FINE] == codes[:50]).all()
    [curve] = tune(path, TuneSettings(0.95, levels=FINE), given)
    assert curve.points[0].recall > 0
    wide = write_codes("wide", {Level.FINE: np.tile(codes[:50], 2)}, folder=tmp_path / "q")
    strange = write_codes("strange", {Level.FINE: codes[:50]}, folder=tmp_path / "q", fingerprint="e" * 64)
    for path_, said in (
        (wide, "128 bits at level fine, the index has 64"),
        (strange, "was made by model eeeeeeeeeeee"),
    ):
        with pytest.raises(HashgrainError, match=said) as caught:
            read_queries([path_], manifest)
        assert caught.value.reason is Reason.CODES_MISMATCH


def test_a_recall_is_not_promised_of_more_rows_than_it_was_measured_of(path, codes, rng):
    tune(path, TuneSettings(0.9, levels=FINE, sample=500), {})
    others = codes[rng.integers(0, ROWS, 200)] ^ np.packbits(rng.random((200, 64)) < 0.05, axis=1)
    for k in (1, 10, 100, 1000):
        assert recall_of(Index(path), others, SearchSettings(k, recall=0.9), k) > 0.85
    within = SearchSettings(None, radius=12)
    for mine, exact in zip(
        Index(path).search(Level.FINE, others, replace(within, recall=0.9)),
        Index(path).search(Level.FINE, others, replace(within, exact=True)),
        strict=True,
    ):
        assert mine.rows.tolist() == exact.rows.tolist()


def test_old_readers_keep_their_lists(path, codes):
    old = Index(path)
    before = old.search(Level.FINE, codes[:20], SearchSettings(nprobe=4))
    tune(path, TuneSettings(0.95, levels=FINE, nlists=(8,), sample=100), {})
    after = old.search(Level.FINE, codes[:20], SearchSettings(nprobe=4))
    assert [found.rows.tolist() for found in before] == [found.rows.tolist() for found in after]


@pytest.mark.parametrize("settings", [{"recall": 0}, {"recall": 1.1}, {"k": 0}, {"nlists": (0,)}, {"sample": 0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(HashgrainError) as caught:
        TuneSettings(**settings)
    assert caught.value.reason is Reason.BAD_VALUE


def test_too_few_rows_to_hold_any_out_are_refused(tmp_path, write_codes):
    write_codes("few", {Level.FINE: np.zeros((12, 8), np.uint8)})
    build(list_code_files([tmp_path / "codes"]), tmp_path / "few", BuildSettings(levels=FINE))
    before = sorted(path.name for path in (tmp_path / "few").iterdir())
    with pytest.raises(HashgrainError, match=r"6 queries at level fine search 6 rows of .* for 10; give a smaller k"):
        tune(tmp_path / "few", TuneSettings(levels=FINE), {})
    assert sorted(path.name for path in (tmp_path / "few").iterdir()) == before


def test_recall_goes_with_neither_nprobe_nor_exact():
    for options in ({"nprobe": 3}, {"exact": True}):
        with pytest.raises(HashgrainError):
            replace(SearchSettings(recall=0.9), **options)
