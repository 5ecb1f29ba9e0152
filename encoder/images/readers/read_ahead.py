"""Small files read ahead by another process: who reads them here waits for a turn of the interpreter after each of four calls."""

import fcntl
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Final, TypeAlias, cast

from encoder.images.readers import read_whole
from encoder.images.readers.read_whole import ANSWER, LENGTH, NOT_A_FILE, TOO_LARGE, NotAFileError

SMALL: Final = 32 << 10
"""Bytes of a file that is read ahead, at most: a larger one costs more to hand on than its turns do."""
BLOCK: Final = 128
"""Files that are asked for at once; two blocks are under way, so that files of at most 8 MiB wait."""
PIPE: Final = 1 << 20
"""Bytes that a pipe holds, more than the paths of two blocks: neither process waits for the other to read first."""

F_SETPIPE_SZ: Final = 1031
"""Source: linux/fcntl.h; no other system knows it, and there nothing is read ahead."""

Found: TypeAlias = bytes | OSError | NotAFileError | None
"""What came of a path: the bytes of the file, why they are not to be had, or None where nobody has looked."""


def read_ahead(paths: Iterable[str]) -> Iterator[Found]:
    """Yield what came of each path; None for large files, and for all from where they are mostly large or the process has ended."""
    left = iter(paths)
    with suppress(OSError), _started() as (asked, answered):
        yield from _answers(asked, answered, left)
    for _ in left:
        yield None


@contextmanager
def _started() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Start the process, and end it; its ends of pipes are what is yielded.

    Raises:
        OSError: there is none to be had, or its pipes would be small.
    """
    # without what it does not need: it starts in 15 ms
    command = [sys.executable, "-S", "-E", "-s", "-P", str(Path(read_whole.__file__)), str(SMALL)]
    with subprocess.Popen(  # noqa: S603  the interpreter that runs this
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        asked, answered = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        try:
            for pipe in (asked, answered):
                fcntl.fcntl(pipe, F_SETPIPE_SZ, PIPE)
            yield asked, answered
        finally:
            process.kill()
            with suppress(OSError):  # it may have ended before it took everything
                asked.close()


def _answers(asked: IO[bytes], answered: IO[bytes], left: Iterator[str]) -> Iterator[Found]:
    """Yield answers as long as there are such, and None for the other paths that were asked for."""
    under_way: deque[int] = deque()
    useful = _ask(asked, left, under_way) and _ask(asked, left, under_way)
    while under_way:
        count = under_way.popleft()
        block = _block(answered) if useful else b""
        if not block:
            yield from [None] * count
            useful = False
            continue
        found = list(_parsed(block, count))
        useful = 2 * found.count(None) <= count and _ask(asked, left, under_way)
        yield from found


def _ask(asked: IO[bytes], left: Iterator[str], under_way: "deque[int]") -> bool:
    """Ask for the next block, and tell whether the process takes it; none is left at the end."""
    block = list(islice(left, BLOCK))
    if not block:
        return True
    under_way.append(len(block))
    # no file has a null character in its name, and none is called nothing
    data = b"".join(os.fsencode("" if "\0" in path else path) + b"\0" for path in block)
    try:
        asked.write(LENGTH.pack(len(data)) + data)
        asked.flush()
    except OSError:
        return False
    return True


def _block(answered: IO[bytes]) -> bytes:
    """Return a block of answers; empty where the process has ended."""
    head = answered.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return b""
    (size,) = LENGTH.unpack(head)
    block = answered.read(size)
    return block if len(block) == size else b""


def _parsed(block: bytes, count: int) -> Iterator[Found]:
    at = 0
    for _ in range(count):
        kind, size = ANSWER.unpack_from(block, at)
        at += ANSWER.size
        if kind == 0:
            yield block[at : at + size]
            at += size
        elif kind == TOO_LARGE:
            yield None
        else:
            yield NotAFileError() if kind == NOT_A_FILE else OSError(kind, os.strerror(kind))
