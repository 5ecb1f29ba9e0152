"""Files of a generation brought into memory before they are searched."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

READ: Final = 4 << 20
"""Bytes that are read at once."""


def read_files(generation: Path, files: Mapping[str, tuple[int, str]], most_bytes: int) -> None:
    """Read files, the smallest first, as long as they fit: a search would wait for the disk at each of their pages.

    Args:
        generation: its folder.
        files: size and SHA-256 by path in it.
        most_bytes: of all that are read.
    """
    buffer, left = bytearray(READ), most_bytes
    for name, (size, _) in sorted(files.items(), key=lambda each: each[1][0]):
        if (left := left - size) < 0:
            return
        with (generation / name).open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
