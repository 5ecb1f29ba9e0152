"""Where pictures may be read from. An index names the shards of its rows, and a stranger's may name any file, or any URL.

An index that this user built shows the pictures of its shards. Of any other, only pictures below folders that the user names
are read, and at URLs only by schemes that the user names. Nothing inside an index can say who built it, so the digests of the
manifests that a user made are kept with the user: in `$XDG_STATE_HOME/hashgrain/made`, a line each.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from encoder.errors import HashgrainError, Reason
from encoder.runtime.files import is_url

KEPT: Final = 100_000
"""Digests that are remembered, at most: 6.5 MB."""


@dataclass(frozen=True, slots=True)
class Roots:
    """Places that pictures may be read from."""

    folders: tuple[str, ...] = ()
    """Real paths."""
    schemes: frozenset[str] = frozenset()
    """Of URLs, lower case."""
    own: bool = False
    """All that the index names: this user built it."""

    @classmethod
    def named(cls, folders: Iterable[str | os.PathLike[str]], schemes: Iterable[str]) -> "Roots":
        """Return roots that a user named."""
        return cls(
            tuple(os.path.realpath(folder) for folder in folders),
            frozenset(scheme.lower().removesuffix("://") for scheme in schemes),
        )

    def check(self, shard: str, file: str) -> None:
        """Refuse a place that nobody allowed.

        Args:
            shard: its path or URL, as an index names it.
            file: what is to be opened for it: the shard, or a file below it.

        Raises:
            HashgrainError: `not-allowed`.
        """
        if self.own:
            return
        if is_url(shard):
            if (scheme := shard.partition("://")[0].lower()) not in self.schemes:
                raise _refused(
                    shard, f"and pictures at {scheme}:// are not allowed; allow the scheme if you trust the index"
                )
            return
        try:
            real = os.path.realpath(file)
        except ValueError:  # a null character
            real = ""
        if not any(_is_below(real, folder) for folder in self.folders):
            raise _refused(
                file, "and it does not lie below a folder that pictures may be read from; name the folder of its shards"
            )


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _refused(place: str, why: str) -> HashgrainError:
    return HashgrainError(
        Reason.NOT_ALLOWED, f"{place} was not read: it is not known that you built the index that names it, {why}"
    )


def remember(digest: str) -> None:
    """Remember that this user made a manifest, where the user's folder can be written to."""
    with suppress(OSError):
        path = _made()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "a", encoding="ascii") as file:
            file.write(f"{digest}\n")
        lines = path.read_text("ascii").splitlines()
        if len(lines) > KEPT:
            short = path.with_name(f"{path.name}.{os.getpid()}")
            short.write_text("\n".join(lines[-KEPT // 2 :]) + "\n", "ascii")
            short.chmod(0o600)
            short.replace(path)


def is_remembered(digest: str) -> bool:
    """Whether this user made a manifest."""
    path = _made()
    try:
        there = path.stat()
        return there.st_uid == os.geteuid() and _holds(path, there.st_mtime_ns, there.st_size, digest)
    except (OSError, ValueError):
        return False


@lru_cache(maxsize=64)
def _holds(path: Path, modified: int, size: int, digest: str) -> bool:  # noqa: ARG001 - a file of other times is another file
    return digest in path.read_text("ascii").splitlines()


def _made() -> Path:
    home = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(home) if home.startswith("/") else Path.home() / ".local" / "state"
    return folder / "hashgrain" / "made"
