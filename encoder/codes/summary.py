"""What code files hold, in numbers: counts, labels, rejects by reason, and the health of the bits."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoder.bits import unpack
from encoder.codes.file import open_codes
from encoder.errors import HashgrainError, Reason, Reject
from encoder.images.labels.values import LabelKind
from encoder.images.readers.formats import READERS
from encoder.levels import Level

HEALTH_ROWS = 200_000
"""Rows that bit balance and distinct codes are taken from, at most, spread over the files."""


@dataclass(frozen=True, slots=True)
class LevelHealth:
    """How well a level uses its bits."""

    nbits: int
    mean_balance: float
    """Mean over bits of the share of ones: 0.5 is best."""
    worst_balance: float
    """Share of ones of the most lopsided bit."""
    distinct: float
    """Distinct codes / rows compared."""


@dataclass(frozen=True, slots=True)
class CodesSummary:
    """Code files taken together: seen = rows + rejects."""

    files: int
    seen: int
    rows: int
    rejects: dict[Reject, int]
    labels: dict[str, int]
    """Rows that have each label field."""
    label_kinds: dict[str, LabelKind]
    """What each field holds, over all files."""
    bad_labels: int
    """Labels that could not be kept as they are."""
    fingerprints: list[str]
    precisions: list[str]
    levels: dict[Level, LevelHealth]
    damaged: dict[str, str]
    """Shards that were not whole when they were read, by path."""
    sequential: list[str]
    """Compressed tars and Parquet: their images are read back from the front, or that of a row group, not with one seek."""


def summarise(paths: Sequence[Path]) -> CodesSummary:
    """Read code files and count.

    Raises:
        HashgrainError: `codes-missing`, `codes-damaged`, or `codes-mismatch` when their levels or bits differ.
    """
    rejects, labels = Counter[Reject](), Counter[str]()
    kinds: dict[str, LabelKind] = {}
    headers, samples = [], dict[Level, list[np.ndarray[tuple[int, int], np.dtype[np.uint8]]]]()
    quota = max(1, HEALTH_ROWS // len(paths))
    for path in paths:
        with open_codes(path) as file:
            headers.append(file.header)
            rejects.update(row.reject for row in file.rejects())
            for name, kind in file.label_fields().items():
                labels[name] += int(file.label(name).present.sum())
                kinds[name] = kind.joined(kinds.get(name, kind))
            for level in file.header.bits:
                samples.setdefault(level, []).append(file.codes(level, 0, quota))
            if file.header.bits != headers[0].bits:
                raise HashgrainError(
                    Reason.CODES_MISMATCH,
                    f"{path} has {_bits(file.header.bits)}, {paths[0]} has {_bits(headers[0].bits)}; inspect them apart",
                )
    return CodesSummary(
        files=len(paths),
        seen=sum(header.seen for header in headers),
        rows=sum(header.rows for header in headers),
        rejects=dict(rejects.most_common()),
        labels=dict(labels),
        label_kinds=kinds,
        bad_labels=sum(header.bad_labels for header in headers),
        fingerprints=sorted({header.fingerprint for header in headers}),
        precisions=sorted({header.precision for header in headers}),
        levels={level: health_of(np.concatenate(parts)) for level, parts in samples.items()},
        damaged={header.shard.path: header.shard.damage for header in headers if header.shard.damage},
        sequential=[header.shard.path for header in headers if READERS[header.shard.kind].sequential],
    )


def health_of(codes: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> LevelHealth:
    """Measure how well codes use their bits.

    Args:
        codes: uint8[n, nbits / 8].
    """
    nbits = 8 * codes.shape[1]
    if not len(codes):
        return LevelHealth(nbits, float("nan"), float("nan"), float("nan"))
    ones = unpack(codes).mean(axis=0)
    distinct = len(np.unique(codes.view(f"V{codes.shape[1]}").ravel()))
    worst = ones[np.argmax(np.abs(ones - 0.5))]
    return LevelHealth(nbits, float(ones.mean()), float(worst), distinct / len(codes))


def _bits(bits: dict[Level, int]) -> str:
    return ", ".join(f"{level} {nbits}" for level, nbits in bits.items())
