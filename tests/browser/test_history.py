"""The address says it all: hits are searched from, and going back takes no request and no upload."""

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

CARDS = "#hits .card"


def keys(page):
    return page.locator(CARDS).evaluate_all("cards => cards.map((card) => card.dataset.key)")


def test_a_click_on_a_hit_searches_from_it_and_back_returns_at_once(window, octopus):
    page = window(f"/?key={octopus}&cutoff=off")
    expect(page.locator(CARDS).first).to_be_visible()
    before = keys(page)
    chosen = page.locator(CARDS).nth(2).get_attribute("data-key")
    page.locator(f"{CARDS} a.frame").nth(2).click()
    expect(page.locator("#query-name")).to_have_text(chosen)
    expect(page.locator(f'{CARDS}[data-key="{octopus}"]')).to_be_visible()
    searches = []
    page.on("request", lambda asked: searches.append(asked.url) if "/v1/search" in asked.url else None)
    page.go_back()
    expect(page.locator("#query-name")).to_have_text(octopus)
    assert keys(page)[: len(before)] == before
    assert searches == []
    page.go_forward()
    expect(page.locator("#query-name")).to_have_text(chosen)


def test_options_stay_in_the_address_and_make_no_steps_back(window, octopus):
    page = window(f"/?key={octopus}&cutoff=off")
    expect(page.locator(CARDS).first).to_be_visible()
    page.get_by_role("radio", name="coarse").check()
    expect(page.locator('#hits ul[data-level="coarse"]')).to_be_visible()
    page.reload()
    expect(page.locator('#hits ul[data-level="coarse"] .card').first).to_be_visible()
    expect(page.get_by_role("radio", name="coarse")).to_be_checked()
    page.locator(f"{CARDS} a.frame").first.click()
    expect(page.locator("#query-name")).not_to_have_text(octopus)
    assert "level=coarse" in page.url, "the next query is searched at the same level"
    page.go_back()
    expect(page.locator("#query-name")).to_have_text(octopus)
    expect(page.get_by_role("radio", name="coarse")).to_be_checked()


def test_an_address_of_a_stranger_that_means_nothing_does_no_harm(window):
    page = window("/?codes=fine:zz,evil:00&level=best&radius=-1&region=9,9&cutoff=x&question=why&key=")
    expect(page.locator("#samples .card").first).to_be_visible()


def test_where_one_was_on_the_page_is_where_back_leads(window, octopus):
    page = window(f"/?key={octopus}&cutoff=off")
    expect(page.locator(CARDS).first).to_be_visible()
    page.mouse.move(900, 500)
    page.mouse.wheel(0, 700)
    page.wait_for_timeout(400)
    top = page.evaluate("scrollY")
    assert top > 300
    page.locator(f"{CARDS} a.frame").nth(20).click()
    expect(page.locator("#query-name")).not_to_have_text(octopus)
    page.go_back()
    expect(page.locator("#query-name")).to_have_text(octopus)
    page.wait_for_function("top => Math.abs(scrollY - top) < 40", arg=top)
