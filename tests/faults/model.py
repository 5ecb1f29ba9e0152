"""What an index has to hold after a history of changes: a dict of rows, and what every answer is then.

A change is a tuple (what, first, second): `("add", rows, on_duplicate)`, `("add text", rows, on_duplicate)`, `("remove", keys, None)`,
`("where", label, None)`, `("compact", all, segment_rows)`, `("fail", rows, None)`, `("rollback", -1, None)` or `("gc", keep, None)`.
`act` does it to an index, `Model.then` to the model. Codes are few, so that many rows tie.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from encoder.codes.label_columns import LabelColumn
from encoder.codes.strings import TextColumn
from encoder.images.labels.values import LabelKind
from encoder.levels import Level
from encoder.runtime.publish import exclusive
from indexer.changes.compact import compact
from indexer.changes.history import gc, history, rollback
from indexer.changes.writer import writer
from indexer.engines.faiss_cpu import assign
from indexer.engines.faiss_file import read_centroids
from indexer.index import Index
from indexer.matches import Matches
from indexer.settings import BuildSettings, CompactSettings, Dedupe, Engine, IndexKind, OnDuplicate, SearchSettings
from indexer.snapshot import Snapshot
from indexer.storage.current import POINTER, generations, number_of
from indexer.storage.generation import next_generation
from indexer.storage.manifest import Manifest
from indexer.storage.row_source import ArrayRows
from indexer.storage.row_writer import settle_labels
from indexer.storage.segment_writer import write_segment
from indexer.verify import verify

FINGERPRINT = "f" * 64
LEVELS = (Level.FINE, Level.MID)
KEYS = [f"k{number:02d}" for number in range(40)]
QUERIES = np.array([[first, second] for first in range(3) for second in range(3)], np.uint8)
HOW: Final = (
    BuildSettings(IndexKind.FLAT, dedupe=Dedupe.OFF),
    BuildSettings(IndexKind.IVF, nlist=3, dedupe=Dedupe.OFF),
    BuildSettings(IndexKind.IVF, nlist=3, dedupe=Dedupe.ON),
    BuildSettings(IndexKind.AUTO, dedupe=Dedupe.AUTO),
)
Change = tuple[str, Any, Any]
Opened = Index | Snapshot


@dataclass(frozen=True)
class Row:
    """What is known of a key: its codes, one byte of each level's two, and its label."""

    codes: tuple[int, int]
    label: int


Rows = dict[str, Row]
"""In the order in which the present version of each key was added."""


@dataclass
class Model:
    """What an index holds, now and in each generation that was published."""

    rows: Rows
    earlier: dict[str, Rows] = field(default_factory=dict)

    def published(self, path: Path) -> None:
        """Note what the generations hold that are new; all that a change publishes hold the same."""
        current = number_of(current_name(path))
        for folder in generations(path):
            if number_of(folder.name) <= current:
                self.earlier.setdefault(folder.name, self.rows)

    def there(self, path: Path) -> list[str]:
        """Return the generations before the current one, oldest first, that were ever published and are on the disk."""
        current = current_name(path)
        return [name for name in names_of(path) if name in self.earlier and number_of(name) < number_of(current)]

    def then(self, change: Change, path: Path) -> Rows | None:
        """Return what the index at `path`, which is as the model says, holds after a change; None where it is refused."""
        what, first, second = change
        if what in {"add", "add text"}:
            known = self.rows if second is OnDuplicate.FIRST else {}
            new = {key: row for key, row in first.items() if key not in known}
            return {key: row for key, row in self.rows.items() if key not in new} | new
        if what == "remove":
            return {key: row for key, row in self.rows.items() if key not in first}
        if what == "where":
            return {key: row for key, row in self.rows.items() if row.label != first}
        if what == "rollback":
            states = list[list[str]]()
            for each, _ in history(path):  # what joins segments belongs to the change before it
                states += [] if states and each.what in {"compact", "measure"} else [[]]
                states[-1].append(each.generation)
            left = set(states[first - 1] if -first < len(states) else ()) & set(self.there(path))
            return self.earlier[max(left)] if left else None
        return None if what == "fail" else self.rows


def current_name(path: Path) -> str:
    """Return the name of the current generation, as the pointer says it; readers prove more of it."""
    return str(json.loads((path / POINTER).read_bytes())["generation"])


def names_of(path: Path) -> list[str]:
    """Return the names of the generations on the disk, oldest first."""
    return sorted((folder.name for folder in generations(path)), key=number_of)


class Failed(Exception):
    """What the change `fail` raises in a writer."""


def act(change: Change, path: Path) -> None:
    """Do a change to an index."""
    what, first, second = change
    if what == "rollback":
        rollback(path, first)
    elif what == "gc":
        gc(path, first)
    elif what == "compact":
        compact(path, CompactSettings(all=first, segment_rows=second))
    else:
        with writer(path) as opened:
            if what in {"add", "add text"}:
                opened.add_rows([source_of(first, what == "add text")], FINGERPRINT, on_duplicate=second)
            elif what == "remove":
                opened.remove(first, missing_ok=True)
            elif what == "where":
                text = any(each.kind is LabelKind.TEXT for one in opened.segments for each in one.record.labels)
                opened.remove(where=f"label.n = '{first}'" if text else f"label.n = {first}")
            elif what == "fail":
                opened.add_rows([source_of(first)], FINGERPRINT)
                raise Failed


