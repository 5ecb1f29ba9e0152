"""Copies of pictures, looked for by the codes of one level."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from encoder.bits import Codes
from encoder.evaluation.counts import Integers
from pipelines.evaluation.copies import CopyKind, CopyRecall, Pictures, copy_rng, find_originals, make_copies

Encode: TypeAlias = Callable[[Pictures], Codes]


def copy_recall(
    encode: Encode,
    pictures: Pictures,
    rows: Integers,
    database: Codes,
    *,
    seed: int = 0,
    kinds: Sequence[CopyKind] = tuple(CopyKind),
) -> CopyRecall:
    """Make copies of pictures, encode them, and look for the originals, one kind after the other.

    Args:
        encode: uint8[n, size, size, 3] to uint8[n, code_size].
        pictures: uint8[n, size, size, 3], the originals.
        rows: int64[n], where their codes stand in the database.
        database: uint8[nb, code_size], codes of the originals and of the distractors.
        seed: of the copies; those of one kind are the same whichever other kinds are asked for.
        kinds: what is done to the pictures, at least one thing.
    """
    by_kind = {
        kind: find_originals(encode(make_copies(pictures, kind, copy_rng(kind, seed))), rows, database)
        for kind in kinds
    }
    return CopyRecall(len(pictures), len(database), by_kind)
