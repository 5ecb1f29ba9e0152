"""From a phone to a desktop nothing overflows."""

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

STATES = {
    "home": "/",
    "one": "/?key={key}&cutoff=off",
    "all": "/?key={key}&level=all&cutoff=off",
    "hostile": "/?key={key}&cutoff=off&where=label.price+%3E+0",
}


def overflow(page):
    """Return what is wider than the window, and is not inside something that scrolls by itself."""
    return page.evaluate(
        """() => {
            const width = document.documentElement.clientWidth;
            const wide = [...document.querySelectorAll("body *")].filter((e) => {
                if (!e.checkVisibility() || e.closest(".unseen, .column .hits, pre, .sprite, #box")) return false;
                const box = e.getBoundingClientRect();
                return box.width > 0 && (box.right > width + 0.5 || box.left < -0.5);
            });
            const found = wide.map((e) => `${e.tagName}.${e.className.baseVal ?? e.className}#${e.id}`);
            return [document.documentElement.scrollWidth - width, found.slice(0, 5)];
        }"""
    )


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_nothing_overflows(window, octopus, width, shoot):
    page = window(width=width)
    for name, path in STATES.items():
        page.goto(path.format(key=octopus))
        expect(page.locator(".card").first).to_be_visible()
        assert overflow(page) == [0, []], name
        shoot(page, f"{name}-{width}")
    if width < 1000:
        page.locator("#options > summary").click()
        assert overflow(page) == [0, []]
        shoot(page, f"options-{width}")
    page.locator("#share-button").click()
    assert overflow(page) == [0, []]
    page.keyboard.press("Escape")
    page.locator("#help-button").click()
    assert overflow(page) == [0, []]
    shoot(page, f"help-{width}")


@pytest.mark.parametrize("width", [360, 768])
def test_on_a_phone_a_finger_does_everything(window, octopus, width):
    page = window(f"/?key={octopus}&cutoff=off", width=width)
    expect(page.locator("#hits .card").first).to_be_visible()
    page.locator("#options > summary").click()
    page.get_by_role("radio", name="all", exact=True).check()
    expect(page.locator(".column")).to_have_count(4)
    if width == 360:
        row = page.locator(".column .hits").first
        assert row.evaluate("row => row.scrollWidth > row.clientWidth")
        before = row.locator(".card").count()
        row.evaluate("row => row.scrollTo({ left: row.scrollWidth })")
        expect(row.locator(".card").nth(before)).to_be_attached()
        assert (
            row.locator("[data-act=like]").first.evaluate("button => getComputedStyle(button.parentElement).opacity")
            == "1"
        )
