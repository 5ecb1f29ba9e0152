"""Files, local ones or anywhere fsspec opens (s3://, gs://, https://, hf://, ...). The only owner of fsspec.

A file's path is text: a path of this machine, or a URL. fsspec is loaded for the first URL; a local file never passes through it.
"""

import errno
import glob
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoder.errors import HashgrainError, Reason, why

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

AHEAD = 8 << 20
"""Bytes read ahead where a file at a URL is read from front to back: few requests, little memory."""
_URL = re.compile(r"([A-Za-z][\w+.:-]*)://")
_WEB = frozenset({"http", "https"})
_OBJECT_STORES = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "ocilake", "oss", "tos", "hf"}
)
"""Schemes of stores in which a file is there when all of it has come, and not before."""
_PAGE = 64 << 20
"""Bytes of an answer that is no part of a file, at most."""
_VERSIONS = ("etag", "generation", "blobid", "sha", "lastmodified", "modified", "modify", "mtime", "updated", "created")
"""What a file system may tell of a file that changes with its content, the surest first; each spells them in its own way."""


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What is known of a file that was not read."""

    size: int
    """In bytes."""
    stamp: str
    """Changes when the file does: its size, and when it was written or what version it is."""


def is_url(path: str) -> bool:
    """Tell a URL from a path of this machine."""
    return _URL.match(path) is not None


def is_pattern(url: str) -> bool:
    """Whether a URL is a glob. Those of web servers may have `?` and `[` in them, which mean other things there."""
    return "*" in url if _scheme(url) in _WEB else glob.has_magic(url)


def parts_of(path: str) -> tuple[str, ...]:
    """Return the folders that lead to a file, outermost first (of a URL, without scheme and query), and its name."""
    if not is_url(path):
        return Path(path).parts
    scheme, _, rest = path.partition("://")
    if scheme in _WEB:
        rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    return tuple(rest.rstrip("/").split("/"))


def open_file(path: str, *, ahead: int = 0) -> io.RawIOBase:
    """Open a file for reading, unbuffered; it can seek.

    Args:
        path: of this machine, or a URL.
        ahead: bytes to read ahead at a URL; 0: each read is a request of just its bytes.

    Raises:
        HashgrainError: `shard-missing` if it cannot be opened, and from a URL's `read` if that fails or ends early.
    """
    if not is_url(path):
        try:
            return open_regular(Path(path)).detach()
        except (OSError, ValueError) as err:
            raise HashgrainError(
                Reason.SHARD_MISSING, f"cannot open {path}: {why(err)}; give a file that can be read"
            ) from err
    system, inside = _file_system(path)
    options = {"block_size": ahead, "cache_type": "readahead"} if ahead else {"cache_type": "none"}
    with _told("open", path):
        file = system.open(inside, "rb", **options)
        size = getattr(file, "size", None)
        if size is None:
            size = system.size(inside)
    if size is None:
        raise HashgrainError(
            Reason.SHARD_MISSING,
            f"cannot read {path}: its server does not tell its size, so that a cut would not be noticed; copy the file here",
        )
    return _RemoteFile(path, file, size)


@contextmanager
def reading(path: str) -> Iterator[io.RawIOBase]:
    """Open a file as `open_file` does, where it has to be read: what its disk refuses until it is closed is told likewise.

    Args:
        path: of this machine, or a URL.

    Raises:
        HashgrainError: `shard-missing` if it cannot be opened or read.
    """
    try:
        with open_file(path) as file:
            yield file
    except OSError as err:
        raise HashgrainError(
            Reason.SHARD_MISSING, f"cannot read {path}: {why(err)}; give a file that can be read"
        ) from err


def open_regular(path: Path, most: int | None = None, *, links: bool = True) -> io.BufferedReader:
    """Open a file of this machine for reading if it is one: no device, no pipe (neither of which is waited for), no folder.

    Args:
        path: of the file.
        most: bytes it may have; None: any number.
        links: whether the last part of the path may be a symbolic link.

    Raises:
        OSError: when it cannot be opened, is not a regular file, or is larger.
        ValueError: for a null character in the path.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    if (refusal := _refusal(path, os.fstat(descriptor), most)) is not None:
        os.close(descriptor)
        raise refusal
    return os.fdopen(descriptor, "rb")


