"""The index on disk: immutable generations, each with a manifest, and one pointer that names the current one."""

import errno
import hashlib
import json
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from encoder.errors import HashgrainError, Reason, unreadable, why
from encoder.runtime import durable
from encoder.runtime.files import read_regular
from encoder.runtime.publish import sha256_of, write_bytes
from indexer.storage.manifest import Manifest, checked_count, parse_manifest

FORMAT, VERSION = "hashgrain-index", 4
POINTER = "CURRENT"
POINTER_BYTES = 4096
"""Bytes of it at most."""
MANIFEST = "manifest.json"
GENERATION = "gen-{:06d}"
MOST_BYTES = 64 << 20
"""Bytes of a manifest at most."""
_GENERATION = re.compile(r"gen-\d{6,}")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a generation's manifest."""
    content = {"format": FORMAT, "version": VERSION, **asdict(manifest)}
    with durable.create(folder / MANIFEST) as file:
        file.write(json.dumps(content, sort_keys=True, indent=1).encode())


def write_pointer(index: Path, generation: str) -> None:
    """Make a generation the current one, at once for every reader."""
    pointer = {"generation": generation, "manifest_sha256": sha256_of(index / generation / MANIFEST)}
    write_bytes(index / POINTER, json.dumps(pointer).encode())


def generations(index: Path) -> list[Path]:
    """Return the generations that stand on disk. What else lies in the folder is somebody else's."""
    return [path for path in index.glob("gen-*") if _GENERATION.fullmatch(path.name) and (path / MANIFEST).is_file()]


def number_of(generation: str) -> int:
    """Return the number in a generation's name."""
    return int(generation.partition("-")[2])


def name_of(number: int) -> str:
    """Return the name of the generation with a number."""
    return GENERATION.format(number)


def name_of_next(index: Path) -> str:
    """Return the name of the generation after the last one that stands on disk."""
    numbers = [number_of(path.name) for path in index.glob("gen-*") if _GENERATION.fullmatch(path.name)]
    return name_of(max(numbers, default=0) + 1)


def read_pointer(index: Path) -> bytes:
    """Return what the pointer file holds.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`.
    """
    try:
        return read_regular(index / POINTER, POINTER_BYTES, links=False)
    except (OSError, ValueError) as err:
        if isinstance(err, OSError) and err.errno in {errno.EFBIG, errno.EINVAL}:
            raise _damaged(index / POINTER, f"it is not a pointer ({why(err)})") from err
        raise _missing(index, err) from err


def read_current(index: Path, pointer: bytes | None = None) -> tuple[Path, Manifest]:
    """Return the current generation's folder and manifest, proven to be the one the pointer was written for.

    Args:
        index: folder of the index.
        pointer: what the pointer file held when another generation was the current one; None: what it holds.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`, `too-new`.
    """
    try:
        content = json.loads(read_pointer(index) if pointer is None else pointer)
        generation, expected = str(content["generation"]), str(content["manifest_sha256"])
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise _damaged(index / POINTER, f"it names no generation ({err})") from err
    if not _GENERATION.fullmatch(generation):
        raise _damaged(index / POINTER, f"{generation!r} is not a generation")
    return index / generation, read_manifest(index / generation, expected)


def read_manifest(folder: Path, expected: str | None = None) -> Manifest:
    """Return the manifest of a generation.

    Args:
        folder: of the generation.
        expected: SHA-256 that its file has to have; None: any.

    Raises:
        HashgrainError: `index-damaged`, `index-missing` when it may not be read, `too-new`.
    """
    path = folder / MANIFEST
    try:
        data = read_regular(path, MOST_BYTES, links=False)
        if expected not in {None, hashlib.sha256(data).hexdigest()}:
            raise _damaged(path, "its bytes do not match the pointer's SHA-256")
        content = json.loads(data)
        if (version := checked_count(content.pop("version"))) > VERSION:
            raise HashgrainError(
                Reason.TOO_NEW, f"{path} has format version {version}, this program reads {VERSION}; upgrade hashgrain"
            )
        if content.pop("format") != FORMAT:
            raise _damaged(path, f"it cannot be read (no {FORMAT})")
        return parse_manifest(content)
    except OSError as err:
        raise unreadable(path, err, _damaged(path, f"it cannot be read ({why(err)})")) from err
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as err:
        raise _damaged(path, f"it cannot be read ({err})") from err


def check_sizes(folder: Path, files: Mapping[str, tuple[int, str]]) -> None:
    """Raise `index-damaged` for a file that is missing, of another size, or a link: cheap, done at every open."""
    folders = {name.partition("/")[0] for name in files if "/" in name}
    for name, (size, _) in {**dict.fromkeys(folders, (None, "")), **files}.items():
        path = folder / name
        try:
            status = path.lstat()
        except PermissionError as err:
            raise _unreadable(path, err) from err
        except OSError as err:
            raise _damaged(path, "it is missing") from err
        if not (stat.S_ISDIR if size is None else stat.S_ISREG)(status.st_mode):
            raise _damaged(path, f"it is not a {'folder' if size is None else 'file'} of its own")
        if size is not None and status.st_size != size:
            raise _damaged(path, f"it has {status.st_size:,} bytes where {size:,} were written")


def _missing(index: Path, err: OSError | ValueError) -> HashgrainError:
    """Return the error of a path that is not an index, with what it is instead."""
    if not isinstance(err, FileNotFoundError | NotADirectoryError):
        return _unreadable(index, err)
    message = f"no index at {index}; build one of code files"
    if index.is_file():
        message = f"{index} is a file, an index is a folder; give the folder"
    elif _GENERATION.fullmatch(index.absolute().name) and (index / MANIFEST).is_file():
        message = f"{index} is a generation of an index; give the folder that it is in, {index.absolute().parent}"
    elif next(index.glob("*.h5"), None):
        message = f"{index} holds code files, not an index; build one of them"
    return HashgrainError(Reason.INDEX_MISSING, message)


def _unreadable(path: Path, err: OSError | ValueError) -> HashgrainError:
    missing = HashgrainError(
        Reason.INDEX_MISSING, f"index {path} cannot be read ({why(err)}); give one that you may read"
    )
    return unreadable(path, err, missing) if isinstance(err, OSError) else missing


def _damaged(path: Path, fault: str) -> HashgrainError:
    return HashgrainError(
        Reason.INDEX_DAMAGED,
        f"index file {path} is damaged: {fault}; build the index again",
    )
