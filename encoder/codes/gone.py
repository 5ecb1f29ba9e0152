"""Which code files are of shards that are gone: what they hold would else stay in every index for ever."""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from encoder.codes.header import CodeHeader
from encoder.images.shards import ShardKind
from encoder.runtime.files import is_missing, is_url

NAMED = 3
"""Shards that a notice names."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Code files of shards that are not where they were."""

    gone: dict[Path, str]
    """By code file, shards that were deleted or moved: the folder that each stood in holds other things."""
    away: dict[Path, str]
    """Shards whose folder is missing or empty, too: perhaps a disk that is not mounted."""

    def notices(self, gone: str) -> list[str]:
        """Return a line for a person about each kind that there is.

        Args:
            gone: what is done with the rows of those that are gone.
        """
        away = "their folders are missing or empty, too, so perhaps a disk is not mounted; their rows stay"
        lines = ((self.gone, "are gone", gone), (self.away, "are out of reach", away))
        return [f"{len(of):,} shards {how}, {_named(of.values())}: {what}" for of, how, what in lines if of]


def missing_shards(headers: dict[Path, CodeHeader]) -> Missing:
    """Find the code files of shards that are not where they were. A shard at a URL is not asked for.

    Args:
        headers: of code files, each with the path of its shard as it is now.
    """
    missing = Missing({}, {})
    for path, header in headers.items():
        shard = header.shard.path
        if header.shard.kind is ShardKind.NONE or is_url(shard) or not is_missing(shard):
            continue
        (missing.gone if _has_anything(Path(shard).parent) else missing.away)[path] = shard
    return missing


def _has_anything(folder: Path) -> bool:
    with suppress(OSError), os.scandir(folder) as entries:
        return next(entries, None) is not None
    return False


def _named(shards: Iterable[str]) -> str:
    names = list(shards)
    more = f" and {len(names) - NAMED:,} others" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