def _refusal(path: Path, status: os.stat_result, most: int | None) -> OSError | None:
    if not stat.S_ISREG(status.st_mode):
        return OSError(errno.EINVAL, "not a regular file", str(path))
    if most is not None and status.st_size > most:
        return OSError(errno.EFBIG, f"{status.st_size:,} bytes, {most:,} at most", str(path))
    return None


def read_regular(path: Path, most: int, *, links: bool = True) -> bytes:
    """Return the bytes of a file of this machine, as `open_regular` opens it; one that grows meanwhile is not followed."""
    with open_regular(path, most, links=links) as file:
        return file.read(most)


def status_of(path: str) -> FileStatus:
    """Return size and stamp of a file; of a URL by one request.

    Raises:
        HashgrainError: `shard-missing` if there is none.
    """
    if not is_url(path):
        try:
            status = Path(path).stat()
        except (OSError, ValueError) as err:
            raise HashgrainError(
                Reason.SHARD_MISSING, f"cannot read {path}: {why(err)}; give a file that can be read"
            ) from err
        return FileStatus(status.st_size, f"{status.st_size}:{status.st_mtime_ns}")
    system, inside = _file_system(path)
    with _told("find", path):
        told = {re.sub(r"[^a-z]", "", name.lower()): value for name, value in system.info(inside).items()}
    size = told.get("size") or 0  # an unknown one is refused when the file is opened
    return FileStatus(size, f"{size}:{next((told[name] for name in _VERSIONS if told.get(name)), '')}")


def absence(path: str | Path) -> str | None:
    """Say why there is nothing at a path of this machine, or None: what a user typed may be no path at all, or be hidden."""
    try:
        Path(path).stat()
    except FileNotFoundError:
        return "it does not exist"
    except (OSError, ValueError) as err:  # too long, a null character, a folder on the way that may not be entered
        return why(err)
    return None


