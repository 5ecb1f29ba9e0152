import shutil
from collections import namedtuple

import numpy as np
import pytest

from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.build import build
from indexer.changes.compact import compact
from indexer.changes.history import history
from indexer.changes.writer import writer
from indexer.engines.faiss_cpu import assign, write_lists
from indexer.engines.faiss_file import read_centroids
from indexer.index import Index
from indexer.settings import BuildSettings, CompactSettings, Dedupe, Engine, IndexKind, SearchSettings
from indexer.storage import row_source
from indexer.verify import verify

FLAT, LISTS = BuildSettings(dedupe=Dedupe.OFF), BuildSettings(IndexKind.IVF, nlist=4, dedupe=Dedupe.OFF)
SHARED = BuildSettings(IndexKind.IVF, nlist=4, dedupe=Dedupe.ON)
KINDS = {"flat": FLAT, "lists": LISTS, "shared": SHARED}
ALL = CompactSettings(all=True)
Row = namedtuple("Row", "key code place labels")


def drawn(rng, name, rows, labels):
    """Rows with many ties and labels of every kind, some of which rows lack."""
    codes = rng.integers(0, 3, (rows, 2), dtype=np.uint8)
    return [Row(f"{name}-{row}", codes[row], (512 * row, 9 + row), labels(row)) for row in range(rows)]


def values(row):
    some = {"n": row, "f": row / 2, "t": "é" * (row % 3), "l": [f"x{row % 4}"] * (row % 3), "b": row % 2 == 0}
    return {name: value for at, (name, value) in enumerate(some.items()) if (row + at) % 4}


class Living:
    """An index, and the rows that it has to hold, in their order."""

    def __init__(self, folder, write_codes, settings):
        self.folder, self.path, self.settings, self._write_codes = folder, folder / "index", settings, write_codes
        self.rows = []

    def file(self, name, rows, folder=None):
        return self._write_codes(
            name,
            {Level.FINE: np.array([row.code for row in rows], np.uint8).reshape(-1, 2)},
            keys=[row.key for row in rows],
            places=[row.place for row in rows],
            labels=[row.labels for row in rows],
            folder=folder,
        )

    def start(self, rows):
        build([self.file("a", rows)], self.path, self.settings)
        self.rows = list(rows)

    def add(self, name, rows):
        with writer(self.path, compact=False) as opened:
            opened.add([self.file(name, rows)])
        new = {row.key for row in rows}
        self.rows = [row for row in self.rows if row.key not in new] + list(rows)

    def remove(self, keys):
        with writer(self.path, compact=False) as opened:
            opened.remove(keys)
        gone = set(keys)
        self.rows = [row for row in self.rows if row.key not in gone]

    def fresh(self):
        """Build an index of the rows anew."""
        path = self.folder / "fresh"
        shutil.rmtree(path, ignore_errors=True)
        build([self.file("fresh", self.rows, self.folder / "of-fresh")], path, self.settings)
        return path

    def check(self):
        """Hold answers, and what is told of each row, against those of a fresh build."""
        mine, fresh = verify(self.path, lambda *_: None), Index(self.fresh())
        assert mine.manifest.live == len(self.rows)
        assert answers(mine) == answers(fresh)
        assert answers(mine, "label.n >= 5 or label.t = 'é'") == answers(fresh, "label.n >= 5 or label.t = 'é'")
        rows = mine.live_rows().tolist()
        assert [mine.key(row) for row in rows] == [row.key for row in self.rows]
        assert [mine.labels(row) for row in rows] == [fresh.labels(row) for row in range(len(self.rows))]
        return mine


def answers(opened, where=None):
    queries = np.array([[first, second] for first in range(3) for second in range(3)], np.uint8)
    found = []
    for engine in (Engine.FAISS, Engine.SCAN):
        matches = opened.search(Level.FINE, queries, SearchSettings(7, exact=True, engine=engine, where=where))
        found.append([([opened.key(row) for row in one.rows.tolist()], one.distances.tolist()) for one in matches])
    assert found[0] == found[1]
    return found[0]


