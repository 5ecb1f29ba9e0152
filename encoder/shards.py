"""What the user calls shards: tar files, folders, images, lists, globs and brace ranges, expanded to `Shard`s."""

import glob
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from encoder.errors import HashgrainError, Reason
from encoder.tar import is_gzip

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
FILES_PER_SHARD = 10_000
_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


class ShardKind(StrEnum):
    """How a shard holds its images, and so how one of them is read back."""

    TAR = "tar"
    """A plain tar: one seek reaches any image."""
    TAR_GZ = "tar.gz"
    """A compressed tar: an image is reached by reading from the front."""
    FILES = "files"
    """Image files below a folder."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One unit of work: it becomes one code file."""

    name: str
    """Unique within a run; the code file is `name` + ".h5"."""
    kind: ShardKind
    path: Path
    """The tar file, or the folder that `files` are relative to; absolute."""
    files: tuple[str, ...] = ()
    """FILES only: image paths in order, POSIX style."""

    def stamp(self) -> str:
        """Tell cheaply whether a shard changed: sizes and times of modification, no content is read."""
        if self.kind is not ShardKind.FILES:
            status = self.path.stat()
            return f"{status.st_size}:{status.st_mtime_ns}"
        digest = hashlib.sha256()
        for file in self.files:
            for path in (
                self.path / file,
                (self.path / file).with_suffix(".json"),
                (self.path / file).with_suffix(".cls"),
            ):
                try:
                    status = path.stat()
                except OSError:
                    continue
                digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
            digest.update(file.encode(errors="surrogateescape"))
        return digest.hexdigest()


def expand(specs: Sequence[str], files_per_shard: int = FILES_PER_SHARD) -> list[Shard]:
    """Return the shards that the specs name, each once, in the order given (folders and globs sorted).

    Args:
        specs: tar files, folders, images, `@list.txt` (one spec a line), globs, brace ranges `a-{000..127}.tar`.
        files_per_shard: how many files of a folder (or loose images) make one shard.

    Raises:
        HashgrainError: `shard-missing` when a spec names nothing.
    """
    shards: dict[Path, list[Shard]] = {}
    loose: dict[str, None] = {}
    for path in (path for spec in specs for path in _paths(spec)):
        if path.is_dir():
            shards.setdefault(path.resolve(), _folder_shards(path, files_per_shard))
        elif path.name.lower().endswith(TAR_SUFFIXES):
            shards.setdefault(path.resolve(), [_tar_shard(path)])
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            loose[path.as_posix()] = None
        else:
            raise HashgrainError(
                Reason.SHARD_MISSING,
                f"{path} is no image shard; give a tar ({', '.join(TAR_SUFFIXES)}), a folder, an image "
                f"({', '.join(sorted(IMAGE_SUFFIXES))}) or @list.txt",
            )
    found = [shard for group in shards.values() for shard in group]
    return _with_unique_names(found + _split("images", Path.cwd(), list(loose), files_per_shard))


def _paths(spec: str) -> Iterator[Path]:
    """Resolve one spec to paths that exist."""
    if Path(spec).exists():
        yield Path(spec)
    elif spec.startswith("@"):
        yield from _listed(Path(spec[1:]))
    elif (choices := _braces(spec)) != [spec]:
        for choice in choices:
            yield from _paths(choice)
    elif glob.has_magic(spec):
        matches = sorted(glob.glob(spec, recursive=True))  # noqa: PTH207  Path.glob refuses absolute patterns
        if not matches:
            raise HashgrainError(Reason.SHARD_MISSING, f"no file matches {spec!r}; check the pattern and the folder")
        yield from map(Path, matches)
    else:
        raise HashgrainError(
            Reason.SHARD_MISSING, f"{spec} does not exist; give a tar, a folder, an image or @list.txt"
        )


def _listed(path: Path) -> Iterator[Path]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise HashgrainError(Reason.SHARD_MISSING, f"the list {path} could not be read: {err}") from err
    for line in lines:
        if line.strip() and not line.startswith(("#", "@")):
            yield from _paths(line.strip())


def _braces(spec: str) -> list[str]:
    """Expand `{000..127}` (the width of the first number is kept) and `{a,b}`, leftmost first."""
    match = _BRACES.search(spec)
    if match is None:
        return [spec]
    first, last, choices = match.groups()
    if choices is not None:
        middle = choices.split(",")
    else:
        middle = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return [whole for part in middle for whole in _braces(spec[: match.start()] + part + spec[match.end() :])]


def _tar_shard(path: Path) -> Shard:
    name = next(
        path.name[: -len(end)] for end in sorted(TAR_SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(end)
    )
    return Shard(name, ShardKind.TAR_GZ if is_gzip(path) else ShardKind.TAR, path.resolve())


def _folder_shards(folder: Path, files_per_shard: int) -> list[Shard]:
    """Shards of a folder: each tar below it is one, and its image files are split in sorted order."""
    tars, files = [], []
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in names:
            path = Path(parent, name)
            if name.lower().endswith(TAR_SUFFIXES):
                tars.append(path)
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                files.append(path.relative_to(folder).as_posix())
    if not tars and not files:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise HashgrainError(Reason.SHARD_MISSING, f"folder {folder} holds no tar and no image ({suffixes})")
    root = folder.resolve()
    return [*map(_tar_shard, sorted(tars)), *_split(root.name, root, sorted(files), files_per_shard)]


def _split(name: str, root: Path, files: list[str], per_shard: int) -> list[Shard]:
    starts = range(0, len(files), per_shard)
    return [
        Shard(f"{name}-{part:05d}", ShardKind.FILES, root, tuple(files[start : start + per_shard]))
        for part, start in enumerate(starts)
    ]


def _with_unique_names(shards: list[Shard]) -> list[Shard]:
    """Prefix the names that several shards share with as many parent folders as tell them apart."""
    depth = 0
    while True:
        by_name: defaultdict[str, list[int]] = defaultdict(list)
        for position, shard in enumerate(shards):
            by_name[shard.name].append(position)
        clashes = [position for positions in by_name.values() if len(positions) > 1 for position in positions]
        if not clashes:
            return shards
        for position in clashes:
            shard, parents = shards[position], shards[position].path.parent.parts
            if depth >= len(parents):
                raise HashgrainError(
                    Reason.SHARD_CLASH, f"two shards are called {shard.name}; encode them into separate folders"
                )
            shards[position] = replace(shard, name=f"{parents[-1 - depth].strip(os.sep)}-{shard.name}")
        depth += 1
