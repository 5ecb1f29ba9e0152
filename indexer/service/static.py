"""The files of the page, read once at start: no path of a request ever reaches the disk."""

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from indexer.service.problems import RefusedError

FOLDER: Final = Path(__file__).parent / "page"
INDEX: Final = "index.html"
TYPES: Final = MappingProxyType(
    {
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
        ".png": "image/png",
        ".ico": "image/x-icon",
        ".webmanifest": "application/manifest+json",
    }
)


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file."""

    content: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, path: Path) -> "PageFile":
        """Read one."""
        content = path.read_bytes()
        return cls(content, TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


class Page:
    """The files of a folder, by name."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = {
            path.name: PageFile.of(path) for path in sorted(folder.glob("*")) if PurePath(path).suffix in TYPES
        }

    def answer(self, request: Request, name: str = INDEX) -> Response:
        """Return a file.

        Raises:
            RefusedError: 404.
        """
        file = self._files.get(name)
        if file is None:
            raise RefusedError(404, "not-found", f"page file {name[:80]!r}; expected one of those that the page names")
        headers = {"ETag": file.etag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == file.etag:
            return Response(None, 304, headers)
        return Response(file.content, 200, headers, file.media_type)