@pytest.fixture
def living(tmp_path, write_codes, rng, request, monkeypatch):
    """An index with three segments, rows replaced and removed in each but the last."""
    monkeypatch.setattr(row_source.segment_parts, "__defaults__", (7,))  # rows are read in several parts
    made = Living(tmp_path, write_codes, getattr(request, "param", FLAT))
    made.start(drawn(rng, "a", 40, values))
    made.add("b", [*drawn(rng, "b", 29, values), *drawn(rng, "a", 4, values)[3:]])
    made.add("c", drawn(rng, "c", 20, lambda row: {"n": row + 0.5, "t": "c", "new": "yes"}))
    made.remove(["a-7", "a-8", "b-0", *(f"b-{row}" for row in range(10, 20))])
    return made


@pytest.mark.parametrize("living", KINDS.values(), ids=KINDS, indirect=True)
def test_joined_segments_are_a_fresh_build_byte_for_byte(living):
    before = Index(living.path)
    report = compact(living.path, ALL)
    after = living.check()
    assert (report.segments, report.steps, report.rows, report.left) == (1, 1, len(living.rows), ())
    assert report.generation == after.folder.name
    [segment], fresh = after.segments, living.folder / "fresh/gen-000001/segment-000"
    same = sorted(path.name for path in segment.folder.iterdir() if "ivf" not in path.name)
    assert same == sorted(path.name for path in fresh.iterdir() if "ivf" not in path.name)
    assert [name for name in same if (segment.folder / name).read_bytes() != (fresh / name).read_bytes()] == []
    assert after.manifest.history[-1].what == "compact"
    assert [change.what for change, _ in history(living.path)] == ["build", "add", "add", "remove", "compact"]
    assert report.bytes == sum(
        size for name, (size, _) in after.manifest.files.items() if name.startswith(segment.record.name)
    )
    assert before.key(7) == "a-7"


@pytest.mark.parametrize("living", [LISTS, SHARED], ids=["lists", "shared"], indirect=True)
def test_joined_lists_are_those_of_a_fresh_assignment_to_the_same_centroids(living):
    centroids = read_centroids(Index(living.path).segments[0].folder / "fine.ivf.faiss")
    before = Index(living.path)
    compact(living.path, ALL)
    after = Index(living.path)
    part = after.segments[0].levels[Level.FINE]
    write_lists(living.folder / "expected", part.flat.codes, assign(part.flat.codes, centroids), centroids)
    assert (after.segments[0].folder / "fine.ivf.faiss").read_bytes() == (living.folder / "expected").read_bytes()
    was, now = (index.manifest.segments[0].levels[Level.FINE] for index in (before, after))
    assert (now.nlist, now.nprobe, now.tuned, now.trained) == (was.nlist, was.nprobe, was.tuned, was.trained)
    queries = np.array([[first, second] for first in range(3) for second in range(3)], np.uint8)
    for nprobe in (1, 2):
        found = [index.search(Level.FINE, queries, SearchSettings(5, nprobe=nprobe)) for index in (before, after)]
        keys = [
            [[index.key(row) for row in one.rows.tolist()] for one in each]
            for index, each in zip((before, after), found, strict=True)
        ]
        assert keys[0] == keys[1]


