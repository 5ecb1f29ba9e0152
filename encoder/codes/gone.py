"""Which code files are of shards that are gone: what they hold would else stay in every index for ever."""

import os
from collections.abc import Collection
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
    """Others: their folder is missing or empty, too, or disks are mounted in it, so perhaps one is not mounted."""

    def notices(self, gone: str, away: str | None = None) -> list[str]:
        """Return a line for a person about each kind that there is.

        Args:
            gone: what is done with the rows of those that are gone.
            away: what is done with the rows of the others; None: nothing is said of them.
        """
        perhaps = "so are their folders, or disks are mounted there, so perhaps one is not mounted"
        lines = [(self.gone, "gone", gone)] + (
            [] if away is None else [(self.away, "out of reach", f"{perhaps}; {away}")]
        )
        return [f"{_counted(of.values())} {how}: {what}" for of, how, what in lines if of]


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
        (missing.gone if _is_steady(Path(shard).parent) else missing.away)[path] = shard
    return missing


def _is_steady(folder: Path) -> bool:
    """Whether what is missing in a folder was taken out of it: it holds other things, and no disks are mounted there."""
    with suppress(OSError), os.scandir(folder) as entries:
        others = list(entries)
        return bool(others) and not any(Path(each).is_mount() for each in others if each.is_dir(follow_symlinks=False))
    return False


def _counted(shards: Collection[str]) -> str:
    """Return how many shards there are, and the first ones."""
    names = ", ".join(list(shards)[:NAMED]) + (f" and {more:,} more" if (more := len(shards) - NAMED) > 0 else "")
    return f"1 shard, {names}, is" if len(shards) == 1 else f"{len(shards):,} shards, {names}, are"
