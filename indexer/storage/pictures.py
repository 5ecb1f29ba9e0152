"""The pictures of an index: read back from the shards that it names, from where they may be read, and no more than was recorded."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from encoder.errors import HashgrainError, Reason
from encoder.images.limits import Limits
from encoder.images.readers.formats import read_image
from encoder.images.roots import Roots, is_remembered
from encoder.images.shards import found_from
from encoder.runtime.files import is_url
from indexer.storage.manifest import ShardSpan

PATIENCE: Final = 60.0
"""Seconds that a picture at a URL may take: a server may be silent, or send a byte at a time."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one picture is; equal places hold one picture, whatever row names them."""

    span: ShardSpan
    """Its shard."""
    member: str
    """Its key, without the shard's prefix."""
    offset: int
    """First number of its place."""
    size: int
    """Second one, its bytes."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Where the pictures of one generation are, without the generation: it can be handed to another process."""

    index: Path
    digest: str
    """SHA-256 of the manifest, by which the user who made it is known."""
    said: Limits
    """What an image may be, by the manifest."""
    roots: Roots | None
    """Places that the user named; None: those of the shards, where this user built the index."""
    limits: Limits | None
    """What an image may be, by the user."""

    def read(self, place: Place) -> bytes:
        """Read an image file back.

        Raises:
            HashgrainError: `not-allowed`, or `shard-missing`, `shard-damaged` when it is no longer there.
        """
        own = is_remembered(self.digest)
        roots = (self.roots or Roots()) if self.roots is not None or not own else Roots(own=True)
        limits = self.limits or (self.said if own else Limits(min(self.said.max_bytes, Limits().max_bytes)))
        if place.size > limits.max_bytes:
            raise HashgrainError(
                Reason.SHARD_DAMAGED,
                f"{place.member!r} was not read: {self.index} says that it has {place.size:,} bytes, the limit is "
                f"{limits.max_bytes:,}; raise the limit if you trust the index",
            )
        path = found_from(self.index, place.span.path, place.span.relative)
        read = partial(read_image, place.span.kind, path, place.member, place.offset, place.size, roots)
        return _in_time(path, read) if is_url(path) else read()


def _in_time(path: str, read: Callable[[], bytes]) -> bytes:
    """Read an image at a URL, but do not wait for it for ever; drivers have no common word for that."""
    answer: list[bytes | BaseException] = []

    def attempt() -> None:
        try:
            answer.append(read())
        except BaseException as err:  # noqa: BLE001  it is raised where it is waited for
            answer.append(err)

    reader = threading.Thread(target=attempt, daemon=True)
    reader.start()
    reader.join(PATIENCE)
    if not answer:
        raise HashgrainError(
            Reason.SHARD_MISSING, f"{path} did not answer within {PATIENCE:.0f} s; check the server, or try again"
        )
    if isinstance(answer[0], BaseException):
        raise answer[0]
    return answer[0]


def manifest_digest(pointer: bytes) -> str:
    """Return the SHA-256 of the manifest that a pointer names."""
    return str(json.loads(pointer)["manifest_sha256"])
