"""Filters made of the index's own label fields, and as text."""

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

CARDS = "#hits .card"


@pytest.fixture
def asked(window, octopus):
    page = window(f"/?key={octopus}&cutoff=off")
    expect(page.locator(CARDS).first).to_be_visible()
    return page


def field(page, name):
    place = page.locator(f'.field[data-name="{name}"]')
    if place.get_attribute("open") is None:
        place.locator("summary").click()
    return place


def test_values_are_ticked_and_ranges_given_and_both_become_the_text(asked, shoot):
    kinds = field(asked, "label:kind_name")
    kinds.get_by_label("fruit").check()
    expect(asked.locator("#summary")).to_contain_text(" of ")
    kinds.get_by_label("sea").check()
    expect(asked.locator("#where")).to_have_value("label.kind_name in ('fruit', 'sea')")
    instances = field(asked, "label:instance")
    instances.get_by_label("to").fill("60")
    instances.get_by_label("to").press("Enter")
    expect(asked.locator("#where")).to_have_value("label.instance <= 60 and label.kind_name in ('fruit', 'sea')")
    expect(asked.locator(CARDS).first).to_be_visible()
    shoot(asked, "filter")
    labels = asked.locator(CARDS).evaluate_all("cards => cards.map((card) => card.innerText)")
    assert all("fruit" in text or "sea" in text for text in labels)
    asked.reload()
    expect(field(asked, "label:kind_name").get_by_label("fruit")).to_be_checked()
    expect(field(asked, "label:instance").get_by_label("to")).to_have_value("60")
    asked.get_by_role("button", name="Clear").first.click()
    expect(asked.locator("#where")).to_have_value("")
    assert "where=" not in asked.url


def test_a_filter_by_hand_is_kept_as_it_is_and_a_mistake_is_shown_with_its_place(asked, shoot):
    asked.watch.expected.append("status of 400")
    asked.locator("#as-text summary").click()
    asked.locator("#where").fill("not label.class_name = 'octopus' and key ~ 'sea/*'")
    asked.get_by_role("button", name="Apply").click()
    expect(asked.locator(CARDS).first).to_be_visible()
    assert all(
        key.startswith("sea/") and "octopus" not in key
        for key in asked.locator(CARDS).evaluate_all("cards => cards.map((card) => card.dataset.key)")
    )
    asked.locator("#where").fill("label.colour = 'red'")
    asked.get_by_role("button", name="Apply").click()
    expect(asked.locator("#where-wrong")).to_contain_text("colour")
    expect(asked.locator("#where")).to_have_attribute("aria-invalid", "true")
    shoot(asked, "filter-wrong")
    asked.locator("#where").fill("")
    asked.get_by_role("button", name="Apply").click()
    expect(asked.locator(CARDS).first).to_be_visible()
    expect(asked.locator("#where-wrong")).to_be_hidden()


def test_a_filter_that_nothing_passes_says_so_and_can_be_taken_off(asked, shoot):
    key = field(asked, "key")
    key.get_by_label("holds").fill("no [such* key?")
    key.get_by_label("holds").press("Enter")
    expect(asked.get_by_role("heading", name="No image passes the filter")).to_be_visible()
    expect(asked.locator("#where")).to_have_value("key ~ '*no [[]such[*] key[?]*'")
    shoot(asked, "no-rows")
    asked.get_by_role("button", name="Remove the filter").click()
    expect(asked.locator(CARDS).first).to_be_visible()


@pytest.mark.parametrize(
    "text",
    [
        "label.a = 'it''s'", "label.\"taken at\" in ('a', 'b')", "key ~ '*x[*]y*'", "label.n >= -1.5 and label.n <= 3",
        "label.b = true", "(label.tags has 'a' or label.tags has 'b')", "label.tags has 'a'",
    ],
)  # fmt: skip
def test_what_the_fields_write_is_read_back(page, text):
    read = "async text => { const m = await import('/page/where.js'); const c = m.fromText(text); return c && m.toText(c); }"
    assert page.evaluate(read, text) == text


@pytest.mark.parametrize(
    "text",
    [
        "not label.a = 1",
        "label.a = 1 or label.b = 2",
        "label.a ~ 'x*'",
        "label.a != 3",
        "label.a =",
        "((",
        "'",
        "label.n = 1.0",
    ],
)
def test_what_they_could_not_have_written_stays_text(page, text):
    assert page.evaluate("async text => (await import('/page/where.js')).fromText(text)", text) is None
