"""Any index in any number of slices answers as it does whole."""

from typing import Any

import numpy as np
import pytest

import indexer
from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.build import build
from indexer.index import Index
from indexer.query import ByCode, ByExamples, ByKey
from indexer.settings import BuildSettings, Dedupe, IndexKind
from indexer.slices.cut import cut
from indexer.slices.fan import ThreadFan
from indexer.slices.sliced import SlicedSnapshot

BITS = {Level.COARSE: 2, Level.FINE: 8}
"""Bytes by level; the first has many ties."""


@pytest.fixture(
    params=[(IndexKind.FLAT, Dedupe.OFF, 1), (IndexKind.FLAT, Dedupe.ON, 4), (IndexKind.IVF, Dedupe.OFF, 3)]
)
def whole(request, tmp_path, write_codes, rng):
    """An index of several segments with labels and removed rows."""
    kind, dedupe, segments = request.param
    for number in range(segments):
        codes = {level: rng.integers(0, 256, (50 + 10 * number, size), np.uint8) for level, size in BITS.items()}
        codes[Level.FINE][10:20] = codes[Level.FINE][:10]
        write_codes(
            str(number), codes, labels=[{"class": f"c{row % 3}", "n": row} for row in range(len(codes[Level.FINE]))]
        )
    settings = BuildSettings(kind=kind, dedupe=dedupe, nlist=4 if kind is IndexKind.IVF else None)
    first, *others = list_code_files([tmp_path / "codes"])
    build([first], tmp_path / "index", settings)
    with indexer.writer(tmp_path / "index", compact=False) as writer:
        for other in others:
            writer.add([other])
        writer.remove([f"{number}-{row}" for number in range(segments) for row in (3, 17, 40)])
    return indexer.open(tmp_path / "index")


class Failing(ThreadFan):
    """Slices of which some are down, and partial answers allowed."""

    down: frozenset[int] = frozenset()

    def call(self, slices, method, *args):
        return [
            None if number in self.down else super(Failing, self).call([number], method, *args)[0] for number in slices
        ]


def in_slices(whole, slices, fan=ThreadFan):
    opened = whole.snapshot
    parts = cut(opened.manifest, slices)
    made = fan(opened.path, opened.pointer, parts)
    return Index.of(SlicedSnapshot(opened.path, opened.folder, opened.manifest, opened.pointer, made, slices))


OPTIONS: list[dict[str, Any]] = [
    {"level": "fine", "k": 7},
    {"level": "coarse", "k": 13},
    {"level": "coarse", "k": 1000},
    {"level": "coarse", "k": 10, "exact": True, "where": "label.class = 'c1'"},
    {"level": "fine", "k": None, "radius": 26},
    {"level": "fine", "k": 3, "radius": 20},
    {"level": "fine", "k": 9, "where": "label.n < 7 and label.class != 'c2'", "explain": True},
    {"level": "fine", "k": 9, "where": "label.n < 0"},
    {"levels": ("coarse", "fine"), "combine": "sum", "k": 11},
    {"levels": ("coarse", "fine"), "combine": "sum", "k": 11, "weights": (3, 1), "where": "label.n > 20"},
    {"levels": ("coarse", "fine"), "combine": "rrf", "k": 11},
    {"levels": ("coarse", "fine"), "combine": "cascade", "k": 4},
    {"levels": ("coarse", "fine"), "combine": "cascade", "k": 20, "radii": (7, 30)},
]


def plain(found):
    return [
        (
            one.query, one.searched, one.ranked.rows.tolist(), one.eligible, one.ranked.survivors,
            None if one.ranked.scores is None else one.ranked.scores.tolist(),
            {level: values.tolist() for level, values in one.ranked.distances.items()},
        )
        for one in found
    ]  # fmt: skip


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_every_query_is_answered_as_by_the_whole(whole, slices, rng):
    sliced = in_slices(whole, slices)
    queries: list[Any] = [
        ByCode({level: rng.integers(0, 256, size, np.uint8) for level, size in BITS.items()}) for _ in range(4)
    ]
    queries += [ByKey("0-12"), ByKey("0-2")]
    for options in OPTIONS:
        for exclude in (False, True):
            given = {**options, "exclude_self": exclude}
            assert plain(sliced.rows_batch(queries, **given)) == plain(whole.rows_batch(queries, **given)), given
    examples = [ByExamples(("0-1", "0-5"), ("0-8",)), ByExamples(("0-1",), (), ByKey("0-2"))]
    for options in (
        {"level": "fine", "k": 9},
        {"level": "coarse", "k": 5, "where": "label.n > 3"},
        {"level": "fine", "radius": 20},
    ):
        assert plain(sliced.rows_batch(examples, **options)) == plain(whole.rows_batch(examples, **options))


