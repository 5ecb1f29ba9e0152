"""Queries and hits as one self-contained HTML page, with the pictures read back from their places."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Literal

from encoder.errors import HashgrainError, Reason
from encoder.images.sidecars import Labels
from encoder.runtime.publish import write_bytes
from indexer.index import Index
from indexer.query import KEY_PREFIX, Hit

STDIN = "-"
"""How the image that came on stdin is called."""
THUMBNAIL = 144
"""Side in pixels of a picture on the page."""


@dataclass(frozen=True, slots=True)
class Section:
    """Answers that belong together, as one level's."""

    title: str
    note: str
    """One line below the title; may be empty."""
    answers: Sequence[Sequence[Hit]]
    """The hits of each query, nearest first."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the caller knows of a query that the index does not."""

    image: bytes | None = None
    """Its file, where it cannot be read again, as from stdin."""
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Picture:
    data: str = ""
    """A data URI; empty where the picture could not be read."""
    why: str = ""
    """Why it could not be."""


@dataclass(frozen=True, slots=True)
class _Chip:
    """One label."""

    text: str
    field: str
    shared: bool
    """Whether the query has it too."""


@dataclass(frozen=True, slots=True)
class _Card:
    """A picture and its words."""

    kind: Literal["query", "all", "some", "none"]
    """The query itself, or a hit by how many of the query's labels it shares."""
    picture: _Picture
    heading: str
    name: str
    chips: list[_Chip]


@dataclass(slots=True)
class _Cards:
    """Makes the cards of a page; a picture that stands in several places is read and shrunk once."""

    index: Index
    known: Mapping[str, Known]
    made: dict[str | int, _Picture] = field(default_factory=dict)

    def answer(self, hits: Sequence[Hit]) -> list[_Card]:
        """Return the card of a query, then those of its hits."""
        query = hits[0].query
        mine = self._query_labels(query)
        own = _Card("query", self._picture(query), "query", _query_name(query), _chips(mine, set()))
        return [own, *(self._hit(hit, mine) for hit in hits)]

    def _hit(self, hit: Hit, mine: Labels) -> _Card:
        shared = {name for name, value in hit.labels.items() if name in mine and mine[name] == value}
        kind: Literal["all", "some", "none"] = "none" if not shared else "all" if len(shared) == len(mine) else "some"
        return _Card(kind, self._picture(hit.row), hit.heading, hit.key, _chips(hit.labels, shared))

    def _picture(self, of: str | int) -> _Picture:
        """Return the picture of a query, by its name, or of a row."""
        if of not in self.made:
            try:
                self.made[of] = _Picture(data=_thumbnail(self._bytes(of)))
            except HashgrainError as err:
                self.made[of] = _Picture(why=str(err))
        return self.made[of]

    def _bytes(self, of: str | int) -> bytes:
        if isinstance(of, int):
            return self.index.image(of)
        if of in self.known and (image := self.known[of].image) is not None:
            return image
        if of.startswith(KEY_PREFIX):
            return self.index.image(self.index.find(of.removeprefix(KEY_PREFIX)))
        from encoder.images.inputs import read_file

        return read_file(Path(of))

    def _query_labels(self, query: str) -> Labels:
        """Return what is known of a query: from the caller, or the labels of its row if it is one."""
        if query in self.known:
            return self.known[query].labels
        if query.startswith(KEY_PREFIX):
            return self.index.labels(self.index.find(query.removeprefix(KEY_PREFIX)))
        return {}


def save_page(
    path: Path,
    index: Index,
    sections: Sequence[Section],
    *,
    title: str,
    summary: str = "",
    known: Mapping[str, Known] | None = None,
) -> None:
    """Write the page: a row a query, its hits to the right, those marked that share labels with it.

    A picture that cannot be read back, since its shard was moved or is damaged, is a placeholder with the reason.

    Args:
        path: HTML file to write; it appears whole or not at all.
        index: the index that answered.
        sections: what to show.
        title: of the page.
        summary: a line below it.
        known: more about queries, by name.

    Raises:
        HashgrainError: `write-failed`.
    """
    from jinja2 import Environment, StrictUndefined

    cards = _Cards(index, known or {})
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files("indexer.page") / "page.html").read_text("utf-8"))
    shown = [(section, [cards.answer(hits) for hits in section.answers if hits]) for section in sections]
    marked = any(card.kind in {"all", "some"} for _, answers in shown for answer in answers for card in answer)
    html = template.render(title=title, summary=summary, size=THUMBNAIL, sections=shown, marked=marked)
    write_bytes(path, html.encode(errors="replace"))  # a file name on a command line need not be UTF-8


def _thumbnail(data: bytes) -> str:
    """Return a data URI; imports Pillow only here, since a query without a page needs none."""
    from PIL import Image

    from encoder.images.decode import RejectedImage, decode_square
    from encoder.images.limits import Limits

    try:
        pixels = decode_square(data, THUMBNAIL, Limits())
    except RejectedImage as err:
        raise HashgrainError(Reason.IMAGE_REJECTED, f"the picture cannot be decoded ({err})") from err
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _query_name(query: str) -> str:
    if query == STDIN:
        return "image from stdin"
    return query.removeprefix(KEY_PREFIX) if query.startswith(KEY_PREFIX) else Path(query).name


def _chips(labels: Labels, shared: set[str]) -> list[_Chip]:
    """Return labels to show, shared ones first.

    A number needs its field beside it to mean anything, and says nothing where its name (`fine_name`) stands there too.
    """
    chips = [
        _Chip(value if isinstance(value, str) else f"{name} {value}", name, name in shared)
        for name, value in labels.items()
        if f"{name}_name" not in labels
    ]
    return sorted(chips, key=lambda chip: not chip.shared)
