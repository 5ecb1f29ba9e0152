"""Files that are either whole or not there: write under a temporary name, make it durable, rename.

Source of the order write, fsync, rename, fsync of the folder: Pillai et al., "All File Systems Are Not Created Equal",
OSDI 2014. A rename is atomic but not durable without the folder's fsync; without the file's own fsync the name can
point at garbage after a power loss.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from encoder.errors import HashgrainError, Reason

PARTIAL = ".hashgrain.partial"
"""Suffix of a file that is being written; one that is left behind by a killed process is swept by the next run, so it is a name
that nobody else gives."""
BLOCK = 1 << 20


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; make it durable under its final name when the block succeeds.

    Raises:
        HashgrainError: `write-failed` when the disk refuses; nothing stands under `path` that did not before.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        yield partial
        sync_file(partial)
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as err:
        raise HashgrainError(
            Reason.WRITE_FAILED,
            f"{path} could not be written ({err.strerror or err}); free space or choose another folder",
        ) from err
    finally:
        with suppress(OSError):  # what kept it from being made
            partial.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Publish `data` as `path`."""
    with publish(path) as partial:
        partial.write_bytes(data)


def sync_file(path: Path) -> None:
    """Force a file's data to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Force a folder's entries (names, renames) to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path, start: int = 0) -> str:
    """Return the hex SHA-256 of a file's bytes from `start` on."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Say that a folder is being read, so that `remove_unused` leaves it; where the disk knows no locks, nothing is said."""
    with ExitStack() as stack:
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield


def remove_unused(folder: Path) -> None:
    """Remove a folder unless somebody reads it; whatever cannot be removed stays, which is not an error."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder for one writing process; make it if needed and sweep what a killed writer left.

    Raises:
        HashgrainError: `busy` when another process holds it, `write-failed` when it cannot be made.
    """
    lock = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as err:
        raise HashgrainError(
            Reason.WRITE_FAILED, f"{folder} is not a folder that can be written to ({err.strerror}); choose another one"
        ) from err
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            raise HashgrainError(
                Reason.BUSY, f"another process is writing to {folder}; wait for it or choose another folder"
            ) from err
        for left in folder.glob(f"*{PARTIAL}"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield
    finally:
        os.close(descriptor)
