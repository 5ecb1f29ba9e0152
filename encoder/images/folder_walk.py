"""A folder walked: every file below it, each real folder once, links to folders followed, and a word on what could not be read."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from encoder.images.names import NameKind, kind_of_name, skipped_as
from encoder.images.signature import HEAD_BYTES, image_format

SYSTEM_FOLDERS = frozenset({"lost+found", "$RECYCLE.BIN", "System Volume Information"})


@dataclass(slots=True)
class Walk:
    """What is below a folder."""

    files: list[str] = field(default_factory=list)
    """Relative to the folder, POSIX style, sorted; broken links and devices are among them."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Folders that were not looked into, by kind."""
    unread: dict[str, str] = field(default_factory=dict)
    """Why a folder could not be read, by path."""


def walk(root: Path) -> Walk:
    """List the files below a folder.

    A link to a folder is followed, after the folders that lie here themselves, unless the folder it leads to has been read: so a
    link to a parent ends nothing and repeats nothing.
    """
    found = Walk()
    seen: set[tuple[int, int]] = set()
    folders, links = [""], list[str]()
    while folders or links:
        inside = folders.pop() if folders else links.pop(0)
        path = Path(root, inside)
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in seen:
                found.skipped["link to a folder that is read already"] += 1
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    name = f"{inside}/{entry.name}" if inside else entry.name
                    if not entry.is_dir():
                        found.files.append(name)
                    elif entry.name in SYSTEM_FOLDERS or kind_of_name(entry.name) is NameKind.SYSTEM:
                        found.skipped["system folder"] += 1
                    else:
                        (links if entry.is_symlink() else folders).append(name)
        except OSError as err:
            found.unread[str(path)] = err.strerror or str(err)
    found.files.sort()
    return found


def is_image(root: Path, name: str) -> bool:
    """Whether a file is an image by its name or, where that says nothing, by its first bytes."""
    kind = kind_of_name(name)
    return kind is NameKind.IMAGE or (kind is NameKind.UNKNOWN and image_format(head_of(root / name)) is not None)


def head_of(path: Path) -> bytes:
    """Return the first bytes of a regular file, none of anything else or where it cannot be read."""
    try:
        if not path.is_file():  # a FIFO would be waited for without end
            return b""
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except (OSError, ValueError):
        return b""


def left_out(names: Iterable[str]) -> Counter[str]:
    """Count files that are neither images nor the labels of one, by kind."""
    return Counter(
        skipped_as(name) + (" without an image" if kind_of_name(name) is NameKind.LABELS else "") for name in names
    )
