"""Proof that a file is what the manifest says, when it is first touched: by its SHA-256, or said aloud that by its size alone."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from encoder.errors import HashgrainError, Reason, unreadable
from encoder.runtime.publish import sha256_of
from indexer.settings import Verify

Prove: TypeAlias = Callable[[str], None]
"""Proves a file to be what its builder wrote, by its name: `Digests.check`."""
QUICK_BYTES: Final = 32 << 20
"""Largest file that `quick` reads: about 20 ms of SHA-256."""
_proven: set[tuple[object, ...]] = set()
"""Device, inode, size, time of the last change and digest of each file that this process has proven: generations share files."""


class Digests:
    """The digests of a generation's files, asked for before a file is mapped first. Safe for several threads.

    Args:
        folder: of the generation.
        files: size and SHA-256 by path in it.
        mode: which files are read.
    """

    def __init__(self, folder: Path, files: Mapping[str, tuple[int, str]], mode: Verify = Verify.QUICK) -> None:
        self._folder, self._files, self._mode = folder, files, mode
        self._by_size: dict[str, int] = {}

    @property
    def unverified(self) -> dict[str, int]:
        """Files that are in use and were checked by their size only, with their bytes."""
        return dict(self._by_size)

    def check(self, name: str) -> None:
        """Prove a file.

        Args:
            name: path in the generation.

        Raises:
            HashgrainError: `index-damaged` when its bytes are not those that were written; `index-missing`, `no-resources` when
                they cannot be read.
        """
        size, digest = self._files[name]
        path = self._folder / name
        if self._mode is Verify.OFF or (self._mode is Verify.QUICK and size > QUICK_BYTES):
            self._by_size[name] = size
            return
        damaged = HashgrainError(
            Reason.INDEX_DAMAGED,
            f"index file {path} is damaged: its bytes do not match its SHA-256; build the index again",
        )
        try:
            status = path.stat()
            known = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, digest)
            if known in _proven:
                return
            found = sha256_of(path)
        except OSError as err:
            raise unreadable(path, err, damaged) from err
        if found != digest:
            raise damaged
        _proven.add(known)
