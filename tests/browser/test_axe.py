"""axe-core finds nothing serious in any state, light and dark."""

import pytest
from playwright.sync_api import expect

from indexer.service.lanes import OverloadedError
from indexer.service.problems import RefusedError
from tests.support.browsing import refusal, serious

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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 360])
def test_nobody_is_kept_out_where_there_is_no_answer(window, calibrated, octopus, scheme, width, shoot):
    page = window("/", width, scheme, calibrated.url)
    page.watch.expected += ["status of 4(01|29)", "status of 503", "ERR_INTERNET_DISCONNECTED"]

    def check(name):
        assert serious(page) == [], name
        shoot(page, f"axe-{name}-{width}-{scheme}")

    def refused(name, title, err):
        page.route("**/v1/search", lambda route: route.fulfill(**refusal(err)))
        page.goto(f"/?key={octopus}&cutoff=off")
        expect(page.get_by_role("heading", name=title)).to_be_visible()
        check(name)
        page.unroute("**/v1/search")

    refused("busy", "The service is busy", OverloadedError("quick", 30))
    refused("draining", "The service is not ready", RefusedError(503, "draining", "the service is going away"))
    page.goto(f"/?key={octopus}&level=fine&cutoff=0.1&where=label.price+%3E+0")
    expect(page.get_by_role("heading", name="Nothing similar")).to_be_visible()
    check("nothing-similar")
    page.goto(f"/?key={octopus}&cutoff=off")
    expect(page.locator("#hits .card").first).to_be_visible()
    page.wait_for_load_state("networkidle")
    page.context.set_offline(True)
    page.locator("body").press("2")
    expect(page.get_by_role("heading", name="The service does not answer")).to_be_visible()
    assert serious(page) == [], "offline"
    page.context.set_offline(False)
    expect(page.locator("#message")).to_be_hidden()
    closed = RefusedError(401, "token-missing", "the token of this service is missing or wrong")
    page.route("**/v1/**", lambda route: route.fulfill(**refusal(closed)))
    page.goto(f"/?key={octopus}")
    dialog = page.get_by_role("dialog", name="This service asks for its token")
    expect(dialog).to_be_visible()
    check("token")
    dialog.get_by_label("Token").fill("wrong horse battery!")
    dialog.get_by_role("button", name="Enter").click()
    expect(dialog.get_by_role("alert")).to_be_visible()
    check("token-wrong")