def test_codes_are_assigned_where_lists_have_other_centroids(living, rng, write_codes):
    """An index whose later segments share codes and whose first does not: nothing can be joined list by list."""
    other = Living(living.folder / "other", write_codes, BuildSettings(IndexKind.IVF, nlist=4))
    (living.folder / "other").mkdir()
    wide = [
        Row(f"w-{row}", np.array([row % 256, row // 256], np.uint8), (0, 0), {"n": row, "t": "é"}) for row in range(300)
    ]
    other.start(wide)
    other.add("few", [Row(f"f-{row}", np.array([row % 2, 0], np.uint8), (0, 0), {"n": 1}) for row in range(40)])
    assert [segment.record.levels[Level.FINE].postings for segment in Index(other.path).segments] == [None, "fine"]
    compact(other.path, ALL)
    other.check()
    assert Index(other.path).segments[0].levels[Level.FINE].record.postings is None


def test_only_what_is_due_is_joined_and_removed_rows_leave_at_a_quarter(living, rng):
    assert compact(living.path, CompactSettings()).steps == 1  # of b, a third is gone
    after = living.check()
    assert [(segment.rows, segment.removed) for segment in after.manifest.segments] == [(40, 3), (19, 0), (20, 0)]
    assert compact(living.path, CompactSettings()).steps == 0
    living.add("d", drawn(rng, "d", 17, values))
    living.add("e", drawn(rng, "e", 16, values))
    report = compact(living.path, CompactSettings())
    assert [segment.rows for segment in living.check().manifest.segments] == [109]
    assert report.steps == 1


def test_a_segment_reaches_no_further_than_asked(living):
    report = compact(living.path, CompactSettings(all=True, segment_rows=60))
    assert [segment.rows for segment in living.check().manifest.segments] == [56, 20]
    assert report.steps == 1
    assert compact(living.path, CompactSettings(all=True, segment_rows=60)).steps == 0


@pytest.mark.parametrize("living", KINDS.values(), ids=KINDS, indirect=True)
def test_segments_without_rows_go_and_an_index_without_rows_is_one_that_is_added_to(living, rng):
    living.remove([row.key for row in living.rows if row.key[0] == "b" or row.key == "a-3"])
    compact(living.path, CompactSettings())
    assert [segment.rows for segment in living.check().manifest.segments] == [40, 20]
    kept = living.rows
    living.remove([row.key for row in living.rows])
    compact(living.path, CompactSettings())
    after = verify(living.path, lambda *_: None)
    assert [(segment.rows, segment.removed) for segment in after.manifest.segments] == [(0, 0)]
    [found] = after.search(Level.FINE, np.zeros((1, 2), np.uint8), SearchSettings(3))
    assert len(found.rows) == 0
    living.add("again", kept)
    living.check()
    compact(living.path, CompactSettings())
    assert [segment.rows for segment in living.check().manifest.segments] == [len(kept)]
    if living.settings.kind is IndexKind.IVF:
        lists = Index(living.path).segments[0].levels[Level.FINE].ivf
        assert lists is not None
        assert lists.fault() is None


@pytest.mark.parametrize("living", [LISTS], ids=["lists"], indirect=True)
def test_a_step_without_room_is_left_with_a_line_and_smaller_ones_are_done(living, monkeypatch):
    before = sorted(living.path.rglob("*"))
    report = compact(living.path, CompactSettings(all=True, max_bytes=1000))
    assert report.steps == 0
    assert len(report.left) == 1
    assert "not written anew: 3 segments from segment-000 on; that takes" in report.left[0]
    assert sorted(living.path.rglob("*")) == before
    whole = sum(size for size, _ in Index(living.path).manifest.files.values())
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, whole // 2))
    report = compact(living.path, CompactSettings())
    assert (report.steps, report.left) == (1, ())
    assert report.bytes <= whole // 2
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 0))
    assert "there is room for 0.0 MB" in compact(living.path, ALL).left[0]
    living.check()


def test_damage_gets_no_digest_of_its_own(living):
    path = Index(living.path).segments[1].folder / "places.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(HashgrainError, match=r"places.npy is damaged") as caught:
        compact(living.path, ALL)
    assert caught.value.reason is Reason.INDEX_DAMAGED
    assert len(Index(living.path).segments) == 3


def test_a_folder_without_an_index_is_left_alone(tmp_path):
    with pytest.raises(HashgrainError) as caught:
        compact(tmp_path / "index", ALL)
    assert caught.value.reason is Reason.INDEX_MISSING
    assert not (tmp_path / "index").exists()


def test_somebody_who_writes_is_not_disturbed(living):
    with writer(living.path), pytest.raises(HashgrainError) as caught:
        compact(living.path, ALL)
    assert caught.value.reason is Reason.BUSY


def test_a_change_joins_what_is_due_after_it(living, rng):
    for name, expected in (("d", 1), ("e", 2)):
        with writer(living.path) as opened:
            opened.add([living.file(name, rows := drawn(rng, name, 17, values))])
        living.rows += rows
        assert opened.report.compaction is not None
        assert opened.report.compaction.segments == len(living.check().manifest.segments) == expected
        assert opened.report.compaction.generation == Index(living.path).folder.name
        assert opened.report.compaction.steps == 2 - expected
    with writer(living.path) as opened:
        pass
    assert opened.report.compaction is None


def test_a_change_stands_whatever_comes_of_joining(living, rng, monkeypatch):
    damaged = Index(living.path).segments[1].folder / "fine.flat.faiss"
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    with writer(living.path) as opened:
        opened.add([living.file("d", drawn(rng, "d", 17, values))])
    assert opened.report.compaction is not None
    assert "segments were not joined: index file" in opened.report.compaction.left[0]
    assert Index(living.path).folder.name == opened.report.generation
    assert Index(living.path).manifest.live == opened.report.rows
