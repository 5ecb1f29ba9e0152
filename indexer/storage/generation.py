"""A new state of an index: written whole beside the old one, then made current at once."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from encoder.errors import HashgrainError, Reason
from encoder.runtime.durable import sync_file, sync_folder
from encoder.runtime.publish import PARTIAL, remove_unused, sha256_of, write_failed
from indexer.storage.manifest import (
    Manifest,
    check_sizes,
    generations,
    next_generation,
    read_manifest,
    write_manifest,
    write_pointer,
)
from indexer.storage.pictures import is_own, remember_own
from indexer.storage.segment import Segment

Files = Mapping[str, tuple[int, str]]
"""Size and SHA-256 by path in a generation, as in `Manifest.files`."""


def publish_generation(index: Path, write: Callable[[Path], Manifest], known: Files) -> tuple[str, Manifest]:
    """Write a generation and make it the current one; the caller holds the index's lock.

    Args:
        index: folder of the index.
        write: called with an empty folder; fills it and returns the manifest, whose `files` are found here.
        known: files that `write` takes over unchanged from the current generation; they are not read again.

    Returns:
        The name of the generation and its manifest.

    Raises:
        HashgrainError: `write-failed`, also when it cannot be read back; then the current generation is the old one.
    """
    name = next_generation(index)
    folder = index / (name + PARTIAL)
    try:
        folder.mkdir(parents=True)
        manifest = write(folder)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {str(path.relative_to(folder)): path for path in paths}
        manifest = replace(
            manifest,
            files={part: known.get(part) or (path.stat().st_size, sha256_of(path)) for part, path in files.items()},
        )
        write_manifest(folder, manifest)
        for path in folder.rglob("*"):
            sync_folder(path) if path.is_dir() else sync_file(path)
        sync_folder(folder)
        _read_back(index, folder)
        folder.rename(index / name)
        sync_folder(index)
        own = not known or is_own(index)
        write_pointer(index, name)
        if own:
            remember_own(index)
    except OSError as err:
        raise write_failed(f"index {index}", err) from err
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for old in generations(index):
        if old.name != name:
            remove_unused(old)  # one that is open may have files still to map: it goes with a later generation
    return name, manifest


def _read_back(index: Path, folder: Path) -> None:
    """Raise `write-failed` where what was written cannot be opened."""
    try:
        check_readable(folder)
    except HashgrainError as err:
        cause, _, _ = str(err).partition("; ")  # its remedy is for readers
        raise HashgrainError(
            Reason.WRITE_FAILED,
            f"index {index} was left as it was: what was written beside it cannot be read back ({cause}); check the code files "
            "and the disk",
        ) from err


def check_readable(folder: Path) -> None:
    """Open a generation as a reader will: the manifest, all sizes, and what each file begins with.

    Raises:
        HashgrainError: `index-damaged`.
    """
    manifest = read_manifest(folder)
    check_sizes(folder, manifest.files)
    if manifest.model and manifest.files[manifest.model][1] != manifest.fingerprint:
        raise HashgrainError(
            Reason.INDEX_DAMAGED,
            f"{folder / manifest.model} is not the model that made the codes; build the index again",
        )
    for record in manifest.segments:
        Segment(folder, record).open_all()


def take_over(old: Path, new: Path, files: Files) -> None:
    """Put files of a generation into another one: they are immutable, so links will do where the disk has them."""
    for name in files:
        target = new / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(old / name, target)
        except OSError:
            shutil.copyfile(old / name, target)
