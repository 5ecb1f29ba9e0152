"""The granularities a picture is coded at; the one home of their names and order."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from encoder.errors import HashgrainError, Reason


class Level(StrEnum):
    """One granularity; each has its own code and its own sub-index."""

    FINE = "fine"
    """Stage 1 of 3: local texture and detail. The same object, print or picture?"""
    MID = "mid"
    """Stage 2 of 3: parts. The same class?"""
    COARSE = "coarse"
    """Stage 3 of 3: global semantics. The same kind of thing?"""
    FUSED = "fused"
    """All three stages together; the default level of a query."""


STAGE_LEVELS = (Level.FINE, Level.MID, Level.COARSE)
"""The level that reads each of the backbone's last three feature stages, in that order."""

DEFAULT_BITS: Mapping[Level, int] = {Level.FINE: 64, Level.MID: 64, Level.COARSE: 64, Level.FUSED: 128}
MAX_BITS = 4096
DEFAULT_LABELS: Mapping[Level, str] = {Level.MID: "fine", Level.COARSE: "coarse"}
"""The JSON field whose value two images of the same kind share, at each level that has such a field."""


def parse_level(text: str) -> Level:
    """Return the level called `text`.

    Raises:
        HashgrainError: `level-unknown`.
    """
    try:
        return Level(str(text).strip())
    except ValueError:
        names = ", ".join(Level)
        raise HashgrainError(Reason.LEVEL_UNKNOWN, f"no level is called {text!r}; the levels are {names}") from None


def level_list(levels: Iterable[Level | str]) -> list[Level]:
    """Return levels given by a program, by name or not.

    Raises:
        HashgrainError: `level-unknown`; `bad-value` for one string, which would be taken letter by letter.
    """
    if isinstance(levels, str):
        raise HashgrainError(
            Reason.BAD_VALUE, f"levels: {levels!r}; expected a list of names, such as ['coarse', 'fine']"
        )
    return [parse_level(level) for level in levels]


def parse_levels(text: str | None) -> tuple[Level, ...] | None:
    """Return the levels of a comma-separated list, in the order of `Level`; None, which is all there are, for None."""
    if text is None:
        return None
    chosen = {parse_level(part) for part in text.split(",")}
    return tuple(level for level in Level if level in chosen)


def parse_bits(text: str | None) -> dict[Level, int]:
    """Return bits per level from `128` (every level) or `fine=64,fused=128` (the others keep their default).

    Raises:
        HashgrainError: `bad-value` for anything that is not a multiple of 8 in 8..4096.
    """
    if text is None:
        return dict(DEFAULT_BITS)
    if "=" not in text:
        return dict.fromkeys(Level, _check_bits(text))
    bits = dict(DEFAULT_BITS)
    for part in text.split(","):
        name, _, value = part.partition("=")
        bits[parse_level(name)] = _check_bits(value)
    return bits


def _check_bits(text: str) -> int:
    if text.strip().isdecimal() and 0 < int(text) <= MAX_BITS and int(text) % 8 == 0:
        return int(text)
    raise HashgrainError(
        Reason.BAD_VALUE,
        f"bits {text!r} is not a number of bits; give a multiple of 8 from 8 to {MAX_BITS}, "
        "for every level (128) or by level (fine=64,fused=128)",
    )
