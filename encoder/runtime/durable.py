"""The system calls by which files come to be for good: the only place that makes, syncs, renames and removes published data.

Each call is a named step, so that a test can stop or fail every one of them.
"""

import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STEPS: Final = (
    "create",
    "write",
    "flush",
    "fsync",
    "close",
    "mkdir",
    "link",
    "rename",
    "sync-folder",
    "pointer",
    "unlink",
    "rmtree",
)
"""What `on_step` is told of, before it is done."""
BUFFER: Final = 1 << 20
on_step: Callable[[str, Path], None] | None = None
"""Called with each step and its path; tests alone set it."""


def step(name: str, path: Path) -> None:
    """Say that a step is about to be done."""
    if on_step is not None:
        on_step(name, path)


@contextmanager
def create(path: Path) -> Iterator[BinaryIO]:
    """Make a file that is not there yet, through no link; when the block ends, all of it is on the disk.

    What is written goes through a buffer, which goes on after a write that took a part only. When the block raises, the file
    stays as it is, for whoever removes the folder.

    Raises:
        OSError: when it is there, or when the disk refuses.
    """
    step("create", path)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    file = io.BufferedRandom(_Raw(descriptor, path), BUFFER)
    try:
        yield file
        step("flush", path)
        file.flush()
        step("fsync", path)
        os.fsync(descriptor)
        step("close", path)
        file.close()
    except BaseException:
        with suppress(OSError):  # of the flush that a close begins with: the first error is the one that is told
            file.close()
        raise


class _Raw(io.FileIO):
    """An open file whose writes are steps."""

    def __init__(self, descriptor: int, path: Path) -> None:
        super().__init__(descriptor, "r+b")
        self._path = path

    def write(self, data: "ReadableBuffer", /) -> int:
        step("write", self._path)
        return super().write(data)


def sync_file(path: Path) -> None:
    """Force to the disk what others wrote to a file."""
    step("fsync", path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Force a folder's entries (names, renames) to the disk."""
    step("sync-folder", folder)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder that is not there yet; those above it are."""
    step("mkdir", folder)
    folder.mkdir()


def rename(old: Path, new: Path) -> None:
    """Give a file or folder its name, in place of a file that has it."""
    step("rename", new)
    old.replace(new)


def link(old: Path, new: Path) -> None:
    """Let a file have one more name."""
    step("link", new)
    os.link(old, new, follow_symlinks=False)


def remove_file(path: Path) -> None:
    """Remove a file, or a link and not what it leads to; nothing where there is none."""
    step("unlink", path)
    path.unlink(missing_ok=True)


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it."""
    step("rmtree", folder)
    shutil.rmtree(folder)
