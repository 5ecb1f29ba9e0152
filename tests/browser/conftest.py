import shutil
from importlib.util import find_spec

import pytest

from encoder.levels import Level
from indexer.calibrate import calibrate
from indexer.settings import CalibrateSettings
from tests.support.browsing import SCREENSHOTS, Watch, draw, serve

if find_spec("playwright") is None:  # the extra `browser` is not installed
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def collection(tmp_path_factory):
    """Drawn pictures with an index; some have keys and labels of a stranger."""
    return draw(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="session")
def served(collection):
    """A service over the collection."""
    with serve(collection) as service:
        yield service


@pytest.fixture(scope="session")
def calibrated(collection, tmp_path_factory):
    """A service that knows where chance begins."""
    index = tmp_path_factory.mktemp("calibrated") / "index"
    shutil.copytree(collection.index, index)
    calibrate(index, CalibrateSettings(labels=dict.fromkeys(Level, "class")))
    with serve(collection, "--no-model", index=index) as service:
        yield service


@pytest.fixture(scope="session")
def chromium():
    """The browser of the system: nothing is downloaded."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    assert path, "chromium is not installed: apt install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def window(chromium, served):
    """Open a page: `window(path="/", width=1440, scheme="light", url=None)`; after the test nothing may have gone wrong on any."""
    from playwright.sync_api import expect

    expect.set_options(timeout=15_000)
    opened, watches = [], []

    def open_(path="/", width=1440, scheme="light", url=None):
        phone = width < 600
        context = chromium.new_context(
            viewport={"width": width, "height": 780 if phone else 900},
            color_scheme=scheme,
            has_touch=phone,
            is_mobile=phone,
            base_url=url or served.url,
            permissions=["clipboard-read", "clipboard-write"],
        )
        context.set_default_timeout(15_000)
        opened.append(context)
        page = context.new_page()
        watches.append(Watch(url or served.url))
        watches[-1].attach(page)
        page.watch = watches[-1]
        page.goto(path)
        return page

    yield open_
    for context in opened:
        context.close()
    assert [what for watch in watches for what in watch.unexpected()] == []


@pytest.fixture
def page(window):
    """The page as one comes to it, on a desktop."""
    return window()


@pytest.fixture(scope="session")
def shoot():
    """Take a screenshot: `shoot(page, name)`."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)

    def take(page, name):
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(250)  # what fades in
        page.screenshot(path=SCREENSHOTS / f"{name}.png")

    return take


@pytest.fixture(scope="session")
def octopus(collection):
    """A key of the index whose other views are there, too."""
    return "sea/octopus-00-1"
