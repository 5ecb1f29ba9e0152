"""A new state of an index: written whole beside the old one, then made current at once; and old ones that go."""

import errno
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from encoder.errors import HashgrainError, Reason
from encoder.images.roots import is_remembered, remember
from encoder.runtime import durable
from encoder.runtime.publish import PARTIAL, remove_unused, sha256_of, write_failed
from indexer.settings import KEEP
from indexer.storage.current import (
    MANIFEST,
    check_sizes,
    generations,
    name_of_next,
    number_of,
    read_current,
    read_manifest,
    write_manifest,
    write_pointer,
)
from indexer.storage.manifest import HISTORY, Change, Manifest, SegmentRecord
from indexer.storage.segment import Segment

Files = Mapping[str, tuple[int, str]]
"""Size and SHA-256 by path in a generation, as in `Manifest.files`."""
_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


class NextGeneration:
    """A generation that is being written; use `next_generation`.

    Args:
        index: folder of the index, which the caller holds.
        base: folder and manifest of the generation whose files are taken over where they are not written anew; None: none are.
    """

    def __init__(self, index: Path, base: tuple[Path, Manifest] | None) -> None:
        self._index, self._base = index, base
        self.name = name_of_next(index)  # whose number is that of no generation that was ever named
        if base is not None:
            gc(index, sys.maxsize)  # one that was named and never current is not to stand among those to go back to
        self.folder = index / (self.name + PARTIAL)
        self._taken: set[str] = set()
        self.bytes_written = 0
        """Of the files that are not taken over."""
        self._segments = set() if base is None else {segment.name for segment in base[1].segments}
        durable.make_folder(self.folder)

    def segment_name(self) -> str:
        """Return a name for a new segment: its number is larger than all before."""
        numbers = (name.partition("-")[2] for name in self._segments)
        name = f"segment-{max((int(number) for number in numbers if number.isdecimal()), default=-1) + 1:03d}"
        self._segments.add(name)
        return name

    def take_over(self, names: Iterable[str]) -> None:
        """Put files of the base here that are not here yet: they never change, so links will do where the disk has them."""
        if self._base is None:
            return
        old, _ = self._base
        for name in names:
            target = self.folder / name
            if target.exists():
                continue
            self._taken.add(name)
            if not target.parent.exists():
                durable.make_folder(target.parent)
            try:
                durable.link(old / name, target)
            except OSError as err:
                if err.errno not in _NO_LINKS:
                    raise
                copy_file(old / name, target)

    def publish(
        self,
        manifest: Manifest,
        what: str,
        *,
        added: int = 0,
        removed: int = 0,
        of: str | None = None,
        keep: int = KEEP,
    ) -> Manifest:
        """Make it the current generation.

        Args:
            manifest: what it says; its `files` are found here, and its `history` is continued.
            what: the change that it is, as `Change.what`.
            added: rows.
            removed: rows.
            of: the generation that a rollback takes up again.
            keep: generations that stay on the disk, this one included.

        Returns:
            The manifest as it was written.

        Raises:
            HashgrainError: `write-failed` when what was written cannot be read back; then the current generation is the old one.
        """
        known: Files = {} if self._base is None else self._base[1].files
        now = datetime.now(UTC).isoformat(timespec="seconds")
        change = Change(self.name, now, what, added, removed, manifest.live, of)
        if self._base is not None:
            manifest = _with_cutoffs(manifest, self._base[1].segments[0])
        manifest = replace(manifest, files=dict(known), history=(*manifest.history, change)[-HISTORY:])
        names = manifest.expected_files()
        written = {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}
        for name in written.difference(names):  # of a step that a later one undid
            durable.remove_file(self.folder / name)
        new = written.intersection(names) - self._taken
        self.take_over(names)
        files = {
            name: known[name] if name not in new else (path.stat().st_size, sha256_of(path))
            for name in sorted(names)
            for path in [self.folder / name]
        }
        self.bytes_written = sum(files[name][0] for name in new)
        manifest = replace(manifest, files=files)
        write_manifest(self.folder, manifest)
        for path in self.folder.rglob("*"):
            if path.is_dir():
                durable.sync_folder(path)
        durable.sync_folder(self.folder)
        self._read_back(new)
        durable.rename(self.folder, self._index / self.name)
        durable.sync_folder(self._index)
        durable.step("pointer", self._index)
        write_pointer(self._index, self.name)
        if self._is_own():
            remember(sha256_of(self._index / self.name / MANIFEST))
        gc(self._index, keep)
        return manifest

    def _is_own(self) -> bool:
        """Whether this user made all of it: then its pictures are read from the shards that it names."""
        return self._base is None or is_remembered(sha256_of(self._base[0] / MANIFEST))

    def _read_back(self, new: set[str]) -> None:
        """Raise `write-failed` where what was written cannot be opened."""
        try:
            check_readable(self.folder, new)
        except HashgrainError as err:
            cause, _, _ = str(err).partition("; ")  # its remedy is for readers
            raise HashgrainError(
                Reason.WRITE_FAILED,
                f"index {self._index} was left as it was: what was written beside it cannot be read back ({cause}); check the "
                "code files and the disk",
            ) from err


