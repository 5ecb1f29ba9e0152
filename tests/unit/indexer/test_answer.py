"""Queries by examples, and cut-offs, as a program asks for them."""

from typing import cast

import numpy as np
import pytest

import indexer
from encoder.errors import HashgrainError
from encoder.levels import Level
from indexer import ByCode, ByExamples, ByKey
from indexer.build import build
from indexer.calibrate import calibrate
from indexer.settings import BuildSettings, CalibrateSettings
from tests.support.pictures import encoded

FINE, MID = Level.FINE, Level.MID
LIKE, DISLIKE = ("pic-003", "pic-012"), ("pic-040",)


@pytest.fixture
def index(index_folder):
    return indexer.open(index_folder)


def codes_of(index, level, keys):
    return index.codes(level, np.array([index.find(key) for key in keys], dtype=np.int64))


def ordered(index, wanted, left_out, levels):
    """Return rows in the order of their weighted distance to the formula's direction, by numpy alone."""
    scores = np.zeros(index.ntotal)
    largest = max(np.abs(wanted[level]).max() for level in levels)
    for level in levels:
        bits = np.unpackbits(index.codes(level, np.arange(index.ntotal)), axis=-1, bitorder="little")
        weights = np.rint(15 * np.abs(wanted[level]) / largest)
        scores += (bits != (wanted[level] >= 0)) @ weights
    rows = [row for row in np.lexsort((np.arange(index.ntotal), scores)).tolist() if index.key(row) not in left_out]
    return rows, scores


def wanted_by(index, level, start=None):
    signs = [
        2.0 * np.unpackbits(codes_of(index, level, keys), axis=-1, bitorder="little") - 1 for keys in (LIKE, DISLIKE)
    ]
    wanted = signs[0].mean(axis=0) - 0.5 * signs[1].mean(axis=0)
    return wanted if start is None else wanted + start


def test_examples_order_all_rows_by_the_weights_of_their_bits(index):
    answer = index.query(ByExamples(LIKE, DISLIKE), level="fine", k=20)
    wanted = wanted_by(index, FINE)
    rows, scores = ordered(index, {FINE: wanted}, {*LIKE, *DISLIKE}, [FINE])
    assert [hit.row for hit in answer] == rows[:20]
    total = np.rint(15 * np.abs(wanted) / np.abs(wanted).max()).sum()
    assert [hit.score for hit in answer] == pytest.approx((scores[rows[:20]] / total).tolist())
    code = np.packbits(wanted >= 0, bitorder="little")
    by_code = {hit.row: hit.distance for hit in index.query(ByCode(code), level="fine", k=60)}
    assert [hit.distance for hit in answer] == [by_code[row] for row in rows[:20]]
    assert answer.query == "more like pic-003, pic-012, less like pic-040"
    assert answer.eligible == 60


def test_levels_are_weighed_together(index):
    answer = index.query(ByExamples(LIKE, DISLIKE), levels=["fine", "mid"], combine="sum", k=60)
    wanted = {level: wanted_by(index, level) for level in (FINE, MID)}
    rows, _ = ordered(index, wanted, {*LIKE, *DISLIKE}, [FINE, MID])
    assert [hit.row for hit in answer] == rows
    assert set(answer[0].distances) == {FINE, MID}


@pytest.mark.parametrize("exclude_self", [True, False])
def test_a_start_by_key_counts_and_is_found_unless_it_is_to_be_left_out(index, exclude_self):
    start = 2.0 * np.unpackbits(codes_of(index, FINE, ["pic-007"])[0], bitorder="little") - 1
    rows, _ = ordered(index, {FINE: wanted_by(index, FINE, start)}, {*LIKE, *DISLIKE}, [FINE])
    own = index.find("pic-007")
    query = ByExamples(LIKE, DISLIKE, ByKey("pic-007"))
    answer = index.query(query, level="fine", k=60, exclude_self=exclude_self)
    assert [hit.row for hit in answer] == [row for row in rows if row != own or not exclude_self]
    assert answer.query == "key:pic-007, more like pic-003, pic-012, less like pic-040"


