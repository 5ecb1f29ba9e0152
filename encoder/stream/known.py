"""Codes of images that were coded before, found by the digests of their bytes: what is unchanged is not coded again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.codes.file import open_codes
from encoder.errors import HashgrainError
from encoder.images.duplicates import DIGEST_BYTES
from encoder.levels import Level


class KnownCodes:
    """The codes of code files that are to be replaced. Takes about 24 bytes per row beside its codes.

    Args:
        paths: code files, proven whole, of one model and with all the levels.
        bits: the levels to take over, and the bits of each.
    """

    def __init__(self, paths: Sequence[Path] = (), bits: Mapping[Level, int] = MappingProxyType({})) -> None:
        digests = [np.empty((0, DIGEST_BYTES), np.uint8)]
        codes = {level: [np.empty((0, nbits // 8), np.uint8)] for level, nbits in bits.items()}
        for path in paths:
            try:
                with open_codes(path, proven=True) as file:
                    if (of_file := file.digests()) is not None:
                        parts = {level: file.codes(level) for level in bits}
                        digests.append(of_file)
                        for level, part in parts.items():
                            codes[level].append(part)
            except HashgrainError:
                continue  # gone or replaced meanwhile: its images are coded again
        self._digests = np.concatenate(digests)
        self._codes: dict[Level, Codes] = {level: np.concatenate(parts) for level, parts in codes.items()}
        heads = _heads(self._digests)
        self._order = np.argsort(heads, kind="stable")
        self._heads = heads[self._order]

    def find(self, digests: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """Return int64[n], the number of the code of each image, -1 where it is not known."""
        wanted = np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), DIGEST_BYTES)
        if not len(self._order):
            return np.full(len(wanted), -1)
        at = np.minimum(np.searchsorted(self._heads, _heads(wanted)), len(self._order) - 1)
        numbers = self._order[at]
        return np.where((self._digests[numbers] == wanted).all(axis=1), numbers, -1)

    def codes(self, level: Level, numbers: npt.NDArray[np.int64]) -> Codes:
        """Return uint8[n, nbits / 8], the codes of int64[n] at a level."""
        return self._codes[level][numbers]


def _heads(digests: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Return uint64[n], the first 8 bytes of each digest."""
    return np.ascontiguousarray(digests[:, :8]).view(np.uint64)[:, 0]
