"""Why a hit is near: both pictures, and what the agreeing bits rest on."""

import pytest
from playwright.sync_api import expect

from tests.support.browsing import serious

pytestmark = pytest.mark.browser

CARDS = "#hits .card"

LIT = """canvas => {
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const light = [];
    for (let at = 0; at < data.length; at += 4) light.push(data[at]);
    return [Math.min(...light), Math.max(...light)];
}"""


def test_a_heat_map_lies_over_both_pictures_at_each_level(window, octopus, shoot):
    page = window(f"/?key={octopus}&cutoff=off")
    card = page.locator(CARDS).nth(1)
    expect(card).to_be_visible()
    card.hover()
    card.locator("[data-act=heat]").click()
    dialog = page.get_by_role("dialog", name="Why is this near?")
    expect(dialog.locator("#compare-words")).to_contain_text("agree at level fused")
    for side in ("seen-query", "seen-hit"):
        least, most = dialog.locator(f"#{side} canvas").evaluate(LIT)
        assert most > 200 > least, "some places say much, others little"
    expect(dialog.locator(".bits dt")).to_have_text(["fine", "mid", "coarse", "fused"])
    assert serious(page) == []
    shoot(page, "heat")
    dialog.get_by_role("radio", name="fine").check()
    expect(dialog.locator("#compare-words")).to_contain_text("agree at level fine")
    dialog.get_by_label("Heat map").uncheck()
    expect(dialog.locator("#seen-hit canvas")).to_have_css("opacity", "0")
    name = dialog.locator("#compare-name").inner_text()
    page.keyboard.press("ArrowRight")
    expect(dialog.locator("#compare-name")).not_to_have_text(name)
    name = dialog.locator("#compare-name").inner_text()
    dialog.get_by_role("link", name="Search from it").click()
    expect(page.locator("#query-name")).to_have_text(name)


def test_a_picture_of_ones_own_has_a_heat_map_too(window, collection):
    page = window()
    page.locator("#file").set_input_files(collection.photos[0])
    expect(page.locator("#hits .card, .message").first).to_be_visible()
    if page.get_by_role("button", name="Show the nearest anyway").is_visible():
        page.get_by_role("button", name="Show the nearest anyway").click()
    page.locator(f"{CARDS} a.frame").first.focus()
    page.keyboard.press("h")
    expect(page.locator("#compare-words")).to_contain_text("agree at level")


def test_a_code_alone_has_none_and_the_page_says_why(window, served, octopus):
    page = window()
    codes = page.evaluate(
        "async key => (await (await fetch('/v1/items/' + encodeURIComponent(key))).json()).codes", octopus
    )
    page.goto("/?cutoff=off&codes=" + ",".join(f"{level}:{code}" for level, code in codes.items()))
    page.locator(f"{CARDS} a.frame").first.focus()
    page.keyboard.press("h")
    expect(page.locator("#compare-words")).to_contain_text("needs the query's picture")
