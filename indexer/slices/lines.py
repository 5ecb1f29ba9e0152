"""Lines to the processes that hold slices: a socket each, a call and its answer at a time.

Both ends first prove to each other that they know the secret of the run, by the challenge of Python's own
`multiprocessing.connection`; nothing is unpacked of who does not. What goes over a line is as readable on the way as all that Ray
sends.
"""

import os
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any, Final, NamedTuple

from encoder.errors import HashgrainError

HOLD: Final = "hold"
"""The method that asks for a generation to be opened, and for nothing else."""
CONNECT_SECONDS: Final = 2.0
"""For a connection, and for the proof at its beginning."""
MOST_LINES: Final = 256
"""Connections of one listener."""
BACKLOG: Final = 128


class Address(NamedTuple):
    """Where a listener is."""

    host: str
    port: int


class BrokenLineError(Exception):
    """The other end is gone, or does not answer: another one may be asked."""


class FaultError(Exception):
    """The other end raised what is not an error of ours."""


class NotHeldError(FaultError):
    """The other end does not have the generation that it was asked of, and cannot get it."""


class Listener:
    """Answers calls, one thread per line.

    Args:
        host: address of this machine to listen at.
        secret: of the run.
        answer: called with what came; what it raises goes back.
    """

    def __init__(self, host: str, secret: bytes, answer: Callable[..., Any]) -> None:
        self._secret, self._answer = secret, answer
        self._room = threading.BoundedSemaphore(MOST_LINES)
        self._open = set[socket.socket]()
        self._socket = socket.create_server((host, 0), backlog=BACKLOG)
        self.address = Address(host, self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, name="lines", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether calls are taken."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Take no new lines, and cut those that there are."""
        for each in (self._socket, *tuple(self._open)):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while True:
            self._room.acquire()
            try:
                taken, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(taken,), name="line", daemon=True).start()

    def _serve(self, taken: socket.socket) -> None:
        self._open.add(taken)
        try:
            with taken, _line(taken) as line, suppress(OSError, EOFError, AuthenticationError):
                _prove(line, self._secret, first=True)
                while True:
                    called = line.recv()
                    try:
                        answer = (True, self._answer(*called))
                    except (HashgrainError, FaultError) as err:
                        answer = (False, err)
                    except Exception as err:  # noqa: BLE001 - the border: who called gets it
                        answer = (False, FaultError(f"{type(err).__name__}: {err}"))
                    line.send(answer)
        finally:
            self._open.discard(taken)
            self._room.release()


class Line:
    """One connection to a listener, used by one thread at a time.

    Args:
        address: of the listener.
        secret: of the run.

    Raises:
        BrokenLineError: nobody answers there, or somebody who does not know the secret.
    """

    def __init__(self, address: Address, secret: bytes) -> None:
        try:
            with socket.create_connection(address, CONNECT_SECONDS) as connected:
                self._connection = _line(connected)
        except OSError as err:
            raise BrokenLineError(f"{address.host}:{address.port}: {err}") from err
        try:
            _prove(self._connection, secret, first=False)
        except (OSError, EOFError, AuthenticationError) as err:
            self._connection.close()
            raise BrokenLineError(f"{address.host}:{address.port}: {err}") from err

    def send(self, *called: Any) -> None:
        """Call.

        Raises:
            BrokenLineError: the other end is gone.
        """
        try:
            self._connection.send(called)
        except OSError as err:
            raise BrokenLineError(str(err)) from err

    def answered(self, seconds: float) -> bool:
        """Wait for the answer, and say whether there is one, or that there will be none."""
        try:
            return self._connection.poll(seconds)
        except OSError:
            return True

    def receive(self) -> Any:
        """Return the answer.

        Raises:
            BrokenLineError: the other end is gone.
            HashgrainError, FaultError: what the call raised.
        """
        try:
            is_done, answer = self._connection.recv()
        except (OSError, EOFError) as err:
            raise BrokenLineError(str(err) or "the other end is gone") from err
        if not is_done:
            raise answer
        return answer

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def _line(connected: socket.socket) -> Connection:
    """Return a connection over a handle of its own of a socket, which sends at once and does not wait long for a first word."""
    connected.settimeout(None)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # an answer is not to wait for the one before
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    _wait_for(connected, CONNECT_SECONDS)  # who is silent holds no thread
    return Connection(os.dup(connected.fileno()))


def _wait_for(connected: socket.socket, seconds: float) -> None:
    """Let reading take so long; 0: any time."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(seconds), 0))


def _prove(line: Connection, secret: bytes, *, first: bool) -> None:
    """Ask the other end for proof that it knows the secret, and give it ours; one end asks first.

    Raises:
        AuthenticationError: it does not, or takes too long.
    """
    steps = (deliver_challenge, answer_challenge) if first else (answer_challenge, deliver_challenge)
    for step in steps:
        step(line, secret)
    with socket.socket(fileno=os.dup(line.fileno())) as connected:
        _wait_for(connected, 0)
