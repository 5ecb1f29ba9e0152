"""What was done to an index, the way back to an earlier generation, and old generations that go."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from encoder.errors import HashgrainError, Reason
from encoder.runtime.publish import exclusive
from indexer.settings import KEEP, whole
from indexer.storage import generation
from indexer.storage.current import check_sizes, generations, name_of, number_of, read_current, read_manifest
from indexer.storage.generation import next_generation
from indexer.storage.manifest import Change

UPKEEP: Final = frozenset({"compact", "measure"})
"""Changes after which an index holds and answers what it did before."""
_GENERATION: Final = re.compile(r"(?:gen-)?([0-9]{1,18})|(-[0-9]{1,18})", re.ASCII)


def history(index: Path) -> list[tuple[Change, bool]]:
    """Return what was done to an index, oldest first, and whether the generation that each change made is still on the disk.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`.
    """
    _, manifest = read_current(index)
    there = {folder.name for folder in generations(index)}
    return [(change, change.generation in there) for change in manifest.history]


def rollback(index: Path, to: int | str, keep: int = KEEP) -> Change:
    """Take up an earlier generation again, as a new one: nothing that was done since is lost until it is removed from the disk.

    Args:
        index: folder of the index.
        to: number of the generation, or its name (`gen-000003`); -1: as the index was before the last change, -2: before the last
            two. Joining segments and measuring lists change no row: they belong to the change that they followed.
        keep: generations that stay on the disk, the new one included.

    Returns:
        The change that the new generation is.

    Raises:
        HashgrainError: `bad-value`, `generation-missing`, `index-missing`, `index-damaged`, `busy`, `write-failed`.
    """
    number = _number(to)
    read_current(index)  # where there is none, no folder is made
    with exclusive(index):
        current, manifest = read_current(index)
        folder = index / _named(index, number, current.name, manifest.history)
        earlier = read_manifest(folder)
        check_sizes(folder, earlier.files)
        added, removed = max(0, earlier.live - manifest.live), max(0, manifest.live - earlier.live)
        with next_generation(index, (folder, earlier)) as new:
            published = new.publish(
                replace(earlier, history=manifest.history),
                "rollback",
                added=added,
                removed=removed,
                of=folder.name,
                keep=keep,
            )
    return published.history[-1]


def gc(index: Path, keep: int) -> list[str]:
    """Remove all generations but the newest ones; those that somebody reads stay until another time.

    Args:
        index: folder of the index.
        keep: how many stay, the current one included; at least 1.

    Returns:
        The names of those that are gone.

    Raises:
        HashgrainError: `bad-value`, `busy`, `index-missing`, `index-damaged`.
    """
    keep = whole("keep", keep, 1)
    read_current(index)
    with exclusive(index):
        return generation.gc(index, keep)


def _number(to: int | str) -> int:
    """Read a number, or the name of a generation as the history shows it."""
    if (digits := _GENERATION.fullmatch(str(to))) is None:
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"a generation is called {str(to)[:40]!r}; expected its number or name (3, gen-000003), or -1 to undo a change",
        )
    return int(digits[1] or digits[2])


def _named(index: Path, to: int, current: str, changes: Sequence[Change]) -> str:
    """Return the name of the generation that is meant, which is on the disk and not the current one."""
    there = sorted((folder.name for folder in generations(index)), key=number_of)
    earlier = [name for name in there if number_of(name) < number_of(current)]
    name: str | None = name_of(to)
    if to < 0:
        upkeep = {change.generation for change in changes if change.what in UPKEEP}
        states = list[list[str]]()
        for each in sorted({*earlier, *(change.generation for change in changes), current}, key=number_of):
            if each not in upkeep or not states:
                states.append([])
            states[-1].append(each)
        meant = states[to - 1] if len(states) > -to else []
        name = next((each for each in reversed(meant) if each in earlier), None)
    if name not in earlier:
        raise HashgrainError(
            Reason.GENERATION_MISSING,
            f"{index} has no generation {to} before the current one, {current}, on the disk; it has "
            f"{', '.join(earlier) or 'none'}",
        )
    return name
