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
from encoder.images.limits import Limits
from encoder.images.shards import ShardKind
from encoder.levels import Level
from indexer.build import build
from indexer.index import Index
from indexer.page.page import SCORES, THUMBNAIL, Result, save_page
from indexer.query import ByCode, ByImage, ByKey
from indexer.settings import BuildSettings, Combine
from tests.support.pictures import encoded

EVIL = "<script>alert('1')</script>\"><img src=x onerror=alert(1)>"
EVIL_KEY = EVIL.replace("/", "_") + ".png"
KEYS = ["a.png", EVIL_KEY, "gone.png", "broken.png"]
LABELS = [
    {"fine": 1, "fine_name": "rye", "kind": "bread"},
    {"fine": 2, "fine_name": EVIL, "kind": "bread"},
    {"fine": 1, "fine_name": "rye", "kind": "bread"},
    {EVIL: 7, "kind": "cake"},
]
A = ByKey("a.png")


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
def hits(index):
    """All rows, nearest to a.png first."""
    return list(index.query(ByKey("a.png"), level="fused"))


@pytest.fixture
def page_of(tmp_path, index, hits):
    """Write a page and return its text; by default about one query, a.png, at one level."""

    def write(*results, query=A, labels=None, **words):
        results = results or (Result(query, {"fused": hits}, labels),)
        save_page(tmp_path / "page.html", index, results, **words)
        return (tmp_path / "page.html").read_text("utf-8")

    return write


def figures(html):
    """(class, content) of each picture on the page."""
    return re.findall(r'<figure class="(\w+)">(.*?)</figure>', html, re.DOTALL)


