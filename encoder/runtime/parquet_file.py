"""A Parquet file, read by another process: what a stranger's file does to pyarrow ends that process and not this one.

Batches come as Arrow has them, a piece at a time. Importing this loads pyarrow.
"""

import atexit
import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import pyarrow as pa

from encoder.errors import HashgrainError, Reason
from encoder.runtime import parquet_child as child
from encoder.runtime.parquet_child import Channel

BUFFER: Final = 1 << 20
"""Bytes read at once of each column."""

File: TypeAlias = io.RawIOBase | io.BufferedReader


class ParquetError(ValueError):
    """The file cannot be read: it is broken, takes more memory than is given to it, or ended the process that read it."""


class ParquetFile:
    """An open file; `open_parquet` makes one.

    Args:
        reader: the process that parses it.
        file: whose bytes they are.
        size: of the file, in bytes.
        buffer: bytes read at once of each column.
    """

    def __init__(self, reader: "_Reader", file: File, size: int, buffer: int) -> None:
        self._reader, self._file = reader, file
        self._reading = 0
        facts = json.loads(self._asked(child.OPEN, size=size, buffer=buffer) or b"")
        self.rows: int = facts["rows"]
        """Rows of the file, as its footer has them."""
        self.groups: list[tuple[int, int]] = facts["groups"]
        """Rows and unpacked bytes of each row group, as the footer has them."""
        self.schema: Any = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(facts["schema"])))
        """pyarrow.Schema, of the types in which batches come: those of values where the file has dictionaries or views."""

    def batches(self, count: int, columns: Sequence[str], groups: Sequence[int] | None = None) -> Iterator[Any]:
        """Yield pyarrow.RecordBatch, each of at most so many rows. One call's at a time: another one ends it.

        Args:
            count: rows of a batch.
            columns: by their paths in the schema, of which Parquet has the leaves.
            groups: numbers of row groups; None for all.

        Raises:
            ParquetError: what comes next cannot be read.
            HashgrainError: `shard-missing`, from a URL.
        """
        self._reading += 1
        groups, reading = range(len(self.groups)) if groups is None else groups, self._reading
        piece = self._asked(child.ROWS, groups=list(groups), columns=list(columns), count=count)
        while piece is not None:
            with pa.ipc.open_stream(pa.py_buffer(piece)) as stream:
                yield stream.read_next_batch()
            if reading != self._reading:
                raise RuntimeError("other rows of the file are being read meanwhile")
            piece = self._asked(child.NEXT)

    @property
    def lost(self) -> bool:
        """Whether the process has ended, so that nothing more can be read."""
        return self._reader.ended

    def _asked(self, kind: bytes, **what: Any) -> bytearray | None:
        """Return what was asked for, None at the end."""
        try:
            self._reader.send(kind, json.dumps(what).encode() if what else b"")
            answer, data = self._answer()
        except BaseException:
            self._reader.end()  # it may be in the middle of a sentence
            raise
        if answer == child.BROKEN:
            raise ParquetError(data.decode())
        return None if answer == child.END else data

    def _answer(self) -> tuple[bytes, bytearray]:
        while True:
            answer, data = self._reader.receive()
            if answer != child.READ:
                return answer, data
            self._reader.send(child.DATA, self._read(*child.asked_range(data)))

    def _read(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        data = self._file.read(size) or b""
        while len(data) < size and (more := self._file.read(size - len(data))):
            data += more
        return data


@contextmanager
def open_parquet(file: File, size: int, buffer: int = BUFFER) -> Iterator[ParquetFile]:
    """Open a file for as long as it is read, by a process of its own meanwhile.

    Args:
        file: which can seek.
        size: of it, in bytes.
        buffer: bytes read at once of each column.

    Raises:
        ParquetError: it is not Parquet, or its footer is broken.
        HashgrainError: `no-resources` where no process can be started.
    """
    reader = _Reader.taken()
    try:
        yield ParquetFile(reader, file, size, buffer)
    finally:
        reader.give_back()


class _Reader:
    """A process that parses files, one after another."""

    idle: Final[list["_Reader"]] = []
    """Processes to go on with: starting one takes 0.2 s."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # by its path: it is the one beside this file, wherever packages are looked for
            command = [sys.executable, "-P", str(Path(child.__file__))]
            try:
                self.process = subprocess.Popen(  # noqa: S603  the interpreter that runs this
                    command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            except BaseException:
                ours.close()
                raise
        self._channel: Channel | None = Channel(ours)
        self._owner = os.getpid()

    @classmethod
    def taken(cls) -> "_Reader":
        """Return a process that waits for a file."""
        while cls.idle:
            reader = cls.idle.pop()
            if reader._owner == os.getpid() and reader.process.poll() is None:
                return reader
            reader.end()
        try:
            reader = cls()
            reader.receive()
        except (OSError, ParquetError) as err:
            raise HashgrainError(
                Reason.NO_RESOURCES,
                f"the process that reads Parquet did not start ({err}); end other work, or raise the system's limit",
            ) from err
        return reader

    def give_back(self) -> None:
        """Keep the process for the next file, one of them at most."""
        if self.ended or self.idle:
            self.end()
            return
        try:
            self.send(child.CLOSE)
            self.idle.append(self)
        except ParquetError:
            pass  # it has just ended
        except BaseException:
            self.end()
            raise

    @property
    def ended(self) -> bool:
        """Whether there is nobody to ask."""
        return self._channel is None

    def end(self) -> None:
        """End the process."""
        if self._channel is None:
            return
        if self._owner == os.getpid():
            self._died()
        else:  # that of the process that this one was forked from
            self._channel.close()
            self._channel = None

    def send(self, kind: bytes, data: bytes = b"") -> None:
        """Send a frame.

        Raises:
            ParquetError: the process has ended.
        """
        try:
            self._open().send(kind, data)
        except OSError as err:
            raise self._died() from err

    def receive(self) -> tuple[bytes, bytearray]:
        """Return a frame.

        Raises:
            ParquetError: the process has ended.
        """
        try:
            return self._open().receive()
        except (OSError, EOFError) as err:
            raise self._died() from err

    def _open(self) -> Channel:
        if self._channel is None:
            raise self._died()
        return self._channel

    def _died(self) -> ParquetError:
        """Say what ended the process, which is waited for."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self.process.kill()  # where it has not ended, as it is about to
        code = self.process.wait()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return ParquetError(f"the process that read it ended {how}")


@atexit.register
def _end_idle() -> None:
    while _Reader.idle:
        _Reader.idle.pop().end()
