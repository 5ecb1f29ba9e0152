"""The page needs nothing but its service."""

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

CARDS = "#hits .card"


def test_the_page_works_where_nothing_but_its_service_can_be_reached(chromium, served, octopus):
    context = chromium.new_context(base_url=served.url)
    foreign = []

    def only_own(route):
        if route.request.url.startswith(served.url):
            route.continue_()
        else:
            foreign.append(route.request.url)
            route.abort()

    context.route("**/*", only_own)
    page = context.new_page()
    page.goto(f"/?key={octopus}&level=all&cutoff=off")
    expect(page.locator(CARDS).first).to_be_visible()
    page.goto("/")
    expect(page.locator("#samples .card").first).to_be_visible()
    assert foreign == []
    context.close()


def test_offline_it_says_so_and_goes_on_by_itself_when_the_network_is_back(window, octopus, shoot):
    page = window(f"/?key={octopus}&cutoff=off")
    page.watch.expected.append("ERR_INTERNET_DISCONNECTED")
    expect(page.locator(CARDS).first).to_be_visible()
    page.wait_for_load_state("networkidle")
    page.context.set_offline(True)
    page.get_by_role("radio", name="mid").check()
    expect(page.get_by_role("heading", name="The service does not answer")).to_be_visible()
    page.context.set_offline(False)
    expect(page.locator('#hits ul[data-level="mid"] .card').first).to_be_visible()
    expect(page.locator("#message")).to_be_hidden()
