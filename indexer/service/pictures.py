"""The picture of a row as a browser may have it: the bytes of its file, named for what they are, and nothing that runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from encoder.errors import HashgrainError, Reason, Reject
from encoder.images.signature import HEAD_BYTES, image_format
from indexer.opened import Opened

MEDIA_TYPES: Final[Mapping[str, str]] = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "GIF": "image/gif",
    "HEIF": "image/heic",
    "AVIF": "image/avif",
    "JXL": "image/jxl",
}
"""By the names of `signature.DECODED`. Source: the registry of media types at IANA."""
SAFE: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
}
"""Headers of bytes that strangers made: whatever they are, they are shown as a picture or not at all."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Bytes that a browser shows."""

    data: bytes
    media_type: str


def original(snapshot: Opened, row: int) -> Picture:
    """Read the picture of a row.

    Raises:
        HashgrainError: `key-unknown` for a row that is not there or was removed; `not-allowed`, `shard-missing`, `shard-damaged`
            where it cannot be read; `image-rejected` where the shard holds something else now.
    """
    check_row(snapshot, row)
    data = snapshot.image(row)
    kind = image_format(data[:HEAD_BYTES]) or "no image"
    if kind not in MEDIA_TYPES:
        raise HashgrainError(
            Reason.IMAGE_REJECTED,
            f"the picture of row {row} is not shown ({Reject.UNKNOWN_FORMAT}: {kind}); "
            f"expected {', '.join(MEDIA_TYPES)}",
        )
    return Picture(data, MEDIA_TYPES[kind])


def check_row(snapshot: Opened, row: int) -> None:
    """Raise `key-unknown` for a row that is not there, or was removed."""
    if not snapshot.is_live(row):
        raise HashgrainError(
            Reason.KEY_UNKNOWN,
            f"row {row} is not among the {snapshot.manifest.live:,} of generation {snapshot.generation}; take rows from an answer",
        )
