"""Queries and hits as one self-contained HTML page, with the pictures read back from their places."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from encoder.errors import HashgrainError
from encoder.images.labels.values import Labels
from encoder.images.limits import Limits
from encoder.images.region import Region, RegionMode
from encoder.levels import Level
from indexer.index import Index
from indexer.page.labels import compared_fields, query_labels, shared_fields, texts
from indexer.page.templates import page_template, write_page
from indexer.query import Asked, ByExamples, ByImage, ByKey, Hit, name_of
from indexer.settings import Combine

if TYPE_CHECKING:
    from encoder.images.inputs import ImageLike

THUMBNAIL = 144
"""Side in pixels of a picture on the page; it is shown smaller, for screens of more than one pixel per point."""
WIDE, NARROW = 10, 4
"""Most hits in a row, on a desktop and on a phone."""

NOTES: Mapping[str, str] = {
    Level.FINE: "local texture and detail: the same object, print or picture?",
    Level.MID: "parts: the same class?",
    Level.COARSE: "global semantics: the same kind of thing?",
    Level.FUSED: "all three together, the default",
}
"""What an answer of that title is about."""

SCORES: Mapping[str, str] = {
    "rerank": "asymmetric distance, how sure the query is of the bits that differ; smaller is nearer",
    "examples": "weighted distance to the examples, as a share of the largest there can be; smaller is nearer",
    Combine.SUM: "weighted mean of the distances, each as a share of its bits; smaller is nearer",
    Combine.RRF: "reciprocal rank fusion of the levels; larger is nearer",
}
"""What `Hit.score` is, by what it was made by."""


@dataclass(frozen=True, slots=True)
class Result:
    """One query and its answers."""

    query: Asked
    answers: Mapping[str, Sequence[Hit]]
    """Hits, nearest first, by the title of the answer, such as its level."""
    labels: Labels | None = None
    """None: those of its row, or of the sidecar or folder of its file."""


@dataclass(frozen=True, slots=True)
class SmallPicture:
    """A square thumbnail as a page holds it."""

    data: str = ""
    """A data URI; empty where the picture could not be read."""
    why: str = ""
    """Why it could not be."""


@dataclass(frozen=True, slots=True)
class _Label:
    field: str
    text: str
    shared: bool
    """Whether the query has it too."""


@dataclass(frozen=True, slots=True)
class _Card:
    """A picture and its words."""

    kind: Literal["query", "all", "some", "none"]
    """The query itself, or a hit by how many of the query's labels it shares."""
    picture: SmallPicture
    heading: str
    details: Mapping[Level, int]
    """Distances in bits that the heading does not say, by level."""
    name: str
    labels: list[_Label]


@dataclass(frozen=True, slots=True)
class _Answer:
    title: str
    hits: list[_Card]

    @property
    def wide(self) -> int:
        """Hits in each row of a desktop."""
        return _even(len(self.hits), WIDE)

    @property
    def narrow(self) -> int:
        """Hits in each row of a phone."""
        return _even(len(self.hits), NARROW)


@dataclass(frozen=True, slots=True)
class _Block:
    """A query beside its answers."""

    query: _Card
    answers: list[_Answer]


