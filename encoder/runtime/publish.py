"""Files that are either whole or not there: write under a temporary name, make it durable, rename.

Source of the order write, fsync, rename, fsync of the folder: Pillai et al., "All File Systems Are Not Created Equal",
OSDI 2014. A rename is atomic but not durable without the folder's fsync; without the file's own fsync the name can
point at garbage after a power loss.
"""

import errno
import fcntl
import hashlib
import os
import platform
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from encoder.errors import HashgrainError, Reason, why
from encoder.runtime import durable
from encoder.runtime.claims import claimed, refuse_claims
from encoder.runtime.files import open_regular

PARTIAL = ".hashgrain.partial"
"""Suffix of a file that is being written; one that is left behind by a killed process is swept by the next run, so it is a name
that nobody else gives."""
BLOCK = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; make it durable under its final name when the block succeeds.

    Raises:
        HashgrainError: `write-failed` when the disk refuses; nothing stands under `path` that did not before.
    """
    partial = _partial(path)
    try:
        durable.remove_file(partial)  # of a writer that was killed
        yield partial
        durable.sync_file(partial)
        durable.rename(partial, path)
        durable.sync_folder(path.parent)
    except OSError as err:
        raise write_failed(path, err) from err
    finally:
        with suppress(OSError):  # what kept it from being made
            durable.remove_file(partial)


def check_place(path: Path) -> None:
    """Raise now what `publish` would raise, when the work is done, of a place where no file can be made."""
    partial = _partial(path)
    try:
        partial.touch()
        partial.unlink(missing_ok=True)
    except OSError as err:
        raise write_failed(path, err) from err


def _partial(path: Path) -> Path:
    if "\0" in str(path):
        raise HashgrainError(Reason.WRITE_FAILED, f"{str(path)!r} is not the name of a file; choose another")
    if _is_special(path):
        raise HashgrainError(
            Reason.WRITE_FAILED,
            f"{path} is a device or a pipe, which a file would take the place of; choose another name",
        )
    return path.with_name(path.name + PARTIAL)


def _is_special(path: Path) -> bool:
    """Whether a name leads to what is neither a file nor a folder; whoever may write to `/dev` would else lose `/dev/null`."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def write_failed(what: Path | str, err: OSError) -> HashgrainError:
    """Return the error of a file or folder that the system would not take."""
    remedy = "free space or choose another folder" if err.errno in _FULL else "choose another folder"
    return HashgrainError(Reason.WRITE_FAILED, f"{what} could not be written ({why(err)}); {remedy}")


def write_bytes(path: Path, data: bytes) -> None:
    """Publish `data` as `path`."""
    with publish(path) as partial, durable.create(partial) as file:
        file.write(data)


def sha256_of(path: Path, start: int = 0) -> str:
    """Return the hex SHA-256 of a file's bytes from `start` on."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
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
            stack.callback(_close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield


def remove_unused(folder: Path) -> bool:
    """Remove a folder unless somebody reads it, and say whether it is gone; that it cannot be removed is not an error.

    It first loses its name, so that a folder with holes never stands under it.
    """
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            going = folder.with_name(folder.name + PARTIAL)
            durable.rename(folder, going)
            with suppress(OSError):  # the next writer sweeps it
                durable.remove_tree(going)
            return True
        finally:
            _close(descriptor)
    return False


def _close(descriptor: int) -> None:
    """Close what was opened for its lock alone: it is closed also where the disk says that this failed."""
    with suppress(OSError):
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, where it is not there.

    Raises:
        HashgrainError: `write-failed` when it cannot be made, or is not a folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as err:  # ValueError: a null character in the name
        raise _no_folder(folder, err) from err


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder for one writing process; make it if needed and sweep what a killed writer left.

    Raises:
        HashgrainError: `busy` when another process holds it, `write-failed` when it cannot be made or written to.
    """
    make_folder(folder)
    with ExitStack() as stack:
        try:
            descriptor = _open_lock(folder)
            stack.callback(_close, descriptor)
            if _is_locked(folder, descriptor):
                refuse_claims(folder)
                stack.enter_context(_named(descriptor))
            else:
                stack.enter_context(claimed(folder))
            sweep(folder)
        except OSError as err:
            raise _no_folder(folder, err) from err
        yield


def _no_folder(folder: Path, err: OSError | ValueError) -> HashgrainError:
    what = f": {err.filename}" if isinstance(err, OSError) and str(err.filename) not in {"None", str(folder)} else ""
    return HashgrainError(
        Reason.WRITE_FAILED,
        f"{folder} is not a folder that can be written to ({why(err)}{what}); choose another one",
    )


def _open_lock(folder: Path) -> int:
    """Open a folder's lock file, made if need be so that whoever may write to the folder may lock it."""
    lock, mode = folder / ".lock", folder.stat().st_mode
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # now, not when the first file is done
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        try:
            return os.open(lock, os.O_RDWR)
        except PermissionError:
            return os.open(lock, os.O_RDONLY)  # nearly every disk locks that, too
    with suppress(OSError):  # a disk without modes
        os.fchmod(descriptor, mode & 0o666 | 0o600)
    return descriptor


@contextmanager
def _named(descriptor: int) -> Iterator[None]:
    """Say in a lock file who has locked it, where it can be written to: only for whoever is refused, the lock is what counts."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}".encode(), 0)
    try:
        yield
    finally:
        with suppress(OSError):
            os.ftruncate(descriptor, 0)


def _owner(descriptor: int) -> str:
    """Return what a lock file says of whoever has locked it."""
    with suppress(OSError):
        said = os.pread(descriptor, 200, 0).decode(errors="replace")
        if re.fullmatch(r"process \d+ on [\w.-]+", said):
            return said
    return "another process"


def _is_locked(folder: Path, descriptor: int) -> bool:
    """Lock a folder's lock file, and say whether that was possible: not every disk can.

    Raises:
        HashgrainError: `busy` when another process has locked it.
    """
    for kind in (
        fcntl.LOCK_EX,
        fcntl.LOCK_SH,
    ):  # NFS gives the second also to whom may only read; it keeps the first away
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except OSError as err:
            if err.errno in {errno.EAGAIN, errno.EACCES}:
                raise HashgrainError(
                    Reason.BUSY, f"{_owner(descriptor)} is writing to {folder}; wait for it or choose another folder"
                ) from err
        else:
            return kind == fcntl.LOCK_EX
    return False


def sweep(folder: Path) -> None:
    """Remove what a killed writer left in a folder; the caller is its only writer."""
    for left in folder.glob(f"*{PARTIAL}"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