@pytest.mark.parametrize("slices", [1, 3])
def test_rows_are_known_as_by_the_whole(whole, slices, rng):
    sliced, rows = in_slices(whole, slices), np.arange(whole.ntotal)
    assert sliced.live_rows().tolist() == whole.live_rows().tolist()
    assert sliced.live_rows(60).tolist() == whole.live_rows().tolist()[:60]
    for row in rng.permutation(rows)[:40].tolist():
        assert (sliced.key(row), sliced.labels(row), sliced.shard(row)) == (
            whole.key(row),
            whole.labels(row),
            whole.shard(row),
        )
        assert sliced.snapshot.is_live(row) == whole.snapshot.is_live(row)
        assert sliced.snapshot.place(row) == whole.snapshot.place(row)
    for level, size in BITS.items():
        assert (sliced.codes(level, rows[::-1]) == whole.codes(level, rows[::-1])).all()
        code = rng.integers(0, 256, size, np.uint8)
        assert sliced.histogram(level, code).tolist() == whole.histogram(level, code).tolist()
        assert (
            sliced.histogram(level, code, "label.n > 30").tolist()
            == whole.histogram(level, code, "label.n > 30").tolist()
        )
    assert sliced.contains("label.n < 20", rows).tolist() == whole.contains("label.n < 20", rows).tolist()
    assert not sliced.snapshot.is_live(whole.ntotal)
    for key in ("0-3", "nowhere"):
        with pytest.raises(HashgrainError) as unknown:
            sliced.find(key)
        assert unknown.value.reason is Reason.KEY_UNKNOWN


def test_filters_are_refused_as_by_the_whole(whole):
    sliced = in_slices(whole, 3)
    for where in ("nothing = 1", "((", "label.n = 'text'"):
        with pytest.raises(HashgrainError) as by_whole:
            whole.eligible(where)
        with pytest.raises(HashgrainError) as by_slices:
            sliced.eligible(where)
        assert str(by_slices.value) == str(by_whole.value)


def test_a_newer_generation_is_cut_anew(whole, tmp_path, write_codes, rng):
    sliced = in_slices(whole, 2)
    codes = {level: rng.integers(0, 256, (30, size), np.uint8) for level, size in BITS.items()}
    with indexer.writer(whole.path, compact=False) as writer:
        writer.add([write_codes("new", codes)])
    newer, expected = sliced.reopen(), whole.reopen()
    query = [ByCode({level: values[0] for level, values in codes.items()})]
    assert newer.generation == expected.generation != sliced.generation
    assert plain(newer.rows_batch(query, level="fine")) == plain(expected.rows_batch(query, level="fine"))
    assert newer.find("new-4") == expected.find("new-4")
    assert newer.reopen() is newer


def test_what_is_down_is_left_out_and_told(whole, rng):
    if len(whole.segments) == 1:
        pytest.skip("one segment")
    sliced = in_slices(whole, 2, Failing)
    fan, query = (
        sliced.snapshot._fan,
        [ByCode({level: rng.integers(0, 256, size, np.uint8) for level, size in BITS.items()})],
    )
    rows = sum(whole.manifest.segments[at].rows for at in cut(whole.manifest, 2)[0])
    with sliced.snapshot.missed() as missed:
        whole_answer = sliced.rows_batch(query, level="fine", k=1000)[0].ranked.rows
        assert not missed
        fan.down = frozenset({1})
        partial = sliced.rows_batch(query, level="fine", k=1000)[0].ranked.rows
        assert missed == {1}
    assert sorted(partial.tolist()) == sorted(row for row in whole_answer.tolist() if row < rows)
    assert sliced.find("0-1") == 1
    sliced.snapshot._known.clear()
    for ask in (lambda: sliced.find("nowhere"), lambda: sliced.key(rows + 41)):
        with pytest.raises(HashgrainError) as down:
            ask()
        assert down.value.reason is Reason.SLICE_DOWN
    fan.down = frozenset({0, 1})
    with pytest.raises(HashgrainError) as down:
        sliced.rows_batch(query, level="fine")
    assert down.value.reason is Reason.SLICE_DOWN
