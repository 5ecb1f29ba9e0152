"""What a service says of its index: levels, label fields with their values, limits; and single rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from encoder.images.labels.values import as_json
from indexer.cutoffs import cut_off
from indexer.index import Index
from indexer.service.holder import random_rows
from indexer.service.settings import ServeSettings
from indexer.storage.manifest import LevelRecord
from indexer.wire import IndexInfo, Item, LabelFieldInfo, LevelInfo, as_bytes

SAMPLE: Final = 2000
"""Rows whose labels are looked at for the values of a field."""
MOST_VALUES: Final = 50
FALSE: Final = (0.001, 0.01, 0.1)
"""Unrelated images per query whose cut-offs are told."""


def index_info(index: Index, settings: ServeSettings, *, has_model: bool) -> bytes:
    """Return `IndexInfo` as JSON."""
    manifest = index.manifest
    info = IndexInfo(
        name=index.path.resolve().name,
        generation=index.generation,
        rows=manifest.live,
        levels={level: _level(record, manifest.live) for level, record in manifest.segments[0].levels.items()},
        fingerprint=manifest.fingerprint,
        label_fields=label_fields(index),
        has_model=has_model,
        writable=settings.writable is not None,
        limits={
            "body": settings.max_body,
            "pixels": settings.max_pixels,
            "hits": settings.most_hits,
            "queries": settings.most_queries,
            "waiting": settings.waiting_quick,
        },
    )
    return as_bytes(asdict(info))


def _level(record: LevelRecord, rows: int) -> LevelInfo:
    recall = {} if record.tuned is None else {f"{recall:g}": nprobe for nprobe, recall in record.tuned.recalls.items()}
    known = record.calibrated
    cutoffs = {} if known is None else {f"{of:g}": cut_off(known, of, rows).radius for of in FALSE}
    return LevelInfo(record.nbits, "flat" if record.ivf is None else "ivf", record.nlist, recall, cutoffs)


def label_fields(index: Index) -> dict[str, LabelFieldInfo]:
    """Return what fields of labels there are, with their most frequent values in a sample of rows."""
    rows = random_rows(index, SAMPLE, np.random.default_rng(0))
    values: dict[str, list[Any]] = {}
    lists = set[str]()
    for row in np.sort(rows).tolist():
        for name, value in as_json(index.labels(row)).items():
            if isinstance(value, list):
                lists.add(name)
            values.setdefault(name, []).extend(value if isinstance(value, list) else [value])
    return {name: _field(found, is_list=name in lists) for name, found in sorted(values.items())}


def _field(found: Sequence[Any], *, is_list: bool) -> LabelFieldInfo:
    kinds = {type(value) for value in found}
    kind = "texts" if is_list else "boolean" if kinds == {bool} else "number" if kinds <= {int, float} else "text"
    counts = Counter(map(str, found) if kind.startswith("text") else found)
    common = [value for value, _ in sorted(counts.items(), key=lambda each: (-each[1], str(each[0])))[:MOST_VALUES]]
    is_number = kind == "number" and found
    return LabelFieldInfo(
        kind,
        tuple(common),
        len(counts),
        float(min(found)) if is_number else None,
        float(max(found)) if is_number else None,
    )


def items(index: Index, rows: Sequence[int]) -> list[Item]:
    """Return what is known of rows."""
    numbers = np.asarray(rows, np.int64)
    codes = {level: index.codes(level, numbers) for level in index.manifest.bits} if len(rows) else {}
    return [
        Item(
            index.key(row),
            row,
            index.generation,
            index.shard(row),
            as_json(index.labels(row)),
            {level: values[at].tobytes().hex() for level, values in codes.items()},
        )
        for at, row in enumerate(rows)
    ]
