"""The first hits are painted soon after the answer came."""

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

MOST_MS = 300


@pytest.mark.parametrize("level", ["fused", "all"])
def test_hits_are_painted_within_300_ms_of_the_answer(window, octopus, level):
    page = window()
    taken = []
    for view in range(5):
        page.goto(f"/?key={octopus.removesuffix('1')}{view}&level={level}&cutoff=off")
        expect(page.locator("#hits .card").first).to_be_visible()
        page.wait_for_function("performance.getEntriesByName('painted').length > 0")
        taken.append(page.evaluate("performance.getEntriesByName('painted')[0].duration"))
    assert sorted(taken)[1] <= MOST_MS, taken  # what else the machine does can only add to it
