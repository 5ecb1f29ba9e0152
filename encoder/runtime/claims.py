"""Claims of a folder where the disk knows no locks: a file per writer, whose name says who writes.

A writer first puts its claim there and then looks for others. Of two writers the later one sees the other's claim.
A claim is not taken over: one of a process that is gone is ignored and removed, and nobody else's bears its name.
"""

import hashlib
import os
import platform
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from encoder.errors import HashgrainError, Reason

CLAIM = ".lock.claim."
"""What the names of claims begin with; process, its start, its machine and the host's name follow, with dots between them."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a folder by a claim.

    Raises:
        HashgrainError: `busy` when there is another claim, of a process that runs or may run.
        OSError: when the claim cannot be written.
    """
    pid = os.getpid()
    own = folder / f"{CLAIM}{pid}.{_start_of(pid)}.{_machine()}.{platform.node()}"
    try:
        os.close(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except FileExistsError:
        raise _busy(own) from None  # another thread's
    try:
        refuse_claims(folder, own)
        yield
    finally:
        with suppress(OSError):  # the work is done; whoever comes next sees that its process is gone
            own.unlink(missing_ok=True)


def refuse_claims(folder: Path, own: Path | None = None) -> None:
    """Remove the claims of processes that are gone.

    Raises:
        HashgrainError: `busy` when there is another than `own`, of a process that runs or may run.
    """
    for claim in folder.glob(f"{CLAIM}*"):
        if claim == own:
            continue
        if not _is_gone(claim):
            raise _busy(claim)
        with suppress(OSError):  # somebody else's, in a folder where only they may remove it
            claim.unlink()


def _busy(claim: Path) -> HashgrainError:
    pid, _, _, host = _parts(claim)
    return HashgrainError(
        Reason.BUSY,
        f"process {pid} on {host} is writing to {claim.parent}, or was killed there; wait for it, or if it no longer runs, "
        f"delete {claim}",
    )


def _parts(claim: Path) -> list[str]:
    """Return process, start, machine and host, `?` for what somebody left out."""
    parts = claim.name.removeprefix(CLAIM).split(".", 3)
    return parts + ["?"] * (4 - len(parts))


def _is_gone(claim: Path) -> bool:
    """Whether the process of a claim is known to run no more: of another machine's, nothing is known."""
    pid, start, machine, _ = _parts(claim)
    if machine != _machine() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)  # asks only whether there is one; /proc may hide those of others
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return start != (_start_of(int(pid)) or start)


def _start_of(pid: int) -> str:
    """Return when a process started, in ticks since the machine did, so that one that has its number later is another; or ""."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]  # field 22 of proc(5)
    except (OSError, IndexError):
        return ""


@cache
def _machine() -> str:
    """Return what tells where numbers of processes mean the same: this start of this machine, and the namespace in it."""
    try:
        named = Path("/proc/sys/kernel/random/boot_id").read_text() + str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        named = str(uuid.getnode())
    return hashlib.sha256(named.encode()).hexdigest()[:16]
