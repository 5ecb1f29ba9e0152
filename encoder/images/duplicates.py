"""Images whose content came before: the same bytes, or a code within a few bits of an earlier one."""

import itertools
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import numpy as np

from encoder.bits import Codes, hamming

AS_ONE_IN: Final = "as one in "
"""Stands before the name of the shard with the earlier image, in the detail of one that is skipped."""
MOST_PART_BITS: Final = 24
"""Of a code, that are looked up at once: 16 million places are enough to keep those who share one few."""


class SeenCodes:
    """Codes so far; finds one within a radius, exactly, without looking at most of them.

    A code is cut into radius + 1 parts. Two codes within the radius agree in at least one of them, so only codes that share a part
    are compared. Source: Norouzi et al., Fast exact search in Hamming space with multi-index hashing, TPAMI 2014. Takes about
    30 bytes per code and part.

    Args:
        nbits: of a code, a multiple of 8.
        radius: in bits, below `nbits`.
    """

    def __init__(self, nbits: int, radius: int) -> None:
        self._radius = radius
        edges = [nbits * part // (radius + 1) for part in range(radius + 2)]
        self._parts = [
            (first, (1 << min(last - first, MOST_PART_BITS)) - 1) for first, last in itertools.pairwise(edges)
        ]
        self._sharing: list[dict[int, array[int]]] = [{} for _ in self._parts]
        self._codes: Codes = np.empty((1024, nbits // 8), dtype=np.uint8)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, code: Codes) -> int | None:
        """Return the number of the first code added within the radius of uint8[nbits / 8], or None."""
        number = int.from_bytes(code.tobytes(), "little")
        near: list[int] = []
        for (shift, mask), sharing in zip(self._parts, self._sharing, strict=True):
            if found := sharing.get((number >> shift) & mask):
                rows = np.frombuffer(found, dtype=np.uint64)
                near += rows[hamming(code[None], self._codes[rows])[0] <= self._radius][:1].tolist()
        return min(near, default=None)

    def add(self, code: Codes) -> None:
        """Add uint8[nbits / 8]."""
        if self._count == len(self._codes):
            self._codes = np.concatenate([self._codes, np.empty_like(self._codes)])
        self._codes[self._count] = code
        number = int.from_bytes(code.tobytes(), "little")
        for (shift, mask), sharing in zip(self._parts, self._sharing, strict=True):
            sharing.setdefault((number >> shift) & mask, array("Q")).append(self._count)
        self._count += 1


@dataclass(slots=True)
class Seen:
    """Contents so far, and the shard that each was in.

    Args:
        codes: of what was seen.
    """

    codes: SeenCodes
    _starts: list[int] = field(default_factory=list)
    _shards: list[str] = field(default_factory=list)

    def in_shard(self, code: Codes, shard: str) -> str | None:
        """Return the shard of an earlier content that is near enough; where there is none, remember this one."""
        if (earlier := self.codes.find(code)) is not None:
            return self._shards[bisect_right(self._starts, earlier) - 1]
        if self._shards[-1:] != [shard]:
            self._starts.append(len(self.codes))
            self._shards.append(shard)
        self.codes.add(code)
        return None

    def add_all(self, codes: Sequence[Codes], shard: str) -> None:
        """Remember the contents of a shard that was done before."""
        for code in codes:
            self.in_shard(code, shard)


DIGEST_BYTES: Final = 16
"""Of an image file's BLAKE2b: two of a hundred million files have the same once in 10^22 collections."""


def digest_of(image: bytes | memoryview) -> bytes:
    """Return what an image file is known again by: DIGEST_BYTES."""
    return blake2b(image, digest_size=DIGEST_BYTES).digest()


def seen_files() -> Seen:
    """Return room for digests of files, as uint8[DIGEST_BYTES]."""
    return Seen(SeenCodes(8 * DIGEST_BYTES, radius=0))
