"""An index that is stored elsewhere, a shared folder or a URL, and what of it a slice needs copied to a disk of this machine, once.

A copy is a folder like the index's own with fewer files in it. Segments never change, so a later generation is mostly links.
"""

import hashlib
import io
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from encoder.errors import HashgrainError, Reason
from encoder.runtime import durable
from encoder.runtime.files import forget, is_url, open_file, parts_of
from encoder.runtime.publish import exclusive, make_folder, publish, remove_unused, write_bytes
from indexer.storage.current import (
    MANIFEST,
    MOST_BYTES,
    POINTER,
    POINTER_BYTES,
    generations,
    number_of,
    read_current,
    read_manifest,
)
from indexer.storage.manifest import Manifest

KEPT: Final = 3
"""Generations that a copy holds: the current one, the former, and one that is being brought."""
BLOCK: Final = 4 << 20
"""Bytes that are read and hashed at once."""
BUSY_TURN: Final = 0.2
"""Seconds between two looks at whether another process of this machine is done with the copy."""


def read_pointer(index: str) -> bytes:
    """Return what the pointer of an index holds now.

    Raises:
        HashgrainError: `index-missing`.
    """
    if is_url(index):
        forget(index)
    return _read(f"{index}/{POINTER}", POINTER_BYTES)


def copy_of(index: str, to: Path) -> Path:
    """Return where the copy of an index is, below a folder for copies of several."""
    name = parts_of(index)[-1] if parts_of(index) else "index"
    return to / f"{name}-{hashlib.sha256(index.encode()).hexdigest()[:12]}"


def bring(index: str, pointer: bytes, copy: Path, segments: range | None) -> Manifest:
    """Copy what is not there yet of a generation; what an earlier one brought is linked.

    Args:
        index: its folder, or a URL.
        pointer: of the generation.
        copy: folder of the copy; any number of processes may bring at a time, one does.
        segments: numbers of the segments whose files are wanted, among all of the generation; None: the model alone.

    Returns:
        What the generation says of itself; files under their final names are what it says they are.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`; `write-failed`.
    """
    with _held(copy):
        generation = _manifest(index, pointer, copy)
        folder, manifest = read_current(copy, pointer)
        earlier = [path for path in generations(copy) if path != folder]
        known = [(path, read_manifest(path).files) for path in sorted(earlier, key=_number, reverse=True)]
        for name in needed(manifest, segments):
            target = folder / name
            size, digest = manifest.files[name]
            if _is_there(target, size):
                continue
            make_folder(target.parent)
            before = next(
                (
                    old / name
                    for old, files in known
                    if files.get(name) == (size, digest) and _is_there(old / name, size)
                ),
                None,
            )
            if before is None:
                _copy(f"{index}/{generation}/{name}", target, size, digest)
            else:
                with publish(target) as partial:
                    durable.link(before, partial)
        for old in sorted(earlier, key=_number)[: 1 - KEPT]:
            remove_unused(old)
    return manifest


def needed(manifest: Manifest, segments: range | None) -> list[str]:
    """Return the files of a generation that some segments consist of; None: those that belong to no segment."""
    if segments is None:
        return [] if manifest.model is None else [manifest.model]
    records = [manifest.segments[number] for number in segments]
    folders, live = {record.name for record in records}, {record.live for record in records}
    return [name for name in manifest.files if name.partition("/")[0] in folders or name in live]


@contextmanager
def _held(copy: Path) -> Iterator[None]:
    """Hold a copy; whoever else brings to it is waited for."""
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(exclusive(copy))
                break
            except HashgrainError as err:
                if err.reason is not Reason.BUSY:
                    raise
            time.sleep(BUSY_TURN)
        yield


def _manifest(index: str, pointer: bytes, copy: Path) -> str:
    """Put a generation's manifest into the copy, and return the generation's name."""
    try:
        content = json.loads(pointer)
        generation, expected = str(content["generation"]), str(content["manifest_sha256"])
        number_of(generation)
    except (ValueError, KeyError, TypeError) as err:
        raise _damaged(f"{index}/{POINTER}", f"it names no generation ({err})") from err
    if "/" in generation:
        raise _damaged(f"{index}/{POINTER}", f"{generation!r} is not a generation")
    path = copy / generation / MANIFEST
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == expected:
        return generation
    data = _read(f"{index}/{generation}/{MANIFEST}", MOST_BYTES)
    if hashlib.sha256(data).hexdigest() != expected:
        raise _damaged(f"{index}/{generation}/{MANIFEST}", "its bytes do not match the pointer's SHA-256")
    make_folder(path.parent)
    write_bytes(path, data)
    return generation


def _copy(source: str, target: Path, size: int, digest: str) -> None:
    """Copy a file, and prove it by its digest on the way."""
    found, left = hashlib.sha256(), size
    with publish(target) as partial, durable.create(partial) as file, _opened(source, BLOCK) as stored:
        while left and (block := stored.read(min(BLOCK, left))):
            found.update(block)
            file.write(block)
            left -= len(block)
        if left or stored.read(1) or found.hexdigest() != digest:
            raise _damaged(source, "its bytes do not match its SHA-256")


def _read(path: str, most: int) -> bytes:
    with _opened(path, 0) as file:
        data = bytearray()
        while len(data) <= most and (block := file.read(min(BLOCK, most + 1 - len(data)))):
            data += block
    if len(data) > most:
        raise _damaged(path, f"it has over {most:,} bytes")
    return bytes(data)


@contextmanager
def _opened(path: str, ahead: int) -> Iterator[io.RawIOBase]:
    try:
        with open_file(path, ahead=ahead) as file:
            yield file
    except HashgrainError as err:
        if err.reason is not Reason.SHARD_MISSING:
            raise
        raise HashgrainError(Reason.INDEX_MISSING, f"index file {path} cannot be read ({err}); give an index") from err


def _is_there(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _number(folder: Path) -> int:
    return number_of(folder.name)


def _damaged(path: str, fault: str) -> HashgrainError:
    return HashgrainError(Reason.INDEX_DAMAGED, f"index file {path} is damaged: {fault}; build the index again")