def _with_cutoffs(manifest: Manifest, before: SegmentRecord) -> Manifest:
    """Return a manifest with what was measured of distances: it holds for any rows of these codes, so no change loses it."""
    first, *others = manifest.segments
    levels = {
        level: replace(record, calibrated=record.calibrated or before.levels[level].calibrated)
        for level, record in first.levels.items()
    }
    return replace(manifest, segments=[replace(first, levels=levels), *others])


@contextmanager
def next_generation(index: Path, base: tuple[Path, Manifest] | None = None) -> Iterator[NextGeneration]:
    """Write a generation; what is not published when the block ends is gone. The caller holds the index's lock.

    Args:
        index: folder of the index.
        base: as in `NextGeneration`.

    Raises:
        HashgrainError: `write-failed`; then the current generation is the old one.
    """
    try:
        new = NextGeneration(index, base)
        try:
            yield new
        finally:
            with suppress(OSError):
                durable.remove_tree(new.folder)
    except OSError as err:
        raise write_failed(f"index {index}", err) from err


def check_readable(folder: Path, new: set[str] | None = None) -> None:
    """Open a generation as a reader will: the manifest, all sizes, and what each file begins with.

    Args:
        folder: of the generation.
        new: files that have not been opened by an earlier generation; None: all.

    Raises:
        HashgrainError: `index-damaged`.
    """
    manifest = read_manifest(folder)
    check_sizes(folder, manifest.files)
    if (
        (new is None or manifest.model in new)
        and manifest.model
        and manifest.files[manifest.model][1] != manifest.fingerprint
    ):
        raise HashgrainError(
            Reason.INDEX_DAMAGED,
            f"{folder / manifest.model} is not the model that made the codes; build the index again",
        )
    for record in manifest.segments:
        segment = Segment(folder, record)
        if new is None or any(name.startswith(f"{record.name}/") for name in new):
            segment.open_all()


def gc(index: Path, keep: int) -> list[str]:
    """Remove old generations; the caller holds the index's lock.

    Args:
        index: folder of the index.
        keep: how many stay, the current one and those before it. One that came after the current one was never published, and goes.

    Returns:
        The names of those that are gone. What somebody reads stays, and goes another time.
    """
    current = read_current(index)[0].name
    present = sorted((path.name for path in generations(index)), key=number_of)
    earlier = [name for name in present if number_of(name) <= number_of(current)]
    going = [name for name in present if name not in earlier[-max(1, keep) :]]
    return [name for name in going if remove_unused(index / name)]


def copy_file(old: Path, new: Path) -> None:
    """Copy a file durably to a place where there is none."""
    with old.open("rb") as source, durable.create(new) as target:
        shutil.copyfileobj(source, target, durable.BUFFER)