def is_missing(path: str | Path) -> bool:
    """Whether there is nothing at a path of this machine for certain: what is out of reach is not gone."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def exists(path: str | Path) -> bool:
    """Whether there is such a file or folder; any text may be asked for.

    Raises:
        HashgrainError: `shard-missing` for a URL out of reach: nobody knows what is there.
    """
    path = str(path)
    if not is_url(path):
        return absence(path) is None
    try:
        status_of(path)
    except HashgrainError as err:
        if isinstance(err.__cause__, FileNotFoundError) and _is_gone(err.__cause__):
            return False
        raise
    return True


def list_files(url: str) -> list[str]:
    """Return the URLs of the files that a glob matches or a folder holds, deep and sorted.

    Raises:
        HashgrainError: `shard-missing` where nothing can be listed.
    """
    if (scheme := _scheme(url)) in _WEB:
        raise HashgrainError(
            Reason.SHARD_MISSING,
            f"{url} is not a tar, and {scheme}:// cannot be listed; name each tar, a range a-{{000..127}}.tar or @list.txt",
        )
    system, inside = _file_system(url)
    with _told("list", url):
        found = system.glob(inside, detail=True)
        names = [
            name
            for match, info in found.items()
            for name in (system.find(match) if info["type"] == "directory" else [match])
        ]
        whole = url.rstrip("/")
        if (before := whole.removesuffix(inside)) != whole:  # spelled as the user did, a host before the path included
            return sorted(before + name for name in names)
        return sorted(map(system.unstrip_protocol, names))


def forget(url: str) -> None:
    """Let a URL's file system ask anew: it remembers listings, also those of an earlier call.

    Raises:
        HashgrainError: `shard-missing` for an unknown scheme or a driver that is not installed.
    """
    system, _ = _file_system(url)
    with _told("open", url):
        system.invalidate_cache()


def fetch(url: str, path: Path) -> None:
    """Bring all of a file at a URL here.

    Raises:
        HashgrainError: `shard-missing` if it cannot be read.
    """
    system, inside = _file_system(url)
    with _told("read", url):
        system.get_file(inside, str(path))


def put_file(path: Path, url: str, partial: str) -> None:
    """Send a file of this machine to a URL, where it takes the place of one that is there.

    An object store shows a file when all of it has come. Elsewhere it is sent under another name and then renamed, which is as
    atomic as the rename of that file system.

    Args:
        path: of the file.
        url: where it is to be.
        partial: what its name has at its end until it is whole.

    Raises:
        HashgrainError: `write-failed`.
    """
    system, inside = _file_system(url)
    with _told("write", url, Reason.WRITE_FAILED):
        if _scheme(url) in _OBJECT_STORES:
            system.put_file(str(path), inside)
            return
        system.makedirs(inside.rpartition("/")[0], exist_ok=True)
        try:
            system.put_file(str(path), inside + partial)
            system.mv(inside + partial, inside)
        except BaseException:
            with suppress(Exception):  # it may not have come so far; whoever comes first is told
                system.rm_file(inside + partial)
            raise


def remove_url(url: str) -> None:
    """Remove a file at a URL.

    Raises:
        HashgrainError: `write-failed`.
    """
    system, inside = _file_system(url)
    with _told("remove", url, Reason.WRITE_FAILED):
        system.rm_file(inside)


class _RemoteFile(io.RawIOBase):
    """A file at a URL. Whatever its driver raises is told in one line, and so is an end before its size."""

    def __init__(self, url: str, file: Any, size: int) -> None:
        super().__init__()
        self._url, self._file, self._size = url, file, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer).cast("B")
        if not (wanted := min(len(view), max(0, self._size - self._position))):
            return 0
        with _told("read", self._url):
            self._file.seek(self._position)
            data = self._file.read(wanted)
        if not data:
            raise HashgrainError(
                Reason.SHARD_MISSING,
                f"cannot read {self._url}: it ended at byte {self._position:,} of {self._size:,}; run the same command again",
            )
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _scheme(url: str) -> str:
    return url.partition("://")[0]


def _file_system(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path inside."""
    import fsspec

    scheme = _scheme(url)
    if "::" in url:  # a stranger's index could chain file systems that read more than the file it names
        raise HashgrainError(Reason.SHARD_MISSING, f"{url} is a chain of URLs (::); give the URL of one file")
    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError as err:
        raise HashgrainError(
            Reason.SHARD_MISSING,
            f"{url} has the scheme {scheme}, which fsspec does not know; give s3, gs, https, hf, ...",
        ) from err
    except ImportError as err:
        missing = getattr(err.__cause__, "name", None) or "its driver"
        raise HashgrainError(
            Reason.SHARD_MISSING,
            f"{url} takes {missing}, which is not installed ({err}); pip install {missing}, or in hashgrain's folder all "
            "drivers: pip install '.[remote]'",
        ) from err
    with _told("open", url):
        options = {"client_kwargs": {"response_class": _bounded_response()}} if scheme in _WEB else {}
        system, inside = fsspec.url_to_fs(url, **options)
    return system, inside


@cache
def _bounded_response() -> type:
    """Return the class of a web server's answers: no more is taken of one than was asked for, whatever the server sends.

    fsspec takes all of what is called a part, without an end where there is none.
    """
    from aiohttp import ClientResponse

    class Bounded(ClientResponse):
        async def read(self) -> bytes:
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.request_info.headers.get("Range", ""))
            most, body = int(asked[2]) + 1 - int(asked[1]) if asked else _PAGE, bytearray()
            async for chunk in self.content.iter_any():
                body += chunk
                if len(body) > most:
                    self.close()
                    raise ValueError(f"the server sends more than the {most:,} bytes that were asked for")
            self._body = bytes(body)
            return self._body

    return Bounded


def _is_gone(err: FileNotFoundError) -> bool:
    """Whether that is true of the file: http says so of every failure, and only the cause has the server's word."""
    return err.__cause__ is None or getattr(err.__cause__, "status", None) in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}


@contextmanager
def _told(doing: str, url: str, reason: Reason = Reason.SHARD_MISSING) -> Iterator[None]:
    """Make whatever a driver raises one line: each raises what the libraries below it do."""
    try:
        yield
    except Exception as err:
        cause = err.__cause__ or err  # http says "not found" of every failure, and only its cause says which
        why = "there is no such file" if isinstance(cause, FileNotFoundError) else f"{type(cause).__name__}: {cause}"
        raise HashgrainError(
            reason,
            f"cannot {doing} {url}: {why}; check the URL, the access to it and the connection, and run the same command again",
        ) from err
