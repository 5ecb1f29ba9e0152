"""After any history of changes an index answers as one that was built of the surviving rows."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.codes.label_columns import LabelColumn
from encoder.codes.strings import TextColumn
from encoder.images.labels.values import LabelKind
from encoder.levels import Level
from encoder.runtime.publish import exclusive
from indexer.changes.compact import compact
from indexer.changes.history import gc, rollback
from indexer.changes.writer import writer
from indexer.engines.faiss_cpu import assign
from indexer.engines.faiss_file import read_centroids
from indexer.index import Index
from indexer.matches import Matches
from indexer.settings import BuildSettings, CompactSettings, Dedupe, Engine, IndexKind, OnDuplicate, SearchSettings
from indexer.storage.generation import next_generation
from indexer.storage.manifest import Manifest
from indexer.storage.row_source import ArrayRows, RowSource
from indexer.storage.row_writer import settle_labels
from indexer.storage.segment_writer import write_segment
from indexer.verify import verify

FINGERPRINT = "f" * 64
LEVELS = (Level.FINE, Level.MID)
KEYS = [f"k{number:02d}" for number in range(40)]
QUERIES = np.array([[first, second] for first in range(3) for second in range(3)], np.uint8)


@dataclass
class Row:
    """What is known of a key: its codes, one byte of each level's two, and its label."""

    codes: tuple[int, int]
    label: int


@dataclass
class Model:
    """What an index holds, in the order in which the present version of each key was added."""

    rows: dict[str, Row] = field(default_factory=dict)

    def add(self, batch, on_duplicate):
        for key, row in batch.items():
            if key in self.rows and on_duplicate is OnDuplicate.FIRST:
                continue
            self.rows.pop(key, None)
            self.rows[key] = row


def source_of(rows, as_text=False):
    codes = {
        level: np.array([[row.codes[number], number] for row in rows.values()], np.uint8).reshape(-1, 2)
        for number, level in enumerate(LEVELS)
    }
    values = [str(row.label) if as_text else row.label for row in rows.values()]
    column = LabelColumn.of(LabelKind.TEXT if as_text else LabelKind.INT, values)
    return ArrayRows("drawn", TextColumn.of(rows), codes, {"n": column})


def build_of(path, rows, how):
    source = source_of(rows)
    with exclusive(path), next_generation(path) as new:
        fields, _ = settle_labels([source])
        record = write_segment(new.folder / new.segment_name(), [source], fields, how)
        manifest = Manifest(FINGERPRINT, "fp32", None, [record], {}, kind=how.kind, dedupe=how.dedupe)
        new.publish(manifest, "build", added=len(rows), keep=1)


def keyed(index, found: list[Matches]):
    return [([index.key(row) for row in one.rows.tolist()], one.distances.tolist()) for one in found]


def answers(index):
    """Return what flat search finds at each level, by each engine alike: nearest, within a radius, and through a filter."""
    found = []
    for level in LEVELS:
        for options in ({"k": 5}, {"k": None, "radius": 1}, {"k": 50, "where": "label.n >= 2"}):
            of_engines = [
                keyed(index, index.search(level, QUERIES, SearchSettings(**options, exact=True, engine=engine)))
                for engine in (Engine.FAISS, Engine.SCAN)
            ]
            assert of_engines[0] == of_engines[1]
            found.append(of_engines[0])
    return found


def check_lists(index):
    """Each list of each segment holds the entries nearest to its centroid, and all segments have the same centroids."""
    for level in LEVELS:
        seen = set()
        for segment in index.segments:
            record = segment.record.levels[level]
            if record.ivf is None:
                continue
            part, centroids = segment.levels[level], read_centroids(segment.folder / record.ivf)
            seen.add(centroids.tobytes())
            assert part.ivf.fault() is None
            nearest = assign(np.ascontiguousarray(part.flat.codes), centroids)
            sizes = [part.ivf.index.invlists.list_size(number) for number in range(record.nlist)]
            assert sizes == np.bincount(nearest, minlength=record.nlist).tolist()
        assert len(seen) <= 1


def batches(least):
    row = st.builds(Row, st.tuples(st.integers(0, 2), st.integers(0, 2)), st.integers(0, 4))
    return st.dictionaries(st.sampled_from(KEYS), row, min_size=least, max_size=12)


