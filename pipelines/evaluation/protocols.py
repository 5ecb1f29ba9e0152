"""Queries and database: the protocols by name, and the checks that refuse a leak."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.errors import HashgrainError, Reason
from encoder.images.classes import class_indices
from encoder.levels import Level
from pipelines.evaluation.subject import Part, joined

Indices = npt.NDArray[np.int64]

DISJOINT = "give disjoint splits"
STARTS_OVER = "where keys start over in every shard"
ENCODE_AGAIN = f"{STARTS_OVER}, encode again with `encoder encode --prefix-keys` (and build an index again)"


class Preset(StrEnum):
    """The protocols by name."""

    FULL = "full"
    TEST_ONLY = "test-only"
    UNSEEN_CLASSES = "unseen-classes"


@dataclass(frozen=True, slots=True)
class Protocol:
    """Which images are queries, and which are the database."""

    says: str
    """In one sentence, for the report."""
    leave_one_out: bool
    """The queries are the database, and each is left out of its own answer."""
    unseen: bool
    """Only images of classes that the model was not trained on take part."""


PROTOCOLS: Mapping[Preset, Protocol] = {
    Preset.FULL: Protocol("test images ask, training images are the database", leave_one_out=False, unseen=False),
    Preset.TEST_ONLY: Protocol("each test image asks all the others", leave_one_out=True, unseen=False),
    Preset.UNSEEN_CLASSES: Protocol(
        "each image of the classes that the model was not trained on asks all the others",
        leave_one_out=True,
        unseen=True,
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """All images of an evaluation: the test rows, then the training rows; every other array goes by these rows."""

    test: int
    """How many of the rows are test images."""
    keys: list[str]
    codes: dict[Level, Codes]
    classes: Indices
    """int64[n, fields]: the number of each image's class in each field, the finest field first."""
    names: list[str]
    """Of the finest classes, by number."""

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Rows of the pool by the part they play."""

    queries: Indices
    database: Indices
    own_rows: Indices | None
    """Where each query stands in the database, if it does."""
    fitting: Indices
    """Training rows that baselines may learn from."""

    def sample(self, limit: int, seed: int) -> "Split":
        """Return the split with at most `limit` of its queries, drawn at random."""
        chosen = np.sort(np.random.default_rng([seed, 3]).permutation(len(self.queries))[:limit])
        own = None if self.own_rows is None else self.own_rows[chosen]
        return replace(self, queries=self.queries[chosen], own_rows=own)


def pool_of(test: Part, train: Part | None) -> Pool:
    """Put the parts behind one another and number their classes."""
    part = joined([test, train]) if train else test
    numbered = [class_indices(values) for values in part.labels]
    classes = np.stack([numbers for numbers, _ in numbered], axis=1)
    return Pool(len(test), part.keys, part.codes, classes, numbered[0][1])


def split(preset: Preset, pool: Pool, left_out: Sequence[str], *, with_train: bool = False) -> Split:
    """Give each row its part in a protocol.

    Args:
        preset: the protocol.
        pool: the images.
        left_out: names of the finest classes that the model was not trained on; only `unseen-classes` looks at them.
        with_train: `unseen-classes`: training images of those classes take part, too.

    Raises:
        HashgrainError: `bad-value` when nothing is left to ask or to be asked, `leak` for `unseen-classes` of a model
            whose record names no class that was left out.
    """
    protocol, rows = PROTOCOLS[preset], np.arange(len(pool))
    test = rows < pool.test
    if not protocol.unseen:
        queries = rows[test]
        database = queries if protocol.leave_one_out else rows[~test]
        fitting = rows[~test]
    else:
        if not left_out:
            raise HashgrainError(
                Reason.LEAK,
                f"{preset} needs classes that the model was not trained on, and its record names none; "
                "train one with `encoder train --leave-out 0.25`",
            )
        unseen = np.isin(
            pool.classes[:, 0], [number for number, name in enumerate(pool.names) if name in set(left_out)]
        )
        queries = database = rows[unseen & (test | with_train)]
        fitting = rows[~test & ~unseen]
    if not len(queries) or len(database) < 2:
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"{preset} has {len(queries)} queries and {len(database)} images to find ({protocol.says}); "
            "give --test, and --train where they are the database",
        )
    return Split(queries, database, np.arange(len(queries)) if protocol.leave_one_out else None, fitting)


def refuse_leaks(
    preset: Preset, test: Part, train: Part | None, record: Mapping[str, Any], coded: Collection[str] = ()
) -> None:
    """Raise when what is asked could have been seen before.

    Args:
        preset: the protocol.
        test: where the queries are from.
        train: the training images, if there are any.
        coded: `test`, `training` or both, where some of its codes were made before: keys cannot be prefixed any more.
        record: of the model: `shards`, a list of {name, sha256}, says what it was trained on, if it says anything.

    Raises:
        HashgrainError: `leak` when test images are among the training images by key or by shard, or when the model was
            trained on a test shard (`unseen-classes` allows that: its classes are what was not trained on),
            `duplicate-keys` when a key stands twice in one part.
    """
    for part, name in ((test, "test"), *([(train, "training")] if train else [])):
        twice = [key for key, count in Counter(part.keys).items() if count > 1]
        if twice:
            raise HashgrainError(
                Reason.DUPLICATE_KEYS,
                f"{len(twice):,} keys stand in more than one {name} row (first: {twice[0]!r}); give each image once, or "
                + (ENCODE_AGAIN if name in coded else f"--prefix-keys {STARTS_OVER}"),
            )
    if train:
        _refuse(sorted(set(test.shards) & set(train.shards)), test.shards, "test shards are training shards, too")
        shared = sorted(set(test.keys) & set(train.keys))
        way_out = ENCODE_AGAIN if {"test", "training"} <= set(coded) else f"--prefix-keys {STARTS_OVER}"
        _refuse(shared, {}, "test images have the key of a training image", f"{DISJOINT}, or {way_out}")
    if not PROTOCOLS[preset].unseen:
        seen = sorted(trained_on(record) & set(test.shards))
        _refuse(seen, test.shards, "test shards are among those the model was trained on")


def trained_on(record: Mapping[str, Any]) -> set[str]:
    """Return the SHA-256 of the shards that a model's record says it was trained on."""
    return {str(shard["sha256"]) for shard in record.get("shards", [])}


def twins(digests: Sequence[bytes], given: Split) -> int:
    """Count the queries whose very bytes stand in the database under another key.

    Public test sets have a few, so they are told, not refused.

    Args:
        digests: of each image file, by row of the pool.
        given: queries and database.
    """
    copies = Counter(digests[row] for row in given.database.tolist())
    own = 0 if given.own_rows is None else 1
    return sum(copies[digests[row]] > own for row in given.queries.tolist())


def _refuse(found: Sequence[str], names: Mapping[str, str], what: str, remedy: str = DISJOINT) -> None:
    if found:
        first = names.get(found[0], found[0])
        raise HashgrainError(
            Reason.LEAK, f"{len(found):,} {what} (first: {first!r}): the scores would be too good; {remedy}"
        )
