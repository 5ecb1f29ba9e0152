"""Kits: the kernels that the scan needs for a kind of search, by name. Knows nothing of how they are made."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What is searched."""

    FLAT = "flat"
    LISTS = "lists"
    SUMS = "sums"


@dataclass(frozen=True, slots=True)
class Kit:
    """The kernels of a kind of search."""

    kind: Kind
    words: int
    """Words of 64 bits that a code is padded to; 0 for sums, whose kernels take any."""

    @classmethod
    def of(cls, kind: Kind, code_size: int) -> "Kit":
        """Return the kit for codes of so many bytes."""
        return cls(kind, 0 if kind is Kind.SUMS else padded_words(code_size))

    def __str__(self) -> str:
        return f"{self.kind}:{self.words}"


def padded_words(code_size: int) -> int:
    """Return the power of two of words that a code is padded to: few kernels serve all code sizes."""
    return 1 << ((code_size + 7) // 8 - 1).bit_length()