@dataclass(slots=True)
class _Cards:
    """Makes the cards of a page; a picture that stands in several places is read and shrunk once."""

    index: Index
    fields: Sequence[str]
    """Label fields that are compared."""
    made: dict[int, SmallPicture] = field(default_factory=dict)
    """By row."""

    def block(self, result: Result, labels: Labels, heading: str) -> _Block:
        """Return the card of a query, then those of its hits."""
        name = query_name(result.query)
        own = _Card("query", self._query_picture(result), heading, {}, name, self._labels(labels, set()))
        answers = [_Answer(title, [self._hit(hit, labels) for hit in hits]) for title, hits in result.answers.items()]
        return _Block(own, answers)

    def _hit(self, hit: Hit, mine: Labels) -> _Card:
        shared = shared_fields(self.fields, mine, hit.labels)
        theirs = [name for name in self.fields if name in mine or f"{name}_name" in mine]
        kind: Literal["all", "some", "none"] = "none" if not shared else "all" if len(shared) == len(theirs) else "some"
        return _Card(kind, self._row_picture(hit.row), *_nearness(hit), hit.key, self._labels(hit.labels, shared))

    def _labels(self, labels: Labels, shared: set[str]) -> list[_Label]:
        """Return the labels to show, shared ones first: those that are compared, or all where none is."""
        shown = [
            _Label(name, text, name in shared)
            for name, text in texts(labels).items()
            if not self.fields or name in self.fields
        ]
        return sorted(shown, key=lambda label: not label.shared)

    def _query_picture(self, result: Result) -> SmallPicture:
        match result.query.face if isinstance(result.query, ByExamples) else result.query:
            case ByKey(key, None):
                return self._row_picture(self.index.find(key))
            case ByKey(key, region):
                return small_picture(lambda: self.index.image(self.index.find(key)), self.index.limits, region)
            case ByImage(image, region=region):
                return small_picture(lambda: image, self.index.limits, region)
            case _:
                return SmallPicture(why="a code has no picture")

    def _row_picture(self, row: int) -> SmallPicture:
        if row not in self.made:
            self.made[row] = small_picture(lambda: self.index.image(row), self.index.limits)
        return self.made[row]


def save_page(
    path: Path,
    index: Index,
    results: Sequence[Result],
    *,
    title: str = "Queries and hits",
    match: Sequence[str] = (),
    score: str = "",
) -> None:
    """Write the page: one block per query, its answers side by side, those hits marked that share labels with it.

    A picture that cannot be read back, since its shard was moved or is damaged, is a placeholder with the reason.

    Args:
        path: HTML file to write; it appears whole or not at all.
        index: the index that answered.
        results: what to show, all with answers of the same titles.
        title: of the page.
        match: label fields to compare (`fine` or `label.fine`); none: those that tell images of this index apart.
        score: what the scores of the hits are, as in `SCORES`; empty where they have none.

    Raises:
        HashgrainError: `write-failed`; `bad-value` for a label field that is not there.
    """
    labels = [query_labels(index, of.query) if of.labels is None else of.labels for of in results]
    cards = _Cards(index, compared_fields(index, labels, match))
    blocks = [
        cards.block(result, mine, f"query {at}" if len(results) > 1 else "query")
        for at, (result, mine) in enumerate(zip(results, labels, strict=True), 1)
    ]
    kinds = {hit.kind for block in blocks for answer in block.answers for hit in answer.hits}
    html = page_template("indexer.page", "page.html").render(
        title=title, rows=index.ntotal, blocks=blocks, titles=list(results[0].answers) if results else [],
        notes=NOTES, fields=cards.fields, kinds=kinds, score=score, size=THUMBNAIL,
    )  # fmt: skip
    write_page(path, html)


def small_picture(read: "Callable[[], ImageLike]", limits: Limits, region: Region | None = None) -> SmallPicture:
    """Shrink an image, or a region of it; imports Pillow only here, since a query without a page needs none."""
    from PIL import Image

    from encoder.images.inputs import look

    try:
        pixels = look(read(), THUMBNAIL, limits, region, RegionMode.CROP).pixels
    except HashgrainError as err:
        return SmallPicture(why=str(err))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return SmallPicture("data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode())


def query_name(query: Asked) -> str:
    """Return how a query is called on a page: by the name of its file alone, where it has one."""
    match query:
        case ByKey(key):
            return key
        case ByImage(image=Path() as path):
            return path.name
        case _:
            return name_of(query)


def _nearness(hit: Hit) -> tuple[str, Mapping[Level, int]]:
    """Return how near a hit is: the number it is ordered by, and its other distances."""
    if hit.score is None:
        return "1 bit" if hit.distance == 1 else f"{hit.distance} bits", hit.distances
    return f"score {hit.score:.4g}", hit.distances or {hit.level: hit.distance}


def _even(hits: int, most: int) -> int:
    """Return how many hits a row takes, so that the last row is about as full as the others."""
    return ceil(hits / ceil(hits / most)) if hits else 1
