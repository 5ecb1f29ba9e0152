"""Queries and hits as one self-contained HTML page, with the pictures read back from their places."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from encoder.errors import HashgrainError
from encoder.labels import Labels
from encoder.publish import write_bytes
from indexer.index import Index
from indexer.query import KEY_PREFIX, STDIN, Hit, query_image

THUMBNAIL = 144
"""Side in pixels of a picture on the page."""


@dataclass(frozen=True, slots=True)
class Section:
    """Answers that belong together, as one level's."""

    title: str
    note: str
    answers: Sequence[Sequence[Hit]]
    """The hits of each query, nearest first."""


@dataclass(frozen=True, slots=True)
class _Picture:
    data: str = ""
    """A data URI; empty where the picture could not be read."""
    why: str = ""


@dataclass(slots=True)
class _Pictures:
    """Thumbnails, each made once."""

    index: Index
    given: Mapping[str, bytes]
    made: dict[str | int, _Picture] = field(default_factory=dict)

    def of(self, what: str | int) -> _Picture:
        """Return the picture of a row, or of a query as the user gave it."""
        if what not in self.made:
            try:
                self.made[what] = _Picture(data=_thumbnail(self._bytes(what)))
            except HashgrainError as err:
                self.made[what] = _Picture(why=str(err))
        return self.made[what]

    def _bytes(self, what: str | int) -> bytes:
        if isinstance(what, int):
            return self.index.image(what)
        if what in self.given:
            return self.given[what]
        if what.startswith(KEY_PREFIX):
            return self.index.image(self.index.find(what.removeprefix(KEY_PREFIX)))
        return query_image(what)


def save_page(
    path: Path,
    index: Index,
    sections: Sequence[Section],
    *,
    title: str,
    summary: str = "",
    query_images: Mapping[str, bytes] | None = None,
) -> None:
    """Write the page.

    A picture that cannot be read back, since its shard was moved or is damaged, is a placeholder with the reason.

    Args:
        path: HTML file to write.
        index: the index that answered.
        sections: what to show.
        title: of the page.
        summary: a line below it.
        query_images: bytes of queries that cannot be read again, as from stdin.

    Raises:
        HashgrainError: `write-failed`.
    """
    from jinja2 import Environment

    template = Environment(autoescape=True).from_string((files("indexer") / "page.html").read_text())
    pictures = _Pictures(index, query_images or {})
    html = template.render(
        title=title,
        summary=summary,
        sections=[section for section in sections if any(section.answers)],
        picture=lambda hit: pictures.of(hit.row),
        query_picture=lambda hit: pictures.of(hit.query),
        shared=lambda hit: _shared(_query_labels(index, hit.query), hit.labels),
        name=lambda hit: "image from stdin" if hit.query == STDIN else hit.query.removeprefix(KEY_PREFIX),
        size=THUMBNAIL,
    )
    write_bytes(path, html.encode())


def _thumbnail(data: bytes) -> str:
    """Return a data URI; imports Pillow only here, since a query without a page needs none."""
    from PIL import Image

    from encoder.decode import Limits, RejectedImage, decode_square
    from encoder.errors import Reason

    try:
        pixels = decode_square(data, THUMBNAIL, Limits())
    except RejectedImage as err:
        raise HashgrainError(Reason.IMAGE_REJECTED, f"the picture cannot be decoded ({err})") from err
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _query_labels(index: Index, query: str) -> Labels:
    """Return what is known of a query: the labels of its row, if it is one."""
    return index.labels(index.find(query.removeprefix(KEY_PREFIX))) if query.startswith(KEY_PREFIX) else {}


def _shared(mine: Labels, theirs: Labels) -> list[str]:
    """Return the fields on which two images agree."""
    return [name for name, value in theirs.items() if name in mine and mine[name] == value]
