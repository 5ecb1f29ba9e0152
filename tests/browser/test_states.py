"""States without hits say what happened and what to do; keys and labels of strangers are text and nothing else."""

import re

import pytest
from playwright.sync_api import expect

from encoder.errors import HashgrainError, Reason
from indexer.service.lanes import OverloadedError
from indexer.service.problems import RefusedError
from tests.support.browsing import HOSTILE, KEPT, refusal, serve

pytestmark = pytest.mark.browser

CARDS = "#hits .card"


def test_an_unknown_key_says_so(window, shoot):
    page = window("/?key=nobody")
    page.watch.expected.append("status of 404")
    expect(page.get_by_role("heading", name="There is no such picture")).to_be_visible()
    shoot(page, "key-unknown")
    page.get_by_role("button", name="A random picture").click()
    expect(page.locator(CARDS).first).to_be_visible()


def test_a_file_that_is_no_picture_is_refused_with_the_reason(page, tmp_path, shoot):
    page.watch.expected.append("status of 422")
    text = tmp_path / "notes.jpg"
    text.write_bytes(b"this is not a picture")
    page.locator("#file").set_input_files(text)
    expect(page.get_by_role("heading", name="This is not a picture that can be read")).to_be_visible()
    shoot(page, "rejected")
    text.write_bytes(b"")
    page.locator("#file").set_input_files(text)
    expect(
        page.get_by_role("heading", name="That is not a picture").or_(
            page.get_by_role("heading", name="This file is empty")
        )
    ).to_be_visible()


def test_a_busy_service_is_asked_once_more_after_its_pause(window, octopus, shoot):
    page = window()
    page.watch.expected.append("status of 429")
    times = []

    def busy(route):
        times.append(route.request.url)
        if len(times) <= 1:
            route.fulfill(**refusal(OverloadedError("quick", 1)))
        else:
            route.continue_()

    page.route("**/v1/search", busy)
    page.goto(f"/?key={octopus}&cutoff=off")
    expect(page.get_by_role("heading", name="The service is busy")).to_be_visible()
    shoot(page, "busy")
    expect(page.locator(CARDS).first).to_be_visible()
    assert len(times) == 2
    times[:] = []
    page.unroute("**/v1/search")
    page.route("**/v1/search", lambda route: route.fulfill(**refusal(OverloadedError("quick", 1))))
    page.goto(f"/?key={octopus}&level=mid")
    expect(page.get_by_text("asked a second time")).to_be_visible()
    page.unroute("**/v1/search")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(CARDS).first).to_be_visible()


def test_a_service_that_is_about_to_stop_or_to_start_is_asked_again_by_itself(window, octopus, shoot):
    page = window()
    page.watch.expected.append("status of 503")
    page.route(
        "**/v1/search",
        lambda route: route.fulfill(**refusal(RefusedError(503, "draining", "the service is about to stop"))),
    )
    page.goto(f"/?key={octopus}&cutoff=off")
    expect(page.get_by_role("heading", name="The service is not ready")).to_be_visible()
    shoot(page, "draining")
    page.unroute("**/v1/search")
    expect(page.locator(CARDS).first).to_be_visible()


def test_a_service_that_was_stopped_and_comes_back(window, collection, octopus, shoot):
    with serve(collection, "--no-model") as service:
        page = window(f"/?key={octopus}&cutoff=off", url=service.url)
        page.watch.expected += ["Failed to load resource"]
        expect(page.locator(CARDS).first).to_be_visible()
        service.stop()
        page.get_by_role("radio", name="mid").check()
        expect(page.get_by_role("heading", name="The service does not answer")).to_be_visible()
        shoot(page, "stopped")
    port = int(service.url.rsplit(":", 1)[1])
    with serve(collection, "--no-model", "--port", port):
        expect(page.locator('#hits ul[data-level="mid"] .card').first).to_be_visible(timeout=40_000)
        page.close()  # before its service


@pytest.fixture(scope="module")
def guarded(collection, tmp_path_factory):
    """A service with a token and without a model."""
    token = tmp_path_factory.mktemp("secret") / "token"
    token.write_text("correct horse battery\n")
    with serve(collection, "--no-model", "--token-file", token) as service:
        yield service