def test_a_start_by_picture_and_by_its_code_and_logits_find_the_same(index):
    data = encoded(133, "PNG")
    made = index.encoder.encode([data], [FINE, MID])
    codes, logits = ({level: of[level][0] for level in (FINE, MID)} for of in (made.codes, made.logits))
    by_code = ByCode(codes, "upload", logits)
    for start in (indexer.ByImage(data, "upload"), by_code):
        answer = index.query(ByExamples(("pic-003",), (), start), level="fine", k=9)
        wanted = np.clip(logits[FINE] / np.median(np.abs(logits[FINE])), -1, 1)
        wanted = wanted + 2.0 * np.unpackbits(codes_of(index, FINE, ["pic-003"])[0], bitorder="little") - 1
        rows, _ = ordered(index, {FINE: wanted}, {"pic-003"}, [FINE])
        assert [hit.row for hit in answer] == rows[:9]
    reranked = [index.query(of, level="mid", k=5, rerank=20) for of in (by_code, indexer.ByImage(data, "upload"))]
    assert [hit.as_dict() for hit in reranked[0]] == [hit.as_dict() for hit in reranked[1]]


def test_a_batch_may_hold_examples_beside_others_and_each_is_answered_as_alone(index):
    queries = [ByKey("pic-001"), ByExamples(LIKE), ByCode(codes_of(index, FINE, ["pic-002"])[0]), ByExamples(DISLIKE)]
    options = {"level": "fine", "k": 7, "exclude_self": True, "where": "key != 'pic-005'"}
    for answer, query in zip(index.query_batch(queries, **options), queries, strict=True):
        alone = index.query(query, **options)
        assert [hit.as_dict() for hit in answer] == [hit.as_dict() for hit in alone]
        assert answer.eligible == 59


def test_a_radius_bounds_the_plain_distance_to_the_code_of_the_examples(index):
    everything = index.query(ByExamples(LIKE, DISLIKE), level="fine", k=60)
    near = index.query(ByExamples(LIKE, DISLIKE), level="fine", radius=24, exclude_self=True)
    assert [hit.row for hit in near] == [hit.row for hit in everything if hit.distance <= 24]
    assert 0 < len(near) < 57
    assert len(index.query(ByExamples(LIKE, DISLIKE), level="fine", radius=0)) == 0
    explained = index.query(ByExamples(LIKE), level="fine", k=3, explain=True)
    assert set(explained[0].distances) == set(index.manifest.bits)


