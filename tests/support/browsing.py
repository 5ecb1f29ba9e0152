"""A service in a process of its own over a drawn collection, and what a page must never do while a browser shows it."""

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError
from encoder.images.expand import expand
from encoder.model.builtin import BUILTIN
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings
from indexer.build import build
from indexer.service.lanes import OverloadedError
from indexer.service.problems import RefusedError, problem
from indexer.settings import BuildSettings
from pipelines.drawn.collection import draw_shards

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "build/screenshots"
SECONDS = 120
"""Until a service is ready: the first search on a machine compiles."""
HOSTILE = ("\x1b[31mred", "abc\u202etxt.exe", "<img src=x onerror=alert(1)>", "'; drop table--", "a\x9bb\u2066c")
"""Keys of a stranger's collection."""
KEPT = tuple(key.replace("\x1b", "\\x1b") for key in HOSTILE)
"""As the index has them."""


@dataclass(frozen=True)
class Collection:
    """Drawn pictures, and an index of them."""

    folder: Path

    @property
    def index(self) -> Path:
        return self.folder / "index"

    @property
    def photos(self) -> list[Path]:
        """Pictures that are not in the index, as files."""
        return sorted((self.folder / "shards/queries").rglob("*.jpg"))


def draw(folder: Path) -> Collection:
    """Draw, encode with the built-in model, and build."""
    shards = folder / "shards"
    draw_shards(shards, instances=3, views=5)
    _write_hostile(shards / "more/hostile.tar")
    encode(expand([str(shards / "train"), str(shards / "more")]), BUILTIN, folder / "codes", EncodeSettings())
    build(list_code_files([folder / "codes"]), folder / "index", BuildSettings())
    return Collection(folder)


def _write_hostile(path: Path) -> None:
    """Pictures whose keys and labels are markup, control characters and turned text."""
    with tarfile.open(path, "w") as tar:
        for number, key in enumerate(HOSTILE):
            labels = {"kind_name": key, "note": f"</script><b>{key}", "tags": ["=1+1", key], "price": number + 0.5}
            for suffix, data in ((".jpg", _square(number)), (".json", json.dumps(labels).encode())):
                member = tarfile.TarInfo(key + suffix)
                member.size = len(data)
                tar.addfile(member, BytesIO(data))


def _square(number: int) -> bytes:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (128, 96), (40 * number, 90, 200 - 30 * number))
    ImageDraw.Draw(image).rectangle((20 + 8 * number, 20, 90, 70), fill=(250, 240, 30 * number))
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@dataclass(frozen=True)
class Served:
    """A service that runs."""

    url: str
    process: "subprocess.Popen[str]"

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


@contextmanager
def serve(collection: Collection, *options: object) -> Iterator[Served]:
    """Run `indexer serve` on any free port until the block ends."""
    command = [sys.executable, "-m", "indexer", "serve", str(collection.index), "--port", "0", *map(str, options)]
    command += ["--images-under", str(collection.folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as process:
        try:
            yield Served(_url(process), process)
        finally:
            process.kill()


def _url(process: "subprocess.Popen[str]") -> str:
    said = ""
    assert process.stderr
    for line in process.stderr:
        said += line
        if found := re.search(r"https?://[^\s;]+", line):
            url = found[0].rstrip("/")
            _wait(url, process)
            return url
    raise AssertionError(f"the service did not start: {said}")


def _wait(url: str, process: "subprocess.Popen[str]") -> None:
    """Wait until the index and the model are loaded."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz") as answer:
                answer.read()
                return
        except OSError:  # 503, or nobody listens yet
            time.sleep(0.1)
    raise AssertionError(f"{url} is not ready after {SECONDS} s")


@dataclass
class Watch:
    """What went wrong on a page, but for what a test expects."""

    origin: str
    expected: list[str] = field(default_factory=list)
    """Regular expressions of console errors that belong to a test."""
    found: list[str] = field(default_factory=list)

    def attach(self, page: Any) -> None:
        page.on(
            "console", lambda said: self._say(f"console: {said.text}") if said.type in {"error", "warning"} else None
        )
        page.on("pageerror", lambda err: self._say(f"page error: {err}"))
        page.on("request", lambda asked: self._request(asked.url))
        page.on("dialog", self._dialog)

    def _request(self, url: str) -> None:
        if not url.startswith((self.origin + "/", "data:", f"blob:{self.origin}/")):
            self._say(f"foreign request: {url}")

    def _dialog(self, dialog: Any) -> None:
        self._say(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _say(self, what: str) -> None:
        self.found.append(what)

    def unexpected(self) -> list[str]:
        return [what for what in self.found if not any(re.search(one, what) for one in self.expected)]


def refusal(err: HashgrainError | RefusedError | OverloadedError) -> Mapping[str, Any]:
    """Return a refusal as the service makes it, for a route of the browser."""
    response = problem(err)
    return {"status": response.status_code, "headers": dict(response.headers), "body": bytes(response.body)}


def serious(page: Any) -> list[str]:
    """Return what axe-core finds that keeps people out."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
        for one in found
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"]
    ]
