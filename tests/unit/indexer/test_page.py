import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from encoder.codefile import list_code_files
from encoder.levels import Level
from indexer.build import build
from indexer.config import BuildSettings, SearchSettings
from indexer.index import Index
from indexer.page import THUMBNAIL, Known, Section, save_page
from indexer.query import ask
from tests.pictures import encoded

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def index(tmp_path, write_codes):
    """Three pictures in a folder, one of them gone, with a key and a label that try to be markup."""
    folder, keys = tmp_path / "photos", ["a.png", f"{EVIL.replace('/', '_')}.png", "gone.png"]
    folder.mkdir()
    for number, key in enumerate(keys[:2]):
        (folder / key).write_bytes(encoded(number, "PNG"))
    codes = np.array([[0], [1], [3]], dtype=np.uint8)
    write_codes("a", {Level.FUSED: codes}, keys=keys, labels=[{"x": 1}, {"x": EVIL}, {"x": 1}], shard_path=folder)
    build(list_code_files([tmp_path / "codes"]), tmp_path / "index", BuildSettings(levels=(Level.FUSED,)))
    return Index(tmp_path / "index")


def page_of(tmp_path, index, *, known=None):
    answers = ask(index, ["key:a.png"], Level.FUSED, SearchSettings(10))
    save_page(tmp_path / "page.html", index, [Section(EVIL, EVIL, answers)], title=EVIL, summary=EVIL, known=known)
    return (tmp_path / "page.html").read_text()


def test_nothing_a_stranger_named_becomes_markup(tmp_path, index):
    html = page_of(tmp_path, index)
    assert "<script" not in html
    assert "default-src &#39;none&#39;" not in html
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in html
    assert "&lt;script&gt;" in html


def test_pictures_are_embedded_and_the_missing_one_says_why(tmp_path, index):
    html = page_of(tmp_path, index)
    images = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    assert len(images) == 3  # the query, and two of three hits
    for data in images:
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert image.size == (THUMBNAIL, THUMBNAIL)
    assert "gone.png could not be read" in html


def test_hits_that_share_a_label_are_marked(tmp_path, index):
    assert page_of(tmp_path, index).count('<figure class="same">') == 2
    known = {"key:a.png": Known(encoded(9), {"x": 5})}
    assert page_of(tmp_path, index, known=known).count('<figure class="same">') == 0
