import json

import numpy as np
import pytest

import indexer
from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.images.labels.values import as_json
from encoder.levels import Level
from indexer.answer import Found
from indexer.build import build
from indexer.search.combine import Ranked
from indexer.service.hits import hits_of
from indexer.settings import BuildSettings

LABELS = [
    {"name": '"\\\n\u202e\x7f☃', "many": ("a", "b"), "share": float("inf")},
    {},
    {"name": "", "number": -3, "yes": False, "share": 0.1},
]


@pytest.fixture
def opened(tmp_path, write_codes, rng):
    """Three segments, of which the last one has no labels."""
    for name, labels in (("a", LABELS * 3), ("b", LABELS[::-1] * 3), ("c", None)):
        write_codes(name, {level: rng.integers(0, 256, (9, 8), np.uint8) for level in Level}, labels=labels)
    build(list_code_files([tmp_path / "codes" / "a.h5"]), tmp_path / "index", BuildSettings())
    for name in ("b", "c"):
        with indexer.writer(tmp_path / "index") as writer:
            writer.add([tmp_path / "codes" / f"{name}.h5"])
    return indexer.open(tmp_path / "index").snapshot


def one_by_one(index, found, places, offset):
    hits = []
    for rank, at in enumerate(places.tolist(), offset + 1):
        row = int(found.ranked.rows[at])
        hit = {"key": index.key(row), "row": row, "rank": rank}
        hit |= {"distance": int(found.ranked.distances[found.level][at]), "shard": index.shard(row)}
        hit["labels"] = as_json(index.labels(row))
        if found.ranked.scores is not None:
            hit["score"] = float(found.ranked.scores[at])
        if len(found.ranked.distances) > 1:
            hit["distances"] = {level: int(values[at]) for level, values in found.ranked.distances.items()}
        hits.append(hit)
    return hits


@pytest.mark.parametrize("levels", [(Level.FINE,), tuple(Level)])
@pytest.mark.parametrize("scored", [False, True])
def test_hits_of_a_batch_are_those_of_its_rows_one_by_one(opened, rng, levels, scored):
    found, places = [], []
    for count in (5, 0, 27, 1):
        rows = rng.permutation(opened.ntotal)[:count]
        distances = {level: rng.integers(0, 64, count) for level in levels}
        scores = rng.random(count, np.float32) if scored else None
        found.append(Found("q", "words", levels[-1], Ranked(rows, scores, distances), 27))
        places.append(np.arange(count)[2:])
    texts = hits_of(opened, found, places, 2)
    expected = [one_by_one(opened, one, of, 2) for one, of in zip(found, places, strict=True)]
    assert [json.loads(text) for text in texts] == expected
    assert all(text.isascii() and text.isprintable() for text in texts)
    assert len(opened.segments) == 3


def test_a_row_that_is_not_there_is_damage(opened):
    keys = opened.segments[0].table.keys
    broken = keys.offsets.copy()
    broken[3] = 1 << 40
    opened.segments[0].table.keys = type(keys)(keys.text, broken, keys.file)
    found = Found("q", "words", Level.FINE, Ranked(np.array([2]), None, {Level.FINE: np.array([0])}), 27)
    with pytest.raises(HashgrainError) as damaged:
        hits_of(opened, [found], [np.arange(1)], 0)
    assert damaged.value.reason is Reason.INDEX_DAMAGED