def source_of(rows: Mapping[str, Row], as_text: bool = False) -> ArrayRows:
    """Return rows as they are added, their label a number or its text."""
    values = [str(row.label) if as_text else row.label for row in rows.values()]
    column = LabelColumn.of(LabelKind.TEXT if as_text else LabelKind.INT, values)
    return ArrayRows("drawn", TextColumn.of(rows), codes_of(rows), {"n": column})


def codes_of(rows: Mapping[str, Row]) -> dict[Level, np.ndarray]:
    """Return uint8[n, 2] per level."""
    return {
        level: np.array([[row.codes[number], number] for row in rows.values()], np.uint8).reshape(-1, 2)
        for number, level in enumerate(LEVELS)
    }


def build_of(path: Path, rows: Mapping[str, Row], how: BuildSettings) -> None:
    """Build an index of rows."""
    source = source_of(rows)
    with exclusive(path), next_generation(path) as new:
        fields, _ = settle_labels([source])
        record = write_segment(new.folder / new.segment_name(), [source], fields, how)
        manifest = Manifest(FINGERPRINT, "fp32", None, [record], {}, kind=how.kind, dedupe=how.dedupe)
        new.publish(manifest, "build", added=len(rows), keep=1)


def keys_of(index: Opened) -> list[str]:
    """Return the keys that an index answers with, in the order of its rows."""
    return [index.key(row) for row in index.live_rows().tolist()]


def check_whole(path: Path, rows: Rows, fresh: Path) -> None:
    """Prove that an index is whole and that it answers as numpy does over the rows, and as an index that is built of them in `fresh`."""
    index = verify(path, lambda *_: None)
    assert keys_of(index) == list(rows)
    assert index.manifest.live == index.manifest.history[-1].rows == len(rows)
    for key, row in rows.items():
        found = index.find(key)
        assert index.labels(found)["n"] in {row.label, str(row.label)}
        for number, level in enumerate(LEVELS):
            assert index.codes(level, np.array([found])).tolist() == [[row.codes[number], number]]
    _check_lists(index)
    if not rows:
        return
    build_of(fresh, rows, BuildSettings(IndexKind.FLAT, dedupe=Dedupe.OFF))
    numbers = all(field.kind is LabelKind.INT for segment in index.manifest.segments for field in segment.labels)
    assert answers(index, numbers) == answers(Index(fresh), numbers)
    for level in LEVELS:
        of_index = index.search(level, QUERIES, SearchSettings(k=5, exact=True))
        assert keyed(index, of_index) == [nearest(rows, level, query, 5) for query in QUERIES]


def answers(index: Opened, numbers: bool) -> list[object]:
    """Return what flat search finds at each level, by each engine alike: nearest, within a radius, and through a filter of numbers."""
    found = list[object]()
    for level in LEVELS:
        asked: list[dict[str, Any]] = [
            {"k": 5},
            {"k": None, "radius": 1},
            *([{"k": 50, "where": "label.n >= 2"}] if numbers else []),
        ]
        for options in asked:
            of_engines = [
                keyed(index, index.search(level, QUERIES, SearchSettings(**options, exact=True, engine=engine)))
                for engine in (Engine.FAISS, Engine.SCAN)
            ]
            assert of_engines[0] == of_engines[1]
            found.append(of_engines[0])
    return found


def keyed(index: Opened, found: list[Matches]) -> list[tuple[list[str], list[int]]]:
    """Return the keys and distances of what was found."""
    return [([index.key(row) for row in one.rows.tolist()], one.distances.tolist()) for one in found]


def nearest(rows: Rows, level: Level, query: np.ndarray, k: int) -> tuple[list[str], list[int]]:
    """Return the keys and distances of the k nearest rows, by numpy."""
    distances = np.bitwise_count(codes_of(rows)[level] ^ query).sum(axis=1)
    order = np.argsort(distances, kind="stable")[:k]
    keys = list(rows)
    return [keys[row] for row in order], distances[order].tolist()


def _check_lists(index: Opened) -> None:
    """Each list of each segment holds the entries nearest to its centroid, and all segments have the same centroids."""
    for level in LEVELS:
        seen = set()
        for segment in index.segments:
            record = segment.record.levels[level]
            if record.ivf is None:
                continue
            part, centroids = segment.levels[level], read_centroids(segment.folder / record.ivf)
            seen.add(centroids.tobytes())
            assert part.ivf is not None
            assert record.nlist is not None
            assert part.ivf.fault() is None
            nearest = assign(np.ascontiguousarray(part.flat.codes), centroids)
            sizes = [part.ivf.index.invlists.list_size(number) for number in range(record.nlist)]
            assert sizes == np.bincount(nearest, minlength=record.nlist).tolist()
        assert len(seen) <= 1
