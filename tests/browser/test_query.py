"""Ways to ask: a file, the clipboard, a drop, a key, a random picture, a click on a hit."""

import base64

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

CARDS = "#hits .card"


def transfer(page, path, kind):
    """Let a file come in by an event that has a DataTransfer."""
    data = base64.b64encode(path.read_bytes()).decode()
    page.evaluate(
        """([data, name, kind]) => {
            const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
            const holder = new DataTransfer();
            holder.items.add(new File([bytes], name, { type: "image/jpeg" }));
            const event = kind === "paste"
                ? new ClipboardEvent("paste", { clipboardData: holder, bubbles: true, cancelable: true })
                : new DragEvent(kind, { dataTransfer: holder, bubbles: true, cancelable: true });
            document.body.dispatchEvent(event);
        }""",
        [data, path.name, kind],
    )


def test_the_first_screen_says_what_can_be_done_and_offers_pictures_to_begin_with(page, shoot):
    expect(page.locator("#samples .card")).to_have_count(18)
    expect(page.get_by_role("button", name="Drop a picture here")).to_be_visible()
    expect(page.locator("#side")).to_be_hidden()
    shoot(page, "home")
    page.locator("#samples a").first.click()
    expect(page.locator(CARDS).first).to_be_visible()
    assert "key=" in page.url


def test_a_file_is_uploaded_once_and_its_codes_stand_in_the_address(page, collection, shoot):
    photo = next(path for path in collection.photos if "octopus" in path.name)
    sent = []
    page.on("request", lambda asked: sent.append(asked) if "/v1/search" in asked.url else None)
    page.locator("#file").set_input_files(photo)
    expect(page.locator(CARDS).first).to_be_visible()
    expect(page.locator("#query-name")).to_have_text(photo.name)
    assert "codes=fine:" in page.url
    page.get_by_role("radio", name="fine").check()
    expect(page.locator('#hits ul[data-level="fine"]')).to_be_visible()
    page.reload()
    expect(page.locator('#hits ul[data-level="fine"] .card').first).to_be_visible()
    expect(page.locator("#query-image")).to_have_js_property("complete", True)
    assert page.locator("#query-image").evaluate("image => image.naturalWidth") > 0, "the browser kept the picture"
    kinds = [asked.headers["content-type"] for asked in sent]
    assert kinds[0] == "application/octet-stream"
    assert set(kinds[1:]) == {"application/json"}
    shoot(page, "upload")


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_a_picture_comes_in_by_the_clipboard_and_by_a_drop(page, collection, kind):
    if kind == "drop":
        transfer(page, collection.photos[0], "dragenter")
        expect(page.locator("#curtain")).to_be_visible()
    transfer(page, collection.photos[0], kind)
    expect(page.locator(CARDS).first).to_be_visible()
    expect(page.locator("#curtain")).to_be_hidden()
    assert "codes=" in page.url


def test_a_dropped_address_is_not_fetched_and_the_page_says_what_to_do(page):
    page.evaluate(
        """() => {
            const holder = new DataTransfer();
            holder.setData("text/uri-list", "http://example.com/cat.jpg");
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: holder, bubbles: true, cancelable: true }));
        }"""
    )
    expect(page.get_by_role("alert").filter(has_text="fetches none")).to_be_visible()


def test_a_key_and_a_random_picture_can_be_asked_for(page, octopus):
    page.keyboard.press("/")
    page.keyboard.type(octopus)
    page.keyboard.press("Enter")
    expect(page.locator("#query-name")).to_have_text(octopus)
    first = page.url
    page.get_by_role("button", name="Random").click()
    expect(page.locator("#query-name")).not_to_have_text(octopus)
    expect(page.locator(CARDS).first).to_be_visible()
    assert page.url != first


def test_each_level_or_all_side_by_side(window, octopus, shoot):
    page = window(f"/?key={octopus}")
    expect(page.locator('#hits ul[data-level="fused"] .card').first).to_be_visible()
    shoot(page, "grid")
    page.keyboard.press("0")
    expect(page.locator(".column")).to_have_count(4)
    for level in ("fine", "mid", "coarse", "fused"):
        expect(page.locator(f'.column ul[data-level="{level}"] .card').first).to_be_visible()
    shoot(page, "page")
    page.locator(".column").nth(1).get_by_role("button", name="mid").click()
    expect(page.locator('#hits ul[data-level="mid"]')).to_be_visible()
    assert "level=mid" in page.url


def test_labels_that_a_hit_has_in_common_with_the_query_are_marked(window, octopus):
    page = window(f"/?key={octopus}&where=label.class_name+%3D+%27octopus%27&cutoff=off")
    expect(page.locator(CARDS).first).to_be_visible()
    expect(page.locator(".label.shared").filter(has_text="octopus").first).to_be_visible()
    assert page.locator(f"{CARDS}.all, {CARDS}.some").count() == page.locator(CARDS).count()


def test_more_hits_come_while_one_scrolls_and_the_end_says_so(window, octopus):
    page = window(f"/?key={octopus}&cutoff=off&where=label.instance+%3C+200")
    expect(page.locator(CARDS).first).to_be_visible()
    total = int(page.locator("#summary span").first.inner_text().split()[0].replace(",", ""))
    assert total > 60
    for _ in range(40):
        page.mouse.wheel(0, 4000)
        page.wait_for_timeout(100)
        if page.locator("#end").is_visible():
            break
    expect(page.locator("#end")).to_be_visible()
    keys = page.locator(CARDS).evaluate_all("cards => cards.map((card) => card.dataset.key)")
    assert len(keys) == len(set(keys)) == total


def test_hits_can_be_walked_by_arrows_and_searched_from_by_enter(window, octopus):
    page = window(f"/?key={octopus}&cutoff=off")
    expect(page.locator(CARDS).first).to_be_visible()
    page.locator(f"{CARDS} a.frame").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    focused = page.evaluate("document.activeElement.closest('.card').dataset.key")
    assert focused == page.locator(CARDS).nth(1).get_attribute("data-key")
    page.keyboard.press("Enter")
    expect(page.locator("#query-name")).to_have_text(focused)
