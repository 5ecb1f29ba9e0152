"""Labels in a table beside the images, and which row of it is whose; `table_files.py` reads one.

The table stays in Arrow's columns; beside them two hashes and two numbers are held per row.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from encoder.errors import HashgrainError, Reason, why
from encoder.images.labels.values import BadLabels, Labels, flatten
from encoder.images.names import IMAGE_SUFFIXES
from encoder.plural import plural
from encoder.runtime.publish import sha256_of

NAMED_ALIKE = 64
"""Rows of one name that are looked at one by one, at most: among more the name does not tell which is meant."""
Column: TypeAlias = Any
"""pyarrow.ChunkedArray; pyarrow has no types of its own."""


@dataclass(slots=True)
class Matched:
    """How many images had a row of a table."""

    found: int = 0
    """Images that have a row."""
    ambiguous: int = 0
    """Images that several rows may be of, and that have the labels of none."""
    without: int = 0
    """Images that have no row."""
    first_without: str = ""
    """Key of the first of them."""

    def extend(self, others: "Matched") -> None:
        """Count those of another process."""
        self.found += others.found
        self.ambiguous += others.ambiguous
        self.without += others.without
        self.first_without = self.first_without or others.first_without

    def since(self, before: "Matched") -> "Matched":
        """Return those that came after `before`, which is an earlier state of this one."""
        return Matched(
            self.found - before.found,
            self.ambiguous - before.ambiguous,
            self.without - before.without,
            self.first_without,
        )


@dataclass(slots=True)
class LabelTable:
    """A table of labels; `table_files.py` makes one."""

    path: Path
    columns: Mapping[str, Column]
    """Of labels, by field."""
    keys: Column
    """Text: which image each row is of."""
    left_out: Mapping[str, str]
    """Columns that cannot be labels, and why."""
    repeated: int
    """Rows whose key an earlier row has, which counts."""
    matched: Matched = field(default_factory=Matched)
    _whole: "_Lookup" = field(init=False)
    """By keys without the ending of an image."""
    _names: "_Lookup" = field(init=False)
    """By the last part of these."""

    def __post_init__(self) -> None:
        self._whole = _Lookup.of(_without_ending(key) for key in _strings(self.keys))
        self._names = _Lookup.of(_name(_without_ending(key)) for key in _strings(self.keys))

    def labels(self, key: str, bad: BadLabels) -> Labels:
        """Return the labels of an image.

        Args:
            key: of the image in its shard. Its row has this key, else this key but for the ending, else the same file name, else
                the same file name but for the ending: in a tar keys have no ending, and a table may leave folders out.
            bad: counts what could not be kept of the row, and images that several rows may be of.
        """
        rows = self._rows(key)
        if not rows:
            self.matched.extend(Matched(without=1, first_without=key))
            return {}
        if len(rows) > 1:
            self.matched.ambiguous += 1
            bad.add(key, f"{self.path.name}: rows of {self._key(rows[0])!r} and {self._key(rows[1])!r} have its name")
            return {}
        self.matched.found += 1
        values, unread = dict[str, object](), list[str]()
        for name, column in self.columns.items():
            try:
                values[name] = plain(column[rows[0]].as_py())
            except (ValueError, OverflowError) as err:  # text that is not UTF-8, a year 10000
                unread.append(f"left out, what column {name!r} holds here cannot be read ({err})")
        labels, faults = flatten(values)
        for fault in [*unread, *faults]:
            bad.add(key, f"{self.path.name}: {fault}")
        return labels

    @property
    def digest(self) -> str:
        """Return a digest of the table: equal labels, equal digest."""
        names = [*self.columns, *self.left_out]
        try:
            content = sha256_of(self.path)
        except OSError as err:
            raise HashgrainError(
                Reason.BAD_VALUE, f"labels {self.path} could not be read: {why(err)}; give a file that can be"
            ) from err
        return hashlib.sha256(f"{content} {sorted(names)}".encode()).hexdigest()

    def notices(self) -> list[str]:
        """Return lines for a person: what is left out, and after a run, which images have no row."""
        name, lines = (
            self.path.name,
            [f"{self.path.name}: column {name!r} left out, {fault}" for name, fault in self.left_out.items()],
        )
        if self.repeated:
            lines.append(f"{name}: {plural(self.repeated, 'row')} with the key of an earlier row, which counts")
        matched = self.matched
        if matched.ambiguous:
            lines.append(
                f"{name}: {plural(matched.ambiguous, 'image')} without labels of it, since several rows have one name"
            )
        if matched.without and not matched.found:
            lines.append(
                f"{name}: no image has a row; its keys are like {self._key(0)!r}, the images' like {matched.first_without!r}"
                if len(self.keys)
                else f"{name} has no rows"
            )
        elif matched.without:
            lines.append(f"{name}: {plural(matched.without, 'image')} without a row, first {matched.first_without!r}")
        return lines

    def _rows(self, key: str) -> list[int]:
        """Return the rows that an image may be of; one, if it is clear which."""
        whole, name = _without_ending(key), _name(key)
        same = [row for row in self._whole.rows(whole) if _without_ending(self._key(row)) == whole]
        if same:
            return self._first_if_one([row for row in same if self._key(row) == key] or same)
        alike = self._names.rows(_name(whole))
        if len(alike) <= NAMED_ALIKE:
            alike = [row for row in alike if _name(_without_ending(self._key(row))) == _name(whole)]
            alike = [row for row in alike if _name(self._key(row)) == name] or alike
        return self._first_if_one(alike)

    def _first_if_one(self, rows: list[int]) -> list[int]:
        """Return the first of rows that have the same key, else all."""
        return rows[:1] if len({self._key(row) for row in rows}) == 1 else rows

    def _key(self, row: int) -> str:
        return self.keys[row].as_py() or ""


@dataclass(frozen=True, slots=True)
class _Lookup:
    """Finds rows by the hash of a text."""

    hashes: npt.NDArray[np.int64]
    """Sorted; Python's, which hold in this process."""
    order: npt.NDArray[np.int64]
    """The row of each hash."""

    @classmethod
    def of(cls, texts: Iterable[str]) -> "_Lookup":
        hashes = np.fromiter(map(hash, texts), np.int64)
        order = np.argsort(hashes, kind="stable")
        return cls(hashes[order], order)

    def rows(self, text: str) -> list[int]:
        """Return the first rows of a text, in order, and a few of other texts if their hashes are equal."""
        start = int(np.searchsorted(self.hashes, hash(text)))
        stop = int(np.searchsorted(self.hashes, hash(text), side="right"))
        rows: list[int] = self.order[start : min(stop, start + NAMED_ALIKE + 1)].tolist()
        return rows


def plain(value: object) -> object:
    """Return a value of Arrow as JSON has it: times as ISO 8601, decimals as numbers."""
    match value:
        case date() | time():  # datetime is a date
            return value.isoformat()
        case Decimal():
            return float(value)
        case list():
            return [plain(item) for item in value]
        case _:
            return value


def _strings(keys: Column) -> Iterator[str]:
    return (key or "" for chunk in keys.chunks for key in chunk.to_pylist())


def _without_ending(key: str) -> str:
    """Return a key without the ending of an image."""
    stem, dot, ending = key.rpartition(".")
    return stem if f"{dot}{ending.lower()}" in IMAGE_SUFFIXES else key


def _name(key: str) -> str:
    return key.rpartition("/")[2]