def text(markup):
    """What a reader sees, in one line."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", markup)).split())


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
        (unescape(text), bool(shared)) for shared, text in re.findall(r'class="label( shared)?"[^>]*>([^<]*)<', figure)
    ]


def test_nothing_a_stranger_named_becomes_markup(page_of, hits):
    evil = Result(ByKey(EVIL_KEY), {EVIL: hits, "fused": []}, labels={EVIL: 7})
    html = page_of(evil, evil, title=EVIL, match=[EVIL], score=EVIL)
    assert "<script" not in html
    assert "<img src=x" not in html
    assert html.count("&lt;script&gt;") >= 8  # title twice, score, field, level, query, key, label
    assert set(re.findall(r"<(\w+)", html)) <= {
        *("html", "head", "meta", "title", "style", "body", "main", "header", "section"),
        *("h1", "h2", "h3", "p", "span", "i", "b", "div", "figure", "figcaption", "img"),
        *("nav", "a", "article", "ul", "li", "dl", "dt", "dd"),
    }


@pytest.mark.parametrize("control", ["\x1b", "\x07", "\x9b", "\r", "\u202e"])
def test_no_control_of_a_stranger_reaches_the_page(tmp_path, write_codes, control):
    said = f"a{control}]8;;x.png"
    codes = np.zeros((2, 1), np.uint8)
    path = write_codes(
        "c", {Level.FUSED: codes}, keys=[said, "b"], labels=[{"x": said}, {f"n{control}": 3}], shard_path=f"/{said}"
    )
    build([path], tmp_path / "odd", BuildSettings())
    odd = Index(tmp_path / "odd")
    results = [Result(ByKey(said), {f"fused{control}": list(odd.query(ByKey(said)))})]
    save_page(tmp_path / "odd.html", odd, results, title=said, match=[], score=said)
    page = (tmp_path / "odd.html").read_text()
    assert control not in page
    assert control.encode("unicode_escape").decode() in page


def test_lines_of_a_caption_stand_beside_each_other(page_of):
    assert "two lines" in page_of(labels={"x": "two\nlines"})


def test_the_page_may_load_nothing_and_asks_for_nothing(page_of, hits):
    html = page_of(Result(ByKey("a.png"), {"fused": hits}), Result(ByKey(KEYS[1]), {"fused": hits}))
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
    assert "cannot be used (truncated" in broken


def test_the_limits_of_an_index_hold_for_what_is_shown(index, hits, tmp_path):
    narrow = Index(index.path, limits=Limits(max_pixels=10))
    save_page(tmp_path / "page.html", narrow, [Result(A, {"fused": hits})])
    shown = [of for _, of in figures((tmp_path / "page.html").read_text("utf-8"))]
    assert ["too-many-pixels: more than 10 pixels" in of for of in shown] == [True, True, True, False, True]


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
    hits = other.query(ByKey("a.png"), k=1)
    save_page(tmp_path / "tar.html", other, [Result(ByKey("a.png"), {"fused": hits})])
    assert "moved.tar" in (tmp_path / "tar.html").read_text()


def test_hits_are_marked_by_how_many_labels_of_their_query_they_share(page_of):
    html = page_of()
    assert [kind for kind, _ in figures(html)] == ["query", "all", "some", "all", "none"]
    assert "labels compared: fine, kind all the same some of them" in text(html)


def test_the_labels_that_count_can_be_chosen(page_of):
    html = page_of(match=["label.kind"])
    assert [kind for kind, _ in figures(html)] == ["query", "all", "all", "all", "none"]
    assert "labels compared: kind the same fused" in text(html)
    assert chips(figures(html)[2][1]) == [("bread", True)]


def test_a_field_to_match_that_is_nowhere_writes_no_page(page_of, tmp_path):
    with pytest.raises(HashgrainError, match="'colour' is not in") as caught:
        page_of(match=["colour"])
    assert caught.value.reason is Reason.BAD_VALUE
    assert not (tmp_path / "page.html").exists()


def test_without_labels_of_the_query_nothing_is_marked_or_explained(page_of):
    html = page_of(query=ByImage(encoded(5)))
    assert [kind for kind, _ in figures(html)] == ["query", *["none"] * 4]
    assert "labels compared" not in html
    assert "the same" not in text(html.replace("the same object", ""))


def test_labels_from_the_caller_stand_in_for_the_index(page_of):
    html = page_of(labels={"kind": "cake"})
    assert [kind for kind, _ in figures(html)] == ["query", "none", "none", "none", "all"]


def test_an_image_has_the_labels_of_its_sidecar(page_of, tmp_path):
    (tmp_path / "mine.jpg").write_bytes(encoded(8))
    (tmp_path / "mine.json").write_text('{"fine": 2}')
    html = page_of(query=ByImage(tmp_path / "mine.jpg"))
    assert [kind for kind, _ in figures(html)] == ["query", "none", "all", "none", "none"]


def test_shared_labels_come_first_and_a_number_beside_its_name_is_left_out(page_of):
    query, _, some, _, other = (of for _, of in figures(page_of()))
    assert chips(query) == [("rye", False), ("bread", False)]
    assert chips(some) == [("bread", True), (EVIL, False)]
    assert chips(other) == [("cake", False)]


def test_where_no_label_counts_all_are_shown(page_of):
    *_, other = (of for _, of in figures(page_of(labels={})))
    assert chips(other) == [("cake", False), (f"{EVIL} 7", False)]


def test_a_query_from_stdin_shows_the_bytes_handed_over(page_of):
    red = io.BytesIO()
    Image.new("RGB", (40, 30), (250, 10, 10)).save(red, "PNG")
    html = page_of(query=ByImage(red.getvalue(), "image from stdin"))
    _, query = figures(html)[0]
    assert "image from stdin" in query
    (image,) = thumbnails(query)
    assert np.allclose(np.asarray(image), (250, 10, 10), atol=4)


def test_a_query_file_is_called_by_its_name(page_of, tmp_path):
    (tmp_path / "mine.jpg").write_bytes(encoded(8))
    _, query = figures(page_of(query=ByImage(tmp_path / "mine.jpg")))[0]
    assert ">mine.jpg<" in query
    assert str(tmp_path) not in query
    assert "<img" in query


def test_a_query_whose_name_is_no_utf8_does_not_stop_the_page(page_of):
    assert "caf?.jpg" in page_of(query=ByImage("caf\udce9.jpg"))


def test_a_query_that_found_nothing_is_shown_and_says_so(page_of, hits):
    html = page_of(Result(ByKey("a.png"), {"fused": hits}), Result(ByKey(KEYS[1]), {"fused": []}))
    first, second = html.split("<article")[1:]
    assert "nothing found" not in text(first)
    assert "nothing found" in text(second)
    assert word(second, "name") == KEYS[1]


def test_the_levels_of_a_query_stand_in_its_block_each_with_its_hits(page_of, hits):
    html = page_of(
        Result(ByKey("a.png"), {"fine": hits[:1], "coarse": hits[1:]}),
        Result(ByKey("gone.png"), {"fine": hits, "coarse": []}),
    )
    assert html.count("<article") == 2
    block = html.split("<article")[1]
    fine, coarse = block.split("<section")[1:]
    assert [word(of, "name") for _, of in figures(fine)] == KEYS[:1]
    assert [word(of, "name") for _, of in figures(coarse)] == KEYS[1:]
    assert len([kind for kind, _ in figures(block) if kind == "query"]) == 1


@pytest.mark.parametrize("queries", [1, 3])
def test_each_link_leads_to_a_place_on_the_page(page_of, hits, queries):
    html = page_of(*[Result(ByKey("a.png"), {"fine": hits, "fused": []})] * queries)
    links, places = set(re.findall(r'href="#([^"]+)"', html)), re.findall(r' id="([^"]+)"', html)
    assert len(places) == len(set(places))
    assert links <= set(places)
    assert {f"q1-{level}" for level in (1, 2)} <= links
    if queries > 1:
        assert {f"q{number}" for number in range(1, queries + 1)} <= links


def test_every_picture_has_words_and_every_heading_its_place(page_of, hits):
    html = page_of(*[Result(ByKey("a.png"), {"fine": hits, "fused": hits})] * 2)
    alts = re.findall(r'<img[^>]* alt="([^"]*)"', html)
    assert len(alts) == html.count("<img")
    assert alts.count("") == 2  # the query's own, whose name is the heading beside it
    assert re.findall(r"<h(\d)", html) == ["1", *["2", "3", "3"] * 2]


def test_a_score_is_called_one_and_the_distances_stand_below(page_of, hits):
    scored = replace(hits[1], score=0.12345, distances={Level.FINE: 3, Level.FUSED: 1})
    alone = replace(hits[1], score=2.0)
    html = page_of(Result(ByKey("a.png"), {"by sum": [scored, alone]}), score=SCORES[Combine.SUM])
    _, first, second = (of for _, of in figures(html))
    assert text(first).startswith("score 0.1235 fine 3 fused 1 ")
    assert text(second).startswith("score 2 fused 1 ")
    assert f"score {SCORES[Combine.SUM]}" in text(html)


def test_distances_at_other_levels_stand_below_the_one_that_orders(page_of, hits):
    explained = replace(hits[1], distances={Level.FINE: 3, Level.FUSED: 1})
    _, hit = figures(page_of(Result(ByKey("a.png"), {"fused": [explained]})))[1]
    assert text(hit).startswith("1 bit fine 3 fused 1 ")


@pytest.mark.parametrize(
    ("count", "rows"), [(1, [1]), (7, [7]), (10, [10]), (11, [6, 5]), (21, [7, 7, 7]), (40, [10] * 4)]
)
def test_rows_of_hits_are_about_as_long_as_each_other(page_of, hits, count, rows):
    html = page_of(Result(ByKey("a.png"), {"fused": [hits[0]] * count}))
    (wide,) = {int(number) for number in re.findall(r"--wide: (\d+)", html)}
    assert [min(wide, count - start) for start in range(0, count, wide)] == rows


def test_the_same_picture_is_read_once(page_of, hits, monkeypatch):
    read = []

    def image(_: Index, row: int) -> bytes:
        read.append(row)
        return encoded(row)

    monkeypatch.setattr(Index, "image", image)
    page_of(*[Result(ByKey("a.png"), {"fine": hits, "fused": hits})] * 3)
    assert sorted(read) == [0, 1, 2, 3]


def test_a_page_that_cannot_be_written_is_one_line(index, tmp_path):
    with pytest.raises(HashgrainError) as caught:
        save_page(tmp_path / "no" / "page.html", index, [])
    assert caught.value.reason is Reason.WRITE_FAILED


def test_a_code_has_no_picture(page_of):
    _, query = figures(page_of(query=ByCode(np.zeros(1, np.uint8))))[0]
    assert "a code has no picture" in query
