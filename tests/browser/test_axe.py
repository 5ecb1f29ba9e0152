"""axe-core finds nothing serious in any state, light and dark."""

import pytest
from playwright.sync_api import expect

from tests.support.browsing import serious

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 360])
def test_nobody_is_kept_out(window, octopus, scheme, width, shoot):
    page = window(scheme=scheme, width=width)
    page.watch.expected.append("status of 404")
    for name, path in {
        "home": "/",
        "one": f"/?key={octopus}&cutoff=off&like=sea/whale-00-1",
        "all": f"/?key={octopus}&level=all",
        "filtered": f"/?key={octopus}&cutoff=off&where=label.kind_name+%3D+%27sea%27",
        "unknown": "/?key=nobody",
        "nothing": f"/?key={octopus}&level=fine&radius=0",
    }.items():
        page.goto(path)
        expect(page.locator(".card:visible, .message:visible").first).to_be_visible()
        page.wait_for_load_state("networkidle")
        if width < 1000 and page.locator("#options > summary").is_visible():
            page.locator("#options > summary").click()
        assert serious(page) == [], name
        shoot(page, f"axe-{name}-{width}-{scheme}")
    page.goto(f"/?key={octopus}&cutoff=off")
    expect(page.locator("#hits .card").first).to_be_visible()
    for button in ("#share-button", "#help-button"):
        page.locator(button).click()
        assert serious(page) == [], button
        page.keyboard.press("Escape")
