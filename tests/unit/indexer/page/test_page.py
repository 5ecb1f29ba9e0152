import base64
import io
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from PIL import Image

from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.images.shards import ShardKind
from encoder.levels import Level
from indexer.build import build
from indexer.index import Index
from indexer.page.page import THUMBNAIL, Known, Section, save_page
from indexer.query import ByKey
from indexer.settings import BuildSettings
from tests.support.pictures import encoded

EVIL = "<script>alert('1')</script>\"><img src=x onerror=alert(1)>"
EVIL_KEY = EVIL.replace("/", "_") + ".png"
KEYS = ["a.png", EVIL_KEY, "gone.png", "broken.png"]
LABELS = [
    {"fine": 1, "fine_name": "rye", "kind": "bread"},
    {"fine": 2, "fine_name": EVIL, "kind": "bread"},
    {"fine": 1, "fine_name": "rye", "kind": "bread"},
    {EVIL: 7},
]


@pytest.fixture
def index(tmp_path, write_codes):
    """Four rows, 0 to 3 bits from the first; one picture is gone, one is none, one tries to be markup."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, key in enumerate(KEYS[:2]):
        (folder / key).write_bytes(encoded(number, "PNG"))
    (folder / "broken.png").write_bytes(encoded(2, "PNG")[:100])
    codes = np.array([[0b0], [0b1], [0b11], [0b111]], dtype=np.uint8)
    write_codes("a", {Level.FUSED: codes}, keys=KEYS, labels=LABELS, shard_path=folder)
    build(list_code_files([tmp_path / "codes"]), tmp_path / "index", BuildSettings(levels=(Level.FUSED,)))
    return Index(tmp_path / "index")


@pytest.fixture
def page_of(tmp_path, index):
    """Write a page about the rows nearest to a.png and return its text."""

    def write(answers=None, *, query="key:a.png", known=None, **words):
        if answers is None:
            hits = list(index.query(ByKey("a.png"), level="fused"))
            answers = [[replace(hit, query=query) for hit in hits]]
        section = Section(words.pop("name", "level fused"), words.pop("note", ""), answers)
        save_page(tmp_path / "page.html", index, [section], **{"title": "Matches"} | words, known=known)
        return (tmp_path / "page.html").read_text("utf-8")

    return write


def figures(html):
    """(class, content) of each picture on the page."""
    return re.findall(r'<figure class="(\w+)">(.*?)</figure>', html, re.DOTALL)


def word(figure, kind):
    """The text of a caption's line."""
    (text,) = re.findall(rf'class="{kind}"[^>]*>([^<]*)<', figure)
    return unescape(text)


def thumbnails(html):
    """The pictures, decoded."""
    data = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(one, validate=True))) for one in data]


def chips(figure):
    """(text, whether shared) of each label."""
    return [
        (unescape(text), bool(shared)) for shared, text in re.findall(r'class="chip( shared)?"[^>]*>([^<]*)<', figure)
    ]


def test_nothing_a_stranger_named_becomes_markup(page_of):
    html = page_of(title=EVIL, summary=EVIL, name=EVIL, note=EVIL)
    assert "<script" not in html
    assert "<img src=x" not in html
    assert html.count("&lt;script&gt;") >= 6  # title twice, summary, section, note, key, label
    assert set(re.findall(r"<(\w+)", html)) <= {
        *("html", "head", "meta", "title", "style", "body", "main", "header", "section"),
        *("h1", "h2", "p", "span", "i", "div", "figure", "figcaption", "img"),
    }


def test_the_page_may_load_nothing_and_asks_for_nothing(page_of):
    html = page_of()
    assert """content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">""" in html
    assert not re.findall(r"""(?:src|href|url\()\s*=?\s*["'(]?(?!data:)(?:https?:|//|/|\w+\.)""", html)


def test_hits_stand_in_rank_order_after_their_query(page_of):
    found = figures(page_of())
    assert [word(of, "name") for _, of in found] == ["a.png", *KEYS]
    assert [word(of, "heading") for _, of in found] == ["query", "0 bits", "1 bit", "2 bits", "3 bits"]


def test_a_readable_picture_is_a_square_jpeg(page_of):
    images = thumbnails(page_of())
    assert len(images) == 3  # the query, and two of four hits
    assert {(image.format, image.size) for image in images} == {("JPEG", (THUMBNAIL, THUMBNAIL))}


