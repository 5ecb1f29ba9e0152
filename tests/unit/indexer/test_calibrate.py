"""What chance brings, measured on codes whose distances are known."""

from math import comb

import numpy as np
import pytest

import indexer
from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.build import build
from indexer.calibrate import calibrate, unrelated_shares
from indexer.changes.compact import compact
from indexer.changes.history import rollback
from indexer.cutoffs import radius_for
from indexer.index import Index
from indexer.settings import BuildSettings, CalibrateSettings, CompactSettings, Dedupe
from indexer.verify import verify

FINE = Level.FINE
NBITS, ROWS, CLASSES = 64, 3000, 30
BINOMIAL = np.cumsum([comb(NBITS, bits) / 2**NBITS for bits in range(NBITS + 1)])
LABELS = CalibrateSettings(labels={FINE: "label.kind"}, sample=500)


@pytest.fixture
def make(tmp_path, write_codes):
    """Build an index of codes, some with labels."""

    def made(codes, labels=None, dedupe=Dedupe.OFF):
        write_codes("a", {FINE: codes}, labels=labels)
        build(list_code_files([tmp_path / "codes"]), tmp_path / "index", BuildSettings(dedupe=dedupe))
        return tmp_path / "index"

    return made


def classes(rng):
    """Codes around a centre for each class, and their labels; every tenth row has none."""
    kinds = rng.integers(0, CLASSES, ROWS)
    centres = rng.integers(0, 256, (CLASSES, NBITS // 8), dtype=np.uint8)
    codes = centres[kinds] ^ np.packbits(rng.random((ROWS, NBITS)) < 0.08, axis=1)
    return codes, kinds, [{"kind": f"k{kind}"} if row % 10 else {} for row, kind in enumerate(kinds.tolist())]


def test_random_codes_have_the_binomials_tail_far_below_what_was_seen(make, rng):
    path = make(rng.integers(0, 256, (ROWS, NBITS // 8), dtype=np.uint8))
    found = calibrate(path, CalibrateSettings())[FINE]
    unrelated = np.array(found.unrelated)
    assert (found.rows, found.sample, found.how, found.precision) == (ROWS, 1000, "what chance leaves over", ())
    seen = BINOMIAL > 1e-4
    assert unrelated[seen] == pytest.approx(BINOMIAL[seen], rel=0.1)
    tail = (BINOMIAL > 1e-10) & ~seen  # three million pairs
    assert tail.sum() == 9
    assert np.abs(np.log10(unrelated[tail] / BINOMIAL[tail])).max() < 0.5
    assert (np.diff(unrelated) >= 0).all()


@pytest.mark.parametrize("dedupe", [Dedupe.ON, Dedupe.OFF])
def test_twins_are_not_called_chance_though_no_label_says_so(make, rng, dedupe):
    half = rng.integers(0, 256, (ROWS // 2, NBITS // 8), dtype=np.uint8)
    twins = half ^ (1 << rng.integers(0, 8, half.shape)).astype(np.uint8) * (rng.random(half.shape) < 0.3)
    twins[:300] = half[:300]
    found = calibrate(make(np.concatenate([half, twins]), dedupe=dedupe), CalibrateSettings())[FINE]
    assert found.unrelated[5] < 1e-8  # where one pair in three thousand lies within 5 bits
    assert radius_for(found, 0.01, ROWS) == int(np.searchsorted(BINOMIAL, 0.01 / ROWS)) - 1


def test_labels_tell_what_is_unrelated_and_how_much_of_a_radius_is_right(make, rng):
    codes, kinds, labels = classes(rng)
    found = calibrate(make(codes, labels), LABELS)[FINE]
    assert (found.how, found.sample) == ("another label.kind", 500)
    labelled = np.flatnonzero(np.arange(ROWS) % 10)
    asking = np.sort(np.random.default_rng(0).permutation(labelled)[:500])
    distances = np.bitwise_count(codes[asking, None] ^ codes[None, labelled]).sum(axis=2, dtype=int)
    same = kinds[asking, None] == kinds[None, labelled]
    other = asking[:, None] != labelled
    for radius in range(NBITS + 1):
        near = distances <= radius
        pairs, right = (near & other).sum(), (near & other & same).sum()
        assert found.precision[radius] == pytest.approx(right / pairs if pairs else 1, rel=1e-3)
        if pairs - right >= 10:
            assert found.unrelated[radius] == pytest.approx((pairs - right) / (~same).sum(), rel=1e-3)


def test_images_from_elsewhere_are_all_unrelated_and_labels_still_say_what_is_right(make, rng):
    codes, _, labels = classes(rng)
    path = make(codes, labels)
    elsewhere = codes[:40] ^ np.packbits(rng.random((40, NBITS)) < 0.2, axis=1)
    told = calibrate(path, LABELS)[FINE]
    found = calibrate(path, LABELS, {FINE: elsewhere})[FINE]
    assert (found.how, found.sample, found.precision) == ("images from elsewhere", 40, told.precision)
    seen = np.bitwise_count(elsewhere[:, None] ^ codes[None]).sum(axis=2, dtype=int)
    for radius in range(NBITS + 1):
        if (pairs := (seen <= radius).sum()) >= 10:
            assert found.unrelated[radius] == pytest.approx(pairs / seen.size, rel=1e-3)
    assert calibrate(path, CalibrateSettings(), {FINE: elsewhere})[FINE].precision == ()


def test_codes_of_few_distances_are_counted_and_nothing_else():
    counts = np.zeros(9, dtype=np.int64)
    counts[[0, 4]] = 30, 70
    assert unrelated_shares(counts, mixed=True).tolist() == [0.3] * 4 + [1.0] * 5
    assert unrelated_shares(np.zeros(9, dtype=np.int64), mixed=False).tolist() == [0.0] * 9


def test_the_finding_is_a_generation_and_outlives_changes(make, rng, write_codes, tmp_path):
    codes, _, labels = classes(rng)
    path = make(codes, labels)
    before = Index(path)
    found = calibrate(path, LABELS)[FINE]
    index = verify(path, lambda *_: None)
    assert index.manifest.history[-1].what == "calibrate"
    assert index.manifest.segments[0].levels[FINE].calibrated == found
    assert not before.is_current
    write_codes("b", {FINE: codes[:50]}, folder=tmp_path / "more")
    with indexer.writer(path, compact=False) as writer:
        writer.add(list_code_files([tmp_path / "more"]))
        writer.remove([f"a-{row}" for row in range(200)])
    with indexer.writer(path, compact=False) as writer:
        writer.remove(where="key ~ 'a-*'")
    compact(path, CompactSettings(all=True))
    now = Index(path)
    assert (now.manifest.live, len(now.segments)) == (50, 1)
    assert now.manifest.segments[0].levels[FINE].calibrated == found
    assert now.cutoff(FINE, 0.1).radius > index.cutoff(FINE, 0.1).radius  # of fewer rows fewer come near by chance
    rollback(path, -1)
    assert Index(path).manifest.segments[0].levels[FINE].calibrated == found
    rollback(path, 1)
    assert Index(path).manifest.segments[0].levels[FINE].calibrated is None


@pytest.mark.parametrize(
    ("settings", "reason", "says"),
    [
        (CalibrateSettings(labels={FINE: "label.nothing"}), Reason.BAD_VALUE, "label 'label.nothing' is not in"),
        (CalibrateSettings(levels=(Level.MID,)), Reason.LEVEL_UNKNOWN, "level mid is not in"),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_no_generation(make, rng, settings, reason, says):
    path = make(*(classes(rng)[at] for at in (0, 2)))
    with pytest.raises(HashgrainError) as caught:
        calibrate(path, settings)
    assert caught.value.reason is reason
    assert says in str(caught.value)
    assert Index(path).generation == "gen-000001"


def test_one_row_has_nothing_to_be_compared_with(make, rng):
    path = make(rng.integers(0, 256, (1, 8), dtype=np.uint8))
    with pytest.raises(HashgrainError, match="has 1 rows to compare at level fine; cut-offs need at least two"):
        calibrate(path, CalibrateSettings())
    with pytest.raises(HashgrainError, match="no index at"):
        calibrate(path / "elsewhere", CalibrateSettings())
    assert not (path / "elsewhere").exists()


@pytest.mark.parametrize(("name", "value"), [("sample", 0), ("sample", 1.5), ("keep", 0)])
def test_settings_that_make_no_sense_are_one_line(name, value):
    with pytest.raises(HashgrainError, match=name):
        CalibrateSettings(**{name: value})
