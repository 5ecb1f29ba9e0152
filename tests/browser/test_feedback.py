"""More like these, less like those."""

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

CARDS = "#hits .card"


def keys(page):
    return page.locator(CARDS).evaluate_all("cards => cards.map((card) => card.dataset.key)")


@pytest.fixture
def asked(window, octopus):
    page = window(f"/?key={octopus}&cutoff=off")
    expect(page.locator(CARDS).first).to_be_visible()
    return page


def vote(page, card, act):
    key = card.get_attribute("data-key")
    card.hover()
    card.locator(f"[data-act={act}]").click()
    expect(page.locator(f"#{act}d li")).to_have_count(1)
    expect(page.locator(f'{CARDS}[data-key="{key}"]')).to_have_count(0)  # an example is no hit
    return key


def test_a_like_and_a_dislike_change_the_order_and_can_be_taken_back(asked, octopus, shoot):
    before = keys(asked)
    liked = vote(asked, asked.locator(CARDS).nth(1), "like")
    disliked = vote(asked, asked.locator(CARDS).nth(4), "dislike")
    assert f"like={liked}" in asked.url
    assert f"dislike={disliked}" in asked.url
    after = keys(asked)
    assert set(after).isdisjoint({liked, disliked, octopus})
    assert after != [key for key in before if key in after]
    shoot(asked, "feedback")
    asked.reload()
    expect(asked.locator("#liked li")).to_have_count(1)
    expect(asked.locator(CARDS).first).to_be_visible()
    assert keys(asked) == after
    asked.get_by_role("button", name=f"No longer more like {liked}").click()
    expect(asked.locator("#liked li")).to_have_count(0)
    asked.go_back()
    expect(asked.locator("#liked li")).to_have_count(1)
    asked.get_by_role("button", name="Clear feedback").click()
    expect(asked.locator("#examples")).to_be_hidden()
    expect(asked.locator(f'{CARDS}[data-key="{liked}"]')).to_be_visible()
    assert keys(asked) == before


def test_plus_and_minus_are_keys_too(asked):
    first = asked.locator(f"{CARDS} a.frame").first
    first.focus()
    asked.keyboard.press("+")
    expect(asked.locator("#liked li")).to_have_count(1)
    asked.locator(f"{CARDS} a.frame").first.focus()
    asked.keyboard.press("-")
    expect(asked.locator("#disliked li")).to_have_count(1)


def test_more_of_the_liked_kind_comes_up(window):
    page = window("/?key=sea/octopus-00-1&cutoff=off&like=flowers/poppy-00-1&like=flowers/poppy-00-2")
    expect(page.locator(CARDS).first).to_be_visible()
    assert any("poppy" in key for key in keys(page)[:10])