def test_an_unreadable_picture_says_why(page_of):
    *_, gone, broken = (of for _, of in figures(page_of()))
    assert "<img" not in gone + broken
    assert "No such file" in gone
    assert "cannot be decoded (truncated" in broken


def test_a_page_stands_though_every_shard_has_moved(page_of, tmp_path):
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    found = figures(page_of())
    assert len(found) == 5
    assert all("could not be read" in of for _, of in found)


def test_a_missing_tar_is_a_placeholder_too(tmp_path, write_codes, page_of):
    write_codes(
        "tar", {Level.FUSED: np.zeros((1, 1), dtype=np.uint8)}, keys=["a.png"], places=[(512, 10)],
        shard_path=tmp_path / "moved.tar", kind=ShardKind.TAR, folder=tmp_path / "tars",
    )  # fmt: skip
    build(list_code_files([tmp_path / "tars"]), tmp_path / "other", BuildSettings(levels=(Level.FUSED,)))
    other = Index(tmp_path / "other")
    section = Section("", "", [other.query(ByKey("a.png"), k=1)])
    save_page(tmp_path / "tar.html", other, [section], title="")
    assert "moved.tar" in (tmp_path / "tar.html").read_text()


def test_hits_are_marked_by_how_many_labels_of_their_query_they_share(page_of):
    html = page_of()
    assert [kind for kind, _ in figures(html)] == ["query", "all", "some", "all", "none"]
    assert "shares every label" in html


def test_without_labels_of_the_query_nothing_is_marked_or_explained(page_of):
    html = page_of(query="-", known={"-": Known(encoded(5))})
    assert [kind for kind, _ in figures(html)] == ["query", *["none"] * 4]
    assert "shares" not in html


def test_labels_from_the_caller_stand_in_for_the_index(page_of):
    html = page_of(known={"key:a.png": Known(labels={EVIL: 7})})
    assert [kind for kind, _ in figures(html)] == ["query", "none", "none", "none", "all"]


def test_shared_labels_come_first_and_a_number_beside_its_name_is_left_out(page_of):
    query, _, some, _, other = (of for _, of in figures(page_of()))
    assert chips(query) == [("rye", False), ("bread", False)]
    assert chips(some) == [("bread", True), (EVIL, False)]
    assert chips(other) == [(f"{EVIL} 7", False)]


def test_a_query_from_stdin_shows_the_bytes_handed_over(page_of):
    red = io.BytesIO()
    Image.new("RGB", (40, 30), (250, 10, 10)).save(red, "PNG")
    html = page_of(query="-", known={"-": Known(red.getvalue())})
    _, query = figures(html)[0]
    assert "image from stdin" in query
    (image,) = thumbnails(query)
    assert np.allclose(np.asarray(image), (250, 10, 10), atol=4)


def test_a_query_file_is_called_by_its_name(page_of, tmp_path):
    (tmp_path / "mine.jpg").write_bytes(encoded(8))
    _, query = figures(page_of(query=str(tmp_path / "mine.jpg")))[0]
    assert ">mine.jpg<" in query
    assert str(tmp_path) not in query
    assert "<img" in query


def test_a_query_whose_name_is_no_utf8_does_not_stop_the_page(page_of):
    assert "caf?.jpg" in page_of(query="caf\udce9.jpg")


def test_queries_that_found_nothing_are_counted(page_of):
    assert "2 queries found nothing" in page_of([[], []])
    assert "1 query found nothing" in page_of([[]])
    assert "found nothing" not in page_of()


def test_the_same_picture_is_read_once(page_of, index, monkeypatch):
    read = []

    def image(_: Index, row: int) -> bytes:
        read.append(row)
        return encoded(row)

    monkeypatch.setattr(Index, "image", image)
    hits = list(index.query(ByKey("a.png"), level="fused"))
    page_of([hits, hits, hits])
    assert sorted(read) == [0, 0, 1, 2, 3]  # row 0 as the query, and as a hit


def test_a_page_that_cannot_be_written_is_one_line(index, tmp_path):
    with pytest.raises(HashgrainError) as caught:
        save_page(tmp_path / "no" / "page.html", index, [], title="")
    assert caught.value.reason is Reason.WRITE_FAILED