@pytest.mark.parametrize(
    ("query", "options", "says"),
    [
        (ByExamples(()), {}, "there is nothing to be like; give a key"),
        (ByExamples((), ("pic-001",)), {}, "there is nothing to be like; give a key"),
        (ByExamples(cast("tuple[str, ...]", "pic-001")), {}, "like is 'pic-001'; give keys, a tuple of str"),
        (ByExamples(cast("tuple[str, ...]", (1,))), {}, "like is (1,); give keys, a tuple of str"),
        (ByExamples(("pic-001",), cast("tuple[str, ...]", None)), {}, "dislike is None; give keys"),
        (ByExamples(("pic-001",), (), cast("ByKey", ByExamples(("pic-002",)))), {}, "examples start from examples"),
        (ByExamples(("pic-001",), (), cast("ByKey", "x")), {}, "'x' is not a query"),
        (ByExamples(("nobody",)), {}, "key 'nobody' is not among the 60"),
        (ByExamples(("pic-001",)), {"rerank": 20}, "rerank: 20 with a query by examples; expected left out"),
        (ByExamples(("pic-001",)), {"nprobe": 2}, "nprobe: 2 with a query by examples; expected left out"),
        (ByExamples(("pic-001",)), {"levels": ["fine", "mid"]}, "combine: cascade with a query by examples; expected sum"),
        (ByCode(np.zeros(8, np.uint8), logits={FINE: np.zeros(9, np.float32)}), {"level": "fine"}, "logits are float32[9]"),
        (ByKey("pic-001"), {"rerank": 20}, "rerank needs the logits of an image, key:pic-001 is a code"),
        (ByKey("pic-001"), {"max_false": 0.1}, "level fused of"),
        (ByKey("pic-001"), {"max_false": 0}, "max_false: 0; expected unrelated images per query"),
        (ByKey("pic-001"), {"max_false": float("nan")}, "max_false: nan; expected unrelated images per query"),
        (ByKey("pic-001"), {"max_false": "0.1"}, "max_false: '0.1'; expected unrelated images per query"),
        (ByKey("pic-001"), {"max_false": 0.1, "levels": ["fine"], "combine": "sum"}, "max_false: 0.1; expected left out: sum"),
        (ByKey("pic-001"), {"max_false": 0.1, "levels": ["fine"], "combine": "rrf"}, "max_false: 0.1; expected left out: rrf"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_line(index, query, options, says):
    with pytest.raises(HashgrainError) as caught:
        index.query(query, **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def calibrated(codes_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated") / "index"
    build(sorted(codes_folder.glob("*.h5")), folder, BuildSettings())
    for level in (FINE, MID):  # one after the other: the second keeps what the first found
        calibrate(folder, CalibrateSettings(levels=(level,)))
    return indexer.open(folder)


def far(index, level):
    """Return a code that no row is near."""
    codes = index.codes(level, np.arange(index.ntotal))
    bits = np.unpackbits(codes, axis=-1, bitorder="little").mean(axis=0)
    return np.packbits(bits < 0.5, bitorder="little")


def test_hits_are_within_the_cut_off_and_the_nearest_is_named_where_there_is_none(calibrated):
    strict, loose = calibrated.cutoff(FINE, 0.01), calibrated.cutoff(FINE, 10)
    assert strict.radius < loose.radius
    query = ByKey("pic-001")
    everything = calibrated.query(query, level="fine", k=60)
    for cutoff in (strict, loose):
        answer = calibrated.query(query, level="fine", k=60, max_false=cutoff.max_false)
        assert [hit.row for hit in answer] == [hit.row for hit in everything if hit.distance <= cutoff.radius]
        assert answer.cutoff == cutoff
        assert not answer.nothing_similar
    narrow = calibrated.query(query, level="fine", radius=1, max_false=10)
    assert {hit.distance for hit in narrow} <= {0, 1}
    code = ByCode(far(calibrated, FINE))
    answer = calibrated.query(code, level="fine", max_false=0.01)
    assert list(answer) == []
    assert answer.nothing_similar
    assert answer.nearest == calibrated.query(code, level="fine", k=1)[0].distance > strict.radius


def test_nothing_within_a_radius_is_not_nothing_similar(calibrated):
    answer = calibrated.query(ByKey("pic-001"), level="fine", radius=0, max_false=30, exclude_self=True)
    assert list(answer) == []
    assert answer.nearest is not None
    assert answer.nearest <= answer.cutoff.radius
    assert not answer.nothing_similar


def test_a_cascade_and_examples_keep_what_is_within_the_cut_off(calibrated):
    cutoff = calibrated.cutoff(MID, 10)
    options = {"levels": ["fine", "mid"], "k": 60, "budgets": [60]}
    everything = calibrated.query(ByKey("pic-001"), **options)
    answer = calibrated.query(ByKey("pic-001"), max_false=10, **options)
    assert [hit.row for hit in answer] == [hit.row for hit in everything if hit.distance <= cutoff.radius]
    assert 0 < len(answer) < 60
    examples = ByExamples(("pic-001", "pic-002"))
    found = calibrated.query(examples, level="mid", k=60, max_false=10)
    assert {hit.distance <= cutoff.radius for hit in found} <= {True}
    none = calibrated.query(ByExamples(("pic-001",), (), ByCode(far(calibrated, MID))), level="mid", max_false=1e-9)
    assert none.nothing_similar


def test_where_even_equal_codes_are_chance_nothing_is_similar(calibrated):
    answer = calibrated.query(ByKey("pic-001"), level="fine", max_false=1e-12)
    assert answer.cutoff.radius == -1
    assert answer.nothing_similar
    assert answer.nearest == 0


def test_a_histogram_has_each_eligible_row_once(calibrated):
    code = calibrated.codes(FINE, np.array([3]))[0]
    hits = calibrated.query(ByCode(code), level="fine", k=60, where="key != 'pic-005'")
    counts = calibrated.histogram(FINE, code, "key != 'pic-005'")
    assert counts.tolist() == np.bincount([hit.distance for hit in hits], minlength=65).tolist()
    assert counts.sum() == hits.eligible == 59
    with pytest.raises(HashgrainError, match=r"level fine takes codes, uint8\[n, 8\]"):
        calibrated.histogram(FINE, code[:3])
