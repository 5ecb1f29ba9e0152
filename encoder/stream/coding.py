"""How batches get their codes, which is another way for each kind of device."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, Self

from encoder.images.archives.hash_thread import Hasher
from encoder.levels import Level
from encoder.model.image_encoder import ImageEncoder
from encoder.runtime.telemetry import Telemetry
from encoder.stream.batch import Batch
from encoder.stream.known import KnownCodes
from encoder.stream.settings import EncodeSettings


@dataclass(frozen=True, slots=True)
class Coding:
    """What images are coded by, and how."""

    encoder: ImageEncoder
    levels: tuple[Level, ...]
    settings: EncodeSettings
    telemetry: Telemetry
    """Where the time goes is written down here."""
    known: KnownCodes = field(default_factory=KnownCodes)
    """Codes that earlier runs made."""


class Pipeline(Protocol):
    """Codes batches, for as long as its context lasts; only then its attributes are known."""

    @property
    def batch(self) -> int:
        """Images of a batch."""

    @property
    def batch_bytes(self) -> int:
        """A batch is closed early at this many bytes of image files, so that memory stays bounded for large pictures."""

    @property
    def hasher(self) -> Callable[[], Hasher]:
        """Makes the digest of a shard."""

    @property
    def views(self) -> bool:
        """Whether `Sample.content` may be a view."""

    def __enter__(self) -> Self:
        """Start."""

    def __exit__(self, *_: object) -> None:
        """End, whatever is still under way."""

    def coded(self, batches: Iterable[Batch], /) -> Iterator[Batch]:
        """Yield the batches in order with codes, digests and rejects; they are drawn in the calling thread, some ahead."""
