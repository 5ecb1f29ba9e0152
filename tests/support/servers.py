"""A web server on this machine for tests, with byte ranges as object stores have them."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class FileServer(ThreadingHTTPServer):
    """Serves `files`, and misbehaves as it is told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        """Content by path, which begins with a slash."""
        self.requests: list[tuple[str, str, str]] = []
        """Method, path and range of each request, the latest last."""
        self.dies_at: int | None = None
        """Byte of a file where connections break; None: never."""
        self.knows_ranges = self.tells_sizes = True
        self.lets_in = True

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that leave early."""


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        path, wanted = urlsplit(self.path).path, self.headers.get("Range", "")
        self.server.requests.append((self.command, path, wanted))
        if not self.server.lets_in:
            self.send_error(403)
            return
        if (data := self.server.files.get(path)) is None:
            self.send_error(404)
            return
        start, end = 0, len(data)
        if self.server.knows_ranges and (match := re.fullmatch(r"bytes=(\d+)-(\d+)", wanted)):
            start, end = int(match[1]), min(int(match[2]) + 1, len(data))
            if start >= end:
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        else:
            self.send_response(200)
        if self.server.tells_sizes:
            self.send_header("Content-Length", str(end - start))
        self.send_header("ETag", f'"{hashlib.md5(data).hexdigest()}"')
        self.end_headers()
        if with_body:
            cut = self.server.dies_at
            self.wfile.write(data[start : end if cut is None else max(start, min(end, cut))])


@contextmanager
def serving() -> Iterator[FileServer]:
    """Run a server until the block ends."""
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
