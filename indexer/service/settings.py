"""What a service may be asked for, how much at once, and how long it waits, in plain data."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from encoder.errors import HashgrainError, Reason

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """How to serve an index. Times are in seconds.

    Raises:
        HashgrainError: `bad-value`.
    """

    host: str = "127.0.0.1"
    port: int = 8360
    """0: any that is free."""
    token: str | None = field(default=None, repr=False)
    """What a request has to know; None: nothing, which takes a loopback address."""
    host_names: tuple[str, ...] = ()
    """Names in the header Host beside those of the address and of loopback."""
    writable: Path | None = None
    """Folder for the shards and code files of images that are added; None: nothing can be changed."""
    max_body: int = 32 << 20
    """Bytes of a picture."""
    max_json: int = 64 << 10
    """Bytes of any other body."""
    max_pixels: int = 50_000_000
    most_hits: int = 10_000
    """k + offset, of all levels side by side, and rows that a rerank or a step of a cascade takes."""
    most_answer: int = 16 << 20
    """Bytes of the answers to the queries of one request."""
    most_where: int = 4096
    """Characters of a filter."""
    most_queries: int = 64
    """Queries in one request."""
    most_examples: int = 100
    """Keys to be more like, and as many to be less like."""
    waiting_quick: int = 512
    waiting_heavy: int = 16
    waiting_batch: int = 16
    waiting_encode: int = 32
    waiting_pictures: int = 256
    waiting_explain: int = 8
    waiting_change: int = 64
    """Each holds an image file in memory."""
    patience: float = 5.0
    """A query that has waited longer is not answered any more: whoever asked has given up."""
    change_patience: float = 20.0
    """The same for a change, which stands behind a run of the encoder."""
    body_seconds: float = 20.0
    """For a whole body."""
    body_rate: int = 16 << 10
    """Bytes per second that a body has to come in after `body_start`."""
    body_start: float = 5.0
    header_bytes: int = 32 << 10
    header_seconds: float = 10.0
    """From the first byte of a request, or of a connection, to the end of its headers."""
    stalled: float = 60.0
    """A response of which the client takes nothing for so long is given up."""
    keep_alive: float = 20.0
    connections: int = 1024
    """Beyond them the one whose client keeps us waiting for longest is closed."""
    held_bytes: int = 34 << 20
    """Of the bodies of all requests that are being received or answered; the oldest unfinished one is given up beyond it."""
    unsent_bytes: int = 16 << 20
    """Of the answers that clients have not taken; who takes nothing for longest is given up beyond it."""
    headers: int = 100
    """Of one request."""
    pipelined: int = 20
    """Requests of one connection that wait for the answer to one before."""
    grace: float = 60.0
    """For how long the former generation answers by row after a newer one took its place."""
    refresh: float = 0.5
    """Between two looks at whether there is a newer generation."""
    warm_bytes: int = 8 << 30
    """Codes that are read once before the service is ready, so that the first query need not."""
    drain: float = 1.0
    """From the signal to stop to the end of listening: whoever distributes requests sees meanwhile that it is not ready."""
    stop_within: float = 15.0
    """For what is under way then."""

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and self.token is None:
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"host {self.host} can be reached from other machines, and nothing guards it; give a token, or host 127.0.0.1",
            )
        if self.token is not None and len(self.token) < 16:
            raise HashgrainError(Reason.BAD_VALUE, "the token has under 16 characters; give one that cannot be guessed")
