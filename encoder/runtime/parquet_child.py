"""The process that parses a Parquet file: pyarrow reads what strangers wrote, and may end by it or ask for all memory there is.

`parquet_file.py` starts it by its path, with a socket as its standard input, and reads the file for it. It loads pyarrow alone.
"""

import base64
import io
import json
import os
import resource
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

MEMORY: Final = 8 << 30
"""Bytes of addresses that the process may have, or half the machine's memory where that is less. A page is held packed,
unpacked and as values, each of 2 GiB at most."""
PIECE: Final = 64 << 20
"""Bytes that rows of several take as Python's values, at most; a batch of more comes in pieces."""
ROW: Final = 1 << 30
"""Bytes that a row takes as Python's values, at most."""
VALUE: Final = 32
"""Bytes of a value beside its content: about what Python has for an object and a pointer to it."""
READY, OPEN, ROWS, NEXT, CLOSE, READ, DATA, ANSWER, END, BROKEN = (bytes([at]) for at in range(10))
"""What a frame is. `OPEN`, `ROWS` and `NEXT` get an `ANSWER`, `END` or `BROKEN`, and before it any number of `READ`, each of
which gets `DATA`."""
_HEAD: Final = struct.Struct("<cQ")  # what it is, bytes that follow
_RANGE: Final = struct.Struct("<QQ")  # of a file: offset and bytes


class Channel:
    """Frames through a socket, both ways.

    Args:
        end: of a pair of stream sockets.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def send(self, kind: bytes, data: Any = b"") -> None:
        """Send a frame.

        Raises:
            OSError: the other process has gone.
        """
        data = memoryview(data)
        self._socket.sendall(_HEAD.pack(kind, data.nbytes))
        self._socket.sendall(data)

    def receive(self) -> tuple[bytes, bytearray]:
        """Return what a frame is, and its bytes.

        Raises:
            EOFError: the other process has gone.
            OSError: likewise.
        """
        kind, size = _HEAD.unpack(self._exactly(_HEAD.size))
        if size > 2 * ROW:
            raise EOFError
        return kind, self._exactly(size)

    def close(self) -> None:
        """Let the other process know."""
        self._socket.close()

    def _exactly(self, size: int) -> bytearray:
        data, at = bytearray(size), 0
        with memoryview(data) as view:
            while at < size:
                if not (count := self._socket.recv_into(view[at:])):
                    raise EOFError
                at += count
        return data


def asked_range(data: bytearray) -> tuple[int, int]:
    """Return offset and bytes of a `READ`."""
    offset, size = _RANGE.unpack(data)
    return offset, size


class _Asked(io.RawIOBase):
    """A file that the other process reads."""

    def __init__(self, channel: Channel, size: int) -> None:
        super().__init__()
        self._channel, self._size, self._position = channel, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def read(self, size: int = -1, /) -> bytes | bytearray:
        left = max(0, self._size - self._position)
        size = left if size < 0 else min(size, left)
        self._channel.send(READ, _RANGE.pack(self._position, size))
        _, data = self._channel.receive()
        self._position += len(data)
        return data


def serve(channel: Channel) -> None:
    """Open files and hand out their rows, until nobody asks any more."""
    channel.send(READY)
    parquet: Any = None
    pieces: Iterator[Any] = iter(())
    while True:
        kind, data = channel.receive()
        try:
            if kind == CLOSE:
                parquet, pieces = None, iter(())
                pa.default_memory_pool().release_unused()
                continue
            asked = json.loads(data) if data else {}
            if kind == OPEN:
                parquet = _opened(_Asked(channel, asked["size"]), asked["buffer"])
                channel.send(ANSWER, _facts(parquet))
                continue
            if kind == ROWS:
                pieces = _pieces(parquet, **asked)
            piece = next(pieces, None)
            channel.send(END) if piece is None else channel.send(ANSWER, _message(piece))
        except EOFError:
            raise
        except Exception as err:  # noqa: BLE001  whatever it is, it is of the file
            channel.send(BROKEN, (str(err) or type(err).__name__).encode(errors="replace"))


def _opened(file: io.RawIOBase, buffer: int) -> Any:
    return pq.ParquetFile(
        pa.PythonFile(file, mode="r"),
        buffer_size=buffer,  # otherwise a column of a row group is read whole
        pre_buffer=False,
        page_checksum_verification=True,
    )


def _facts(parquet: Any) -> bytes:
    # nothing is asked of a column's part of the footer: pyarrow ends the process where it contradicts itself
    groups = [parquet.metadata.row_group(group) for group in range(parquet.num_row_groups)]
    schema = parquet.schema_arrow
    facts = {
        "rows": parquet.metadata.num_rows,
        "groups": [(group.num_rows, group.total_byte_size) for group in groups],
        "schema": base64.b64encode(_plain_schema(schema).serialize()).decode(),
    }
    return json.dumps(facts).encode()


def _pieces(parquet: Any, groups: list[int], columns: list[str], count: int) -> Iterator[Any]:
    for batch in parquet.iter_batches(count, row_groups=groups, columns=columns, use_threads=False):
        plain = _plain_schema(batch.schema)
        yield from _split(batch if plain == batch.schema else batch.cast(plain))


def _plain_schema(schema: Any) -> Any:
    return pa.schema([field.with_type(_plain(field.type)) for field in schema], schema.metadata)


def _plain(kind: Any) -> Any:
    """Return a type in which each value has its bytes: a few bytes of others stand for any number of large values."""
    of = pa.types
    if of.is_dictionary(kind):
        return _plain(kind.value_type)
    if of.is_binary_view(kind):
        return pa.large_binary()
    if of.is_string_view(kind):
        return pa.large_string()
    if of.is_struct(kind):
        return pa.struct([each.with_type(_plain(each.type)) for each in kind])
    if of.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if of.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_plain(kind.value_type)))
    return kind


def _split(batch: Any) -> Iterator[Any]:
    nbytes = batch.nbytes + VALUE * sum(map(_values, batch.columns))
    if nbytes <= PIECE or len(batch) == 1:
        if nbytes > ROW:
            raise ValueError(f"a row takes {nbytes:,} bytes, at most {ROW:,} are read")
        yield batch
        return
    half = len(batch) // 2
    yield from _split(batch.slice(0, half))
    yield from _split(batch.slice(half))


def _values(array: Any) -> int:
    """Return the number of values, those inside of lists and structs with them."""
    of, kind = pa.types, array.type
    if of.is_struct(kind):
        return len(array) + sum(map(_values, array.flatten()))
    if of.is_list(kind) or of.is_large_list(kind) or of.is_fixed_size_list(kind):
        return len(array) + _values(array.flatten())
    return len(array)


def _message(batch: Any) -> Any:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def _bound() -> None:
    """Let this process, rather than the one that asks, be what ends where memory does."""
    with suppress(OSError, ValueError):  # not on this system
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        limit = min(MEMORY, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that asks is told, and then this one has nobody to answer
    _bound()
    with suppress(EOFError, OSError):
        serve(Channel(socket.socket(fileno=0)))
