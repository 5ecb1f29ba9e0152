"""Groups of near-duplicates as a page to look through: each picture is kept or dropped, and the marks are a file."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from encoder.plural import plural
from indexer.duplicates.groups import Duplicates, DuplicateSettings, Group
from indexer.page.page import THUMBNAIL, SmallPicture, small_picture
from indexer.page.templates import page_template, write_page
from indexer.snapshot import Snapshot

MOST_PICTURES: Final = 2000
"""On a page, about 10 KB each: more make a browser slow, and nobody looks through them at once."""


@dataclass(frozen=True, slots=True)
class _Card:
    picture: SmallPicture
    heading: str
    name: str
    spelled: str
    """The key as JSON."""


@dataclass(frozen=True, slots=True)
class _Section:
    title: str
    note: str
    cards: list[_Card]


def save_review(
    path: Path, snapshot: Snapshot, found: Duplicates, settings: DuplicateSettings, advance: Callable[[float], None]
) -> int:
    """Write the page, with the largest groups as far as a page takes them, and return how many of them it shows.

    Raises:
        HashgrainError: `write-failed`.
    """
    shown = list[Group]()
    left = MOST_PICTURES
    for group in found.groups:
        if len(group.rows) <= left:
            shown.append(group)
            left -= len(group.rows)
    sections = []
    for at, group in enumerate(shown):
        sections.append(_section(snapshot, group))
        advance((at + 1) / len(shown))
    script = (files("indexer.duplicates") / "review.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    facts = (
        f"{plural(found.rows, 'image')}, {plural(len(found.groups), 'group')} within {plural(settings.radius, 'bit')} at "
        f"{settings.level}{_left_out(found.groups, shown)}"
    )
    page = page_template("indexer.duplicates", "review.html")
    write_page(
        path,
        page.render(
            title="Near-duplicates", facts=facts, groups=sections, size=THUMBNAIL, script=_Verbatim(script),
            script_digest=_Verbatim(f"sha256-{digest}"),
        ),
    )  # fmt: skip
    return len(shown)


class _Verbatim(str):
    """Text of ours that a template takes as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


def _left_out(groups: Sequence[Group], shown: Sequence[Group]) -> str:
    left = len(groups) - len(shown)
    return f"; {plural(left, 'group')} not on this page" if left else ""


def _section(snapshot: Snapshot, group: Group) -> _Section:
    cards = []
    for row, distance in zip(group.rows.tolist(), group.distances.tolist(), strict=True):
        key, size = snapshot.key(row), snapshot.place(row).size
        picture = small_picture(snapshot.image_reader(row), snapshot.manifest.limits)
        how_far = f"{distance} bits, " if distance > 1 else "1 bit, " if distance else ""
        cards.append(_Card(picture, f"{how_far}{size / 1000:,.0f} KB", key, json.dumps(key)))
    farthest = int(group.distances.max())
    note = "equal codes" if not farthest else f"at most {plural(farthest, 'bit')} from the first"
    return _Section(plural(len(cards), "picture"), note, cards)
