"""An archive walked once, front to back: what its members are, whichever format it has."""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple, Protocol

from encoder.errors import Reject


class MemberKind(StrEnum):
    """What a member is to a reader of images."""

    FILE = "file"
    LINK = "link"
    """Symbolic or hard."""
    FOLDER = "folder"
    OTHER = "other"
    """A device, FIFO, sparse file, or anything else whose stored bytes are not a file's."""


class Member(NamedTuple):
    """One entry of an archive."""

    name: str
    """As stored; bytes that are not UTF-8 are surrogate escapes."""
    kind: MemberKind
    offset: int
    """Where an image is read back from: what lies there is the format's own affair."""
    size: int
    """Of its data in bytes."""


class UnreadableMemberError(Exception):
    """The data of a member cannot be had, while the archive goes on behind it."""

    def __init__(self, reject: Reject, detail: str) -> None:
        super().__init__(detail)
        self.reject, self.detail = reject, detail


class ArchiveWalk(Protocol):
    """The members of an archive, and what is wrong with it."""

    damage: str | None
    """What is wrong with the archive and where, None if it is complete; known once the iteration has ended."""

    def __iter__(self) -> Iterator[Member]:
        """Yield the members in archive order."""

    def read(self, member: Member, size: int | None = None, /) -> bytes:
        """Return the next bytes of the member just yielded, all that are left if no size is given.

        They are fewer if the archive ends or breaks inside them.

        Raises:
            UnreadableMemberError: they cannot be had, or are not what was stored.
        """

    def view(self, member: Member, /) -> bytes | memoryview:
        """Return what `read` returns of a whole member, maybe as a view of something larger that stays in memory with it."""
