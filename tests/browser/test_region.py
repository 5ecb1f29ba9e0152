"""A box on the query's picture: by pointer, by keys, in numbers."""

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

CARDS = "#hits .card"


def drag(page, start, end):
    frame = page.locator("#query-image").bounding_box()
    at = [(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in (start, end)]
    page.mouse.move(*at[0])
    page.mouse.down()
    page.mouse.move(*at[1], steps=4)
    page.mouse.up()


def region(page):
    return [float(share) for share in page.url.split("region=")[1].split("&")[0].split(",")]


def ready(page):
    expect(page.locator(CARDS).first).to_be_visible()
    page.wait_for_function("document.querySelector('#query-image').naturalWidth > 0")


def test_a_box_is_drawn_and_searched_and_the_whole_picture_comes_back(window, octopus, shoot):
    page = window(f"/?key={octopus}&cutoff=off")
    ready(page)
    whole = page.locator(CARDS).evaluate_all("cards => cards.map((card) => card.dataset.key + card.dataset.distance)")
    page.get_by_role("button", name="Draw a region").click()
    shoot(page, "region-drawing")
    with page.expect_response(lambda answer: "/v1/search" in answer.url) as answered:
        drag(page, (0.2, 0.1), (0.7, 0.5))
    assert answered.value.request.post_data_json["region"] == pytest.approx([0.2, 0.1, 0.5, 0.4], abs=0.02)
    page.wait_for_url(lambda url: "codes=" in url)
    assert region(page) == pytest.approx([0.2, 0.1, 0.5, 0.4], abs=0.02)
    expect(page.locator("#box")).to_be_visible()
    shoot(page, "region")
    part = page.locator(CARDS).evaluate_all("cards => cards.map((card) => card.dataset.key + card.dataset.distance)")
    assert part != whole
    page.reload()
    ready(page)
    expect(page.locator("#box")).to_be_visible()
    page.get_by_role("button", name="Whole picture").click()
    expect(page.locator("#box")).to_be_hidden()
    assert "region=" not in page.url
    assert "codes=" not in page.url
    page.go_back()
    expect(page.locator("#box")).to_be_visible()


def test_a_box_by_arrow_keys_and_by_numbers(window, octopus):
    page = window(f"/?key={octopus}&cutoff=off")
    ready(page)
    page.keyboard.press("b")
    expect(page.locator("#box")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    expect(page.get_by_label("left", exact=True)).to_have_value("27")
    expect(page.get_by_label("height", exact=True)).to_have_value("52")
    page.get_by_label("top", exact=True).fill("10")
    page.get_by_role("button", name="Search this region").click()
    page.wait_for_url(lambda url: "codes=" in url)
    assert region(page) == pytest.approx([0.27, 0.1, 0.5, 0.52], abs=0.011)


def test_a_region_of_a_picture_of_ones_own_is_sent_with_it(window, collection):
    page = window()
    page.locator("#file").set_input_files(collection.photos[0])
    ready(page)
    page.get_by_role("button", name="Draw a region").click()
    with page.expect_request(lambda asked: "/v1/search?" in asked.url and "region=" in asked.url) as sent:
        drag(page, (0.1, 0.1), (0.6, 0.9))
    assert sent.value.headers["content-type"] == "application/octet-stream"
    expect(page.locator(CARDS).first).to_be_visible()
    expect(page.locator("#box")).to_be_visible()
