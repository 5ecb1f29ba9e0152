"""Where the code files of a run are: a folder, or a URL that fsspec writes to.

An object store has neither locks nor renames. It needs none: a file appears there when all of it has come, and two runs that make
the same codes put the same bytes.
"""

import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from encoder.codes.file import SUFFIX, CodeFile, list_code_files, open_codes
from encoder.codes.header import ShardRecord
from encoder.errors import HashgrainError, Reason, why
from encoder.images.shards import relative_to
from encoder.runtime import durable
from encoder.runtime.files import fetch, is_url, list_files, put_file, remove_url
from encoder.runtime.publish import PARTIAL, exclusive, sha256_of, write_failed


class FolderStore:
    """A folder, of this machine or of all."""

    readers: Final = None
    """Threads that read several code files fastest: one per core, since a digest is computed of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def held(self) -> AbstractContextManager[None]:
        """Hold it for one writing process, as `exclusive` does."""
        return exclusive(self.folder)

    def names(self) -> list[str]:
        """Return the names of the shards that have a code file, sorted."""
        return [path.name.removesuffix(SUFFIX) for path in sorted(self.folder.glob(f"*{SUFFIX}"))]

    def has(self, name: str) -> bool:
        """Whether a shard has a code file."""
        return self._path(name).exists()

    def where(self, name: str) -> str:
        """Return the place of a code file, as messages show it."""
        return str(self._path(name))

    @contextmanager
    def opened(self, name: str, *, proven: bool = False) -> Iterator[CodeFile]:
        """Open a code file, as `open_codes` does."""
        with open_codes(self._path(name), proven=proven) as file:
            yield file

    @contextmanager
    def local(self, names: Sequence[str]) -> Iterator[list[Path]]:
        """Lend paths of this machine under which code files are, for as long as the context lasts."""
        yield [self._path(name) for name in names]

    def sha256(self, name: str) -> str | None:
        """Return the SHA-256 of a model file; None: it is not there.

        Raises:
            HashgrainError: `model-invalid`.
        """
        path = self.folder / name
        try:
            return sha256_of(path) if path.exists() else None
        except OSError as err:
            raise HashgrainError(
                Reason.MODEL_INVALID, f"model file {path} could not be read ({why(err)}); choose another folder"
            ) from err

    def get(self, name: str, _: Path) -> Path:
        """Return where a file that is not a code file can be read."""
        return self.folder / name

    def put(self, file: Path, name: str | None = None) -> None:
        """Take a copy of a file that was written elsewhere; it appears whole, whoever else writes it.

        Raises:
            HashgrainError: `write-failed`.
        """
        path = self.folder / (name or file.name)
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")  # of nobody else on any machine
        try:
            try:
                shutil.copyfile(file, partial)
                durable.sync_file(partial)
                durable.rename(partial, path)
            finally:
                partial.unlink(missing_ok=True)
            durable.sync_folder(self.folder)
        except OSError as err:
            raise write_failed(path, err) from err

    def remove(self, names: Sequence[str]) -> None:
        """Remove code files.

        Raises:
            HashgrainError: `write-failed`.
        """
        try:
            for name in names:
                self._path(name).unlink()
            if names:
                durable.sync_folder(self.folder)
        except OSError as err:
            raise write_failed(self.folder, err) from err

    def found(self, record: ShardRecord) -> str:
        """Return where the shard of a code file is."""
        return record.found_from(self.folder)

    def relative(self, path: str) -> str | None:
        """Return the path of a shard from here, where both may move together."""
        return relative_to(self.folder, path)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"


class UrlStore:
    """A place that fsspec writes to: nobody holds it, and a code file is read by bringing all of it here.

    Args:
        url: of what holds the code files.
    """

    readers: Final = 16
    """Threads that read several code files fastest: each waits for an answer most of the time."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._there: set[str] | None = None

    def __str__(self) -> str:
        return self.url

    @contextmanager
    def held(self) -> Iterator[None]:
        """Do nothing: there are no locks at URLs."""
        yield

    def names(self) -> list[str]:
        """Return the names of the shards that have a code file, sorted; the store is asked once."""
        return sorted(self._listed())

    def has(self, name: str) -> bool:
        """Whether a shard has a code file."""
        return name in self._listed()

    def where(self, name: str) -> str:
        """Return the place of a code file, as messages show it."""
        return f"{self.url}/{name}{SUFFIX}"

    @contextmanager
    def opened(self, name: str, *, proven: bool = False) -> Iterator[CodeFile]:
        """Open a copy of a code file; `proven` or not, what came is proven."""
        del proven
        with self.local([name]) as (path,):
            try:
                with open_codes(path) as file:
                    yield file
            except HashgrainError as err:
                raise HashgrainError(err.reason, str(err).replace(str(path), self.where(name))) from err

    @contextmanager
    def local(self, names: Sequence[str]) -> Iterator[list[Path]]:
        """Bring code files here for as long as the context lasts; one that is gone meanwhile is left out."""
        with tempfile.TemporaryDirectory(prefix="hashgrain-") as scratch:
            paths = [Path(scratch) / f"{name}{SUFFIX}" for name in names]
            for name, path in zip(names, paths, strict=True):
                fetch(self.where(name), path)
            yield paths

    def sha256(self, name: str) -> str | None:
        """Return the SHA-256 of a file that is not a code file; None: it is not there."""
        with tempfile.TemporaryDirectory(prefix="hashgrain-") as scratch:
            if not list_files(f"{self.url}/{name}*"):
                return None
            return sha256_of(self.get(name, Path(scratch)))

    def get(self, name: str, folder: Path) -> Path:
        """Bring a file that is not a code file into a folder, and return its path."""
        fetch(f"{self.url}/{name}", folder / name)
        return folder / name

    def put(self, file: Path, name: str | None = None) -> None:
        """Take a copy of a file; it appears whole, whoever else writes it.

        Raises:
            HashgrainError: `write-failed`.
        """
        put_file(file, f"{self.url}/{name or file.name}", f".{uuid.uuid4().hex}{PARTIAL}")
        if self._there is not None and file.name.endswith(SUFFIX):
            self._there.add(file.name.removesuffix(SUFFIX))

    def remove(self, names: Sequence[str]) -> None:
        """Remove code files."""
        for name in names:
            remove_url(self.where(name))
            self._listed().discard(name)

    def found(self, record: ShardRecord) -> str:
        """Return where the shard of a code file is."""
        return record.path

    def relative(self, _: str) -> str | None:
        """Nothing moves together with a URL."""
        return None

    def _listed(self) -> set[str]:
        if self._there is None:
            found = list_files(f"{self.url}/*{SUFFIX}")
            self._there = {url.rpartition("/")[2].removesuffix(SUFFIX) for url in found}
        return self._there