steps = st.one_of(
    st.tuples(st.just("add"), batches(0), st.sampled_from([OnDuplicate.REPLACE, OnDuplicate.FIRST])),
    st.tuples(st.just("add text"), batches(1), st.just(OnDuplicate.REPLACE)),
    st.tuples(st.just("remove"), st.lists(st.sampled_from(KEYS), max_size=8), st.none()),
    st.tuples(st.just("where"), st.integers(0, 4), st.none()),
    st.tuples(st.just("compact"), st.sampled_from([1, 5, 12, 1000]), st.booleans()),
    st.tuples(st.just("fail"), batches(1), st.none()),
    st.tuples(st.just("rollback"), st.integers(-4, -1), st.none()),
    st.tuples(st.just("gc"), st.integers(1, 4), st.none()),
)


class Failed(Exception):
    """What a test raises in a writer."""


def apply(step, path: Path, model: Model, earlier: dict[str, dict[str, Row]]):
    what, first, second = step
    if what == "rollback":
        there = sorted(folder.name for folder in path.glob("gen-*"))[:-1]
        if -first <= len(there):
            rollback(path, first)
            model.rows = dict(earlier[there[first]])
        return
    if what == "gc":
        gc(path, first)
        return
    if what == "compact":
        compact(path, CompactSettings(all=second, segment_rows=first))
        return
    if what == "fail":
        with pytest.raises(Failed):
            change_and_fail(path, source_of(first))
        return
    with writer(path) as opened:
        if what in {"add", "add text"}:
            opened.add_rows([source_of(first, what == "add text")], FINGERPRINT, on_duplicate=second)
            model.add(first, second)
        elif what == "remove":
            assert opened.remove(first, missing_ok=True) == len({key for key in first if key in model.rows})
            model.rows = {key: row for key, row in model.rows.items() if key not in first}
        else:
            text = any(field.kind is LabelKind.TEXT for segment in opened.segments for field in segment.record.labels)
            opened.remove(where=f"label.n = '{first}'" if text else f"label.n = {first}")
            model.rows = {key: row for key, row in model.rows.items() if row.label != first}


def change_and_fail(path, source: RowSource):
    with writer(path) as opened:
        opened.add_rows([source], FINGERPRINT)
        raise Failed


HOW = [
    BuildSettings(IndexKind.FLAT, dedupe=Dedupe.OFF),
    BuildSettings(IndexKind.IVF, nlist=3, dedupe=Dedupe.OFF),
    BuildSettings(IndexKind.IVF, nlist=3, dedupe=Dedupe.ON),
    BuildSettings(IndexKind.AUTO, dedupe=Dedupe.AUTO),
]


def check(folder, how, start, history):
    for name in ("living", "fresh"):
        shutil.rmtree(folder / name, ignore_errors=True)
    path, model = folder / "living", Model(dict(start))
    build_of(path, model.rows, how)
    earlier = {"gen-000001": dict(model.rows)}
    for step in history:
        apply(step, path, model, earlier)
        for folder_of_step in path.glob("gen-*"):  # the last of which may be compactions
            earlier.setdefault(folder_of_step.name, dict(model.rows))
    index = verify(path, lambda *_: None)
    rows = index.live_rows().tolist()
    assert [index.key(row) for row in rows] == list(model.rows)
    assert index.manifest.live == index.manifest.history[-1].rows == len(model.rows)
    for key, row in model.rows.items():
        found = index.find(key)
        assert index.labels(found)["n"] in {row.label, str(row.label)}
        for number, level in enumerate(LEVELS):
            assert index.codes(level, np.array([found])).tolist() == [[row.codes[number], number]]
    check_lists(index)
    if model.rows:
        build_of(folder / "fresh", model.rows, BuildSettings(IndexKind.FLAT, dedupe=Dedupe.OFF))
        if all(field.kind is LabelKind.INT for segment in index.manifest.segments for field in segment.labels):
            assert answers(index) == answers(Index(folder / "fresh"))


@settings(max_examples=25)
@given(st.sampled_from(HOW), batches(1), st.lists(steps, min_size=1, max_size=8))
def test_any_history_answers_as_a_fresh_build(tmp_path, how, start, history):
    check(tmp_path, how, start, history)


@pytest.mark.slow
@settings(max_examples=1500)
@given(st.sampled_from(HOW), batches(1), st.lists(steps, min_size=4, max_size=20))
def test_long_histories_answer_as_fresh_builds(tmp_path, how, start, history):
    check(tmp_path, how, start, history)
