"""A service in a process of its own, as a user starts it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SECONDS = 180
"""Until a service is ready: the first search on a machine compiles."""


@dataclass
class Service:
    """A process that serves."""

    process: "subprocess.Popen[str]"
    port: int

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request; return status, headers by lower-case name, and body. What is no bytes goes as JSON."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body, sent["Content-Type"] = json.dumps(body), "application/json"
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def search(self, **asked: Any) -> dict[str, Any]:
        """Return the answer of a query that has one."""
        status, _, body = self.ask("POST", "/v1/search", asked)
        assert status == 200, body
        answer: dict[str, Any] = json.loads(body)
        return answer

    @property
    def memory(self) -> int:
        """Bytes that are resident and of no file."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.findall(r"RssAnon:\s+(\d+)", status)[0])

    def stop(self) -> tuple[int, str]:
        """Ask it to end; return its exit code and the rest of stderr."""
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@contextmanager
def serving(index: Path, *arguments: object, ready: bool = True) -> Iterator[Service]:
    """Serve an index on a free port, and wait until it is ready."""
    command = [sys.executable, "-m", "indexer", "serve", index, "--port", 0, *arguments]
    process = subprocess.Popen(
        list(map(str, command)),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        lines = list[str]()
        while not (found := re.search(r"http://[^:]+:(\d+)/", lines[-1] if lines else "")):
            lines.append(process.stderr.readline())
            assert lines[-1], "".join(lines)
        service = Service(process, int(found[1]))
        deadline = time.monotonic() + SECONDS
        while ready and service.ask("GET", "/readyz")[0] != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield service
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
