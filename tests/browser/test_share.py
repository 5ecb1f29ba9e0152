"""A search goes elsewhere: as curl, a command line, Python, and its hits as files; whatever stands in a key."""

import ast
import csv
import json
import shlex
import subprocess

import pytest
from playwright.sync_api import expect

from tests.support.browsing import HOSTILE, KEPT

pytestmark = pytest.mark.browser

CARDS = "#hits .card"


def phrase(page, title):
    return page.locator(f'.phrase[aria-label="{title}"] pre').inner_text()


def test_the_curl_that_is_copied_finds_what_the_page_shows(window, octopus, shoot):
    page = window(f"/?key={octopus}&level=mid&where=label.kind_name+%3D+%27sea%27")
    expect(page.locator(CARDS).first).to_be_visible()
    page.locator("#share-button").click()
    shoot(page, "share")
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.locator("#toast")).to_have_text("Copied")
    command = page.evaluate("navigator.clipboard.readText()")
    answer = json.loads(subprocess.run(["sh", "-c", f"{command} --silent"], check=True, capture_output=True).stdout)
    shown = page.locator(CARDS).evaluate_all("cards => cards.map((card) => card.dataset.key)")
    assert [hit["key"] for hit in answer["answers"][0]["hits"]] == shown
    assert shlex.split(phrase(page, "Command line"))[:3] == ["indexer", "query", f"key:{octopus}"]


@pytest.mark.parametrize("key", [*HOSTILE, 'it\'s "quoted" $HOME `id` \\n \U0001f600'])
def test_words_for_a_shell_and_for_python_hold_any_key(page, key):
    read = "async ([name, value]) => (await import('/page/phrases.js'))[name](value)"
    word = page.evaluate(read, ["shell", key])
    assert word.isascii()
    assert word.isprintable()
    said = subprocess.run(["bash", "-c", f"printf %s {word}"], check=True, capture_output=True).stdout
    assert said.decode() == key
    literal = page.evaluate(read, ["python", {"key": [key, None, True, 1.5]}])
    assert literal.isascii()
    assert literal.isprintable()
    assert ast.literal_eval(literal) == {"key": [key, None, True, 1.5]}


def test_hits_are_saved_as_json_and_as_a_table_that_computes_nothing(window, octopus, tmp_path):
    page = window(f"/?key={octopus}&cutoff=off&where=label.price+%3E+0")
    expect(page.locator(CARDS)).to_have_count(len(HOSTILE))
    page.locator("#share-button").click()
    for button, name in (("Download JSON", "hits.json"), ("Download CSV", "hits.csv")):
        with page.expect_download() as saved:
            page.get_by_role("button", name=button).click()
        saved.value.save_as(tmp_path / name)
    hits = json.loads((tmp_path / "hits.json").read_text())["answers"][0]["hits"]
    assert sorted(hit["key"] for hit in hits) == sorted(KEPT)
    rows = list(csv.DictReader((tmp_path / "hits.csv").read_text().splitlines()))
    assert len(rows) == len(HOSTILE)
    assert {row["label.tags"][:5] for row in rows} == {"'=1+1"}
    assert sorted(float(row["label.price"]) for row in rows) == [0.5, 1.5, 2.5, 3.5, 4.5]