@contextmanager
def code_files_at(places: Sequence[str], beside: str) -> Iterator[list[Path]]:
    """List code files, and bring those at URLs to the local disk for as long as the context lasts.

    Args:
        places: code files, folders, or URLs of what holds code files.
        beside: name of a file that is brought along where it lies beside them.

    Raises:
        HashgrainError: `codes-missing`, as `list_code_files`; `shard-missing` for a URL out of reach.
    """
    with ExitStack() as stack:
        here = []
        for place in places:
            if is_url(place):
                store = UrlStore(place)
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=SCRATCH)))
                with ThreadPoolExecutor(store.readers) as pool:
                    list(
                        pool.map(
                            lambda name, to=folder, at=store: fetch(at.where(name), to / f"{name}{SUFFIX}"),
                            store.names(),
                        )
                    )
                if list_files(f"{store}/{beside}*"):
                    store.get(beside, folder)
                here.append(folder)
            else:
                here.append(Path(place))
        yield list_code_files(here)


CodeStore: TypeAlias = FolderStore | UrlStore
SCRATCH: Final = "hashgrain-codes-"
"""What the names of folders begin with in which code files are written before they are put to where they stay."""


def store_at(place: Path | str) -> CodeStore:
    """Return the store at a path or URL."""
    return UrlStore(str(place)) if is_url(str(place)) else FolderStore(Path(place))


@contextmanager
def written_in(store: CodeStore, *, aside: bool) -> Iterator[tuple[Path, CodeStore | None]]:
    """Lend the folder in which code files of a store are written, and the store if they are to be put there afterwards.

    Args:
        store: where code files are in the end.
        aside: whether they are written elsewhere even if they could be written there: others may write the same ones.
    """
    if isinstance(store, FolderStore) and not aside:
        yield store.folder, None
        return
    with tempfile.TemporaryDirectory(prefix=SCRATCH) as scratch:
        yield Path(scratch), store