def enter(page, token):
    dialog = page.get_by_role("dialog", name="This service asks for its token")
    dialog.get_by_label("Token").fill(token)
    dialog.get_by_role("button", name="Enter").click()
    return dialog


def test_a_token_is_asked_for_and_opens_the_pictures_too(window, guarded, octopus, shoot):
    page = window(f"/?key={octopus}&cutoff=off", url=guarded.url)
    page.watch.expected.append("status of 401")
    expect(page.get_by_role("dialog", name="This service asks for its token")).to_be_visible()
    shoot(page, "token")
    dialog = enter(page, "wrong horse battery!")
    expect(dialog.get_by_role("alert")).to_have_text("That is not its token.")
    enter(page, "correct horse battery")
    expect(page.locator(CARDS).first).to_be_visible()
    page.wait_for_function("document.querySelector('#hits img').naturalWidth > 0")
    page.wait_for_function("document.querySelector('#query-image').naturalWidth > 0")
    page.reload()
    expect(page.locator(CARDS).first).to_be_visible()


def test_without_a_model_pictures_are_not_asked_for(window, guarded, collection, shoot):
    page = window(url=guarded.url)
    page.watch.expected.append("status of 401")
    enter(page, "correct horse battery")
    expect(page.locator("#pick")).to_be_disabled()
    expect(page.locator("#drop-note")).to_contain_text("without a model")
    expect(page.locator("#samples .card").first).to_be_visible()
    shoot(page, "no-model")
    page.locator("#samples a").first.click()
    expect(page.locator("#query-name")).not_to_be_empty()
    expect(page.locator(f"{CARDS}, .message:visible").first).to_be_visible()


def test_a_picture_that_is_gone_has_words_in_its_place(window, octopus, shoot):
    page = window()
    page.watch.expected.append("status of 404")
    gone = refusal(HashgrainError(Reason.SHARD_MISSING, "shard more-0000.tar is not where it was; put it back"))
    page.route(re.compile(r"/v1/thumbnails/"), lambda route: route.fulfill(**gone))
    page.goto(f"/?key={octopus}&cutoff=off")
    expect(page.locator(f"{CARDS} .gone").first).to_contain_text("picture gone")
    shoot(page, "gone")


def test_keys_and_labels_of_a_stranger_are_text_with_escapes(window, shoot):
    page = window("/?like=" + "sea/octopus-00-1" + "&cutoff=off&where=label.price+%3E+0")
    page.goto("/?key=" + "sea/octopus-00-1" + "&cutoff=off&where=label.price+%3E+0")
    expect(page.locator(CARDS)).to_have_count(len(HOSTILE))
    names = page.locator(f"{CARDS} .name").all_inner_texts()
    assert "\\x1b[31mred" in names
    assert "abc\\u202etxt.exe" in names
    assert "<img src=x onerror=alert(1)>" in names
    shoot(page, "hostile")
    for key in KEPT:
        page.evaluate("key => history.replaceState({}, '', '/?cutoff=off&key=' + encodeURIComponent(key))", key)
        page.reload()
        expect(page.locator(CARDS).first).to_be_visible()
        page.locator("#share-button").click()
        expect(page.locator("#phrases pre").first).to_be_visible()
        raw = page.evaluate("document.documentElement.outerHTML + document.title + document.body.innerText")
        assert not re.search(
            "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", re.sub(r'(?:href|data-key)="[^"]*"', "", raw)
        )
        assert page.locator("img[onerror], b:text('abc')").count() == 0
        page.keyboard.press("Escape")


def test_only_text_is_ever_written_into_the_page():
    from tests.support.browsing import ROOT

    written = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|eval\(|new Function|javascript:|DOMParser|createContextualFragment"
    )
    scripts = sorted((ROOT / "indexer/service/page").glob("*.js"))
    assert len(scripts) > 10
    assert [(script.name, found) for script in scripts for found in written.findall(script.read_text())] == []
    html = (ROOT / "indexer/service/page/index.html").read_text()
    assert not re.search(r"\son\w+=|style=|<script(?! type=\"module\" src=)", html)
