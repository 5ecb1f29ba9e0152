"""Distances: the slider knows how many are within it, chance is marked, and "nothing similar" is an answer."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

CARDS = "#hits .card"


def distances(page):
    return [
        int(bits)
        for bits in page.locator(f"{CARDS}:visible").evaluate_all("cards => cards.map((card) => card.dataset.distance)")
    ]


def test_the_slider_counts_while_it_moves_without_a_request(window, octopus, shoot):
    page = window(f"/?key={octopus}&cutoff=off")
    expect(page.locator(CARDS).first).to_be_visible()
    searches = []
    page.on("request", lambda asked: searches.append(asked.url) if "/v1/search" in asked.url else None)
    radius = sorted(distances(page))[9]
    slide = "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', { bubbles: true })); }"
    page.locator("#radius").evaluate(slide, radius)
    expect(page.locator("#radius-now")).to_have_text(f"up to {radius} bits")
    said = page.locator("#inside").inner_text()
    assert max(distances(page)) == radius, "what is farther is hidden at once"
    assert searches == []
    page.locator("#radius").evaluate("slider => slider.dispatchEvent(new Event('change', { bubbles: true }))")
    expect(page.locator("#summary")).to_contain_text(f"within {radius} bits")
    inside = int(said.split(" of ")[0].replace(",", ""))
    expect(page.locator("#end")).to_have_text(re.compile(f"^That is all: {inside} image"))
    assert len(distances(page)) == inside
    assert f"radius={radius}" in page.url
    expect(page.locator("#plot table")).to_be_attached()
    shoot(page, "radius")
    page.locator("#radius").press("End")
    expect(page.locator("#radius-now")).to_have_text("any")
    assert "radius=" not in page.url


def test_nothing_within_a_distance_says_how_far_the_nearest_is(window, octopus, shoot):
    page = window(f"/?key={octopus}&level=fine&radius=0")
    expect(page.get_by_role("heading", name="Nothing so near")).to_be_visible()
    expect(page.locator("#message")).to_contain_text(re.compile(r"nearest of [\d,]+ images is \d+ bits? away"))
    shoot(page, "nothing-near")
    page.get_by_role("button", name="Any distance").click()
    expect(page.locator(CARDS).first).to_be_visible()


def test_duplicate_and_similar_are_two_questions(window, octopus, shoot):
    page = window(f"/?key={octopus}&cutoff=off")
    expect(page.locator(CARDS).first).to_be_visible()
    with page.expect_request(lambda asked: "/v1/search" in asked.url) as sent:
        page.get_by_role("radio", name="Duplicate").check()
    asked = sent.value.post_data_json
    assert asked["key"] == octopus
    assert asked["level"] == "fine"
    assert "radius" in asked or "max_false" in asked
    expect(page.locator(".message h2, #hits .card").first).to_be_visible()
    shoot(page, "duplicate")
    page.get_by_role("radio", name="Similar").check()
    expect(page.locator("#levels input:checked")).to_have_attribute("value", "fused")


def test_what_chance_may_bring_is_marked_or_left_out_and_nothing_similar_is_an_answer(
    window, calibrated, octopus, shoot
):
    page = window(url=calibrated.url)
    cutoffs = page.evaluate("async () => (await (await fetch('/v1/index')).json()).levels.fine.cutoffs")
    radius = cutoffs["0.1"]
    assert radius >= 0
    page.goto(f"/?key={octopus}&level=fine&cutoff=off")
    expect(page.locator(CARDS).first).to_be_visible()
    nearest = min(distances(page))
    expect(page.locator(".beyond")).to_have_count(0)
    page.locator("#cutoff").select_option("0.1")
    if nearest <= radius:
        expect(page.locator("#end")).to_be_visible()
        assert max(distances(page)) <= radius
    page.goto("/?key=sea/octopus-00-1&level=fine&cutoff=0.1&where=label.price+%3E+0")
    expect(page.get_by_role("heading", name="Nothing similar")).to_be_visible()
    expect(page.locator("#message")).to_contain_text(f"come within {radius} bit")
    shoot(page, "nothing-similar")
    page.get_by_role("button", name="Show the nearest anyway").click()
    expect(page.locator(CARDS).first).to_be_visible()
    page.goto(f"/?key={octopus}&level=fine")
    expect(page.locator(f"{CARDS}.beyond, .message:visible").first).to_be_visible()
    shoot(page, "chance")
