"""What the user calls shards: tars here or at a URL, folders, images, lists, globs and brace ranges, expanded to `Shard`s."""

import glob
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from encoder.errors import HashgrainError, Reason
from encoder.images.names import IMAGE_SUFFIXES
from encoder.images.readers.formats import ARCHIVE_SUFFIXES, kind_of, suffix_of
from encoder.images.shards import Shard, ShardKind
from encoder.runtime.files import (
    AHEAD,
    exists,
    forget,
    is_pattern,
    is_url,
    list_files,
    open_file,
    parts_of,
    status_of,
)

FILES_PER_SHARD = 10_000
PROBES = 16
"""URLs requested at a time: an answer takes tens of milliseconds, and a collection has thousands."""
_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


def expand(specs: Sequence[str], files_per_shard: int = FILES_PER_SHARD) -> list[Shard]:
    """Return the shards that the specs name, each once, in the order given (folders and globs sorted).

    Args:
        specs: tar files, folders, images, `@list.txt` (one spec per line), globs, brace ranges `a-{000..127}.tar`. A URL
            may be a tar, and where its file system can list them, a glob or folder of tars.
        files_per_shard: how many files of a folder (or loose images) make one shard.

    Raises:
        HashgrainError: `shard-missing` when a spec names nothing, or nothing that can be reached.
    """
    shards: dict[str, list[Shard]] = {}
    loose: dict[str, None] = {}
    urls: dict[str, None] = {}
    for path in (path for spec in specs for path in _paths(spec)):
        if is_url(path):
            shards[path], urls[path] = [], None  # its place; what it is takes a request, and many are asked for at once
        elif Path(path).is_dir():
            shards.setdefault(str(Path(path).resolve()), _folder_shards(Path(path), files_per_shard))
        elif _is_archive(path):
            shards.setdefault(str(Path(path).resolve()), [_archive_shard(path)])
        elif _is_image(path):
            loose[Path(path).as_posix()] = None
        else:
            raise HashgrainError(
                Reason.SHARD_MISSING,
                f"{path} is not an image shard; give a tar ({', '.join(ARCHIVE_SUFFIXES)}), a folder, an image "
                f"({', '.join(sorted(IMAGE_SUFFIXES))}) or @list.txt",
            )
    for url, shard in zip(urls, _remote_shards(urls), strict=True):
        shards[url] = [shard]
    # a tar may be named beside its folder, and an image, too
    known = {(shard.path, shard.files): shard for group in shards.values() for shard in group}
    held = {Path(shard.path, file) for shard in known.values() for file in shard.files} if loose else set()
    images = [image for image in loose if Path(image).resolve() not in held]
    return _with_unique_names([*known.values(), *_split("images", Path.cwd(), images, files_per_shard)])


def _is_archive(path: str) -> bool:
    return parts_of(path)[-1].lower().endswith(ARCHIVE_SUFFIXES)


def _is_image(path: str) -> bool:
    return PurePosixPath(parts_of(path)[-1]).suffix.lower() in IMAGE_SUFFIXES


def _paths(spec: str) -> Iterator[str]:
    """Resolve one spec to paths that exist, and to URLs of tars."""
    if not is_url(spec) and Path(spec).exists():
        yield spec
    elif spec.startswith("@"):
        yield from _listed(spec[1:])
    elif (choices := _braces(spec)) != [spec]:
        for choice in choices:
            yield from _paths(choice)
    elif is_url(spec):
        yield from _urls(spec)
    elif glob.has_magic(spec):
        matches = sorted(glob.glob(spec, recursive=True))  # noqa: PTH207  Path.glob refuses absolute patterns
        if not matches:
            raise HashgrainError(Reason.SHARD_MISSING, f"no file matches {spec!r}; check the pattern and the folder")
        yield from matches
    else:
        raise HashgrainError(
            Reason.SHARD_MISSING, f"{spec} does not exist; give a tar, a folder, an image or @list.txt"
        )


def _listed(path: str) -> Iterator[str]:
    try:
        with open_file(path, ahead=AHEAD) as file:
            lines = file.readall().decode().splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise HashgrainError(Reason.SHARD_MISSING, f"the list {path} could not be read: {err}") from err
    specs = [spec for line in lines if (spec := line.strip()) and not spec.startswith("#")]
    if not specs:
        raise HashgrainError(
            Reason.SHARD_MISSING, f"the list {path} names nothing; give one tar, folder or image per line"
        )
    for spec in specs:
        if spec.startswith("@"):
            raise HashgrainError(
                Reason.SHARD_MISSING, f"the list {path} names another, {spec}; give both on the command line"
            )
        yield from _paths(spec)


def _urls(url: str) -> Iterator[str]:
    """Resolve a URL to those of tars."""
    forget(url)
    is_file = (_is_archive(url) or _is_image(url)) and (not is_pattern(url) or _is_found(url))
    files = [url] if is_file else list_files(url)
    if image := next(filter(_is_image, files), None):
        raise HashgrainError(
            Reason.SHARD_MISSING,
            f"{image} is an image; at a URL only tars are read ({', '.join(ARCHIVE_SUFFIXES)}); name those, or copy the "
            "images here",
        )
    tars = list(filter(_is_archive, files))
    if not tars:
        raise HashgrainError(
            Reason.SHARD_MISSING,
            f"{url} names no tar ({', '.join(ARCHIVE_SUFFIXES)}); check the URL and the access to it",
        )
    yield from tars


def _is_found(url: str) -> bool:
    """Whether a URL that looks like a pattern is the name of a file; one out of reach is not: listing it says why."""
    try:
        return exists(url)
    except HashgrainError:
        return False


def _braces(spec: str) -> list[str]:
    """Expand `{000..127}` (the width of the first number is kept) and `{a,b}`, leftmost first."""
    match = _BRACES.search(spec)
    if match is None:
        return [spec]
    first, last, choices = match.groups()
    if choices is not None:
        middle = choices.split(",")
    else:
        if int(first) > int(last):
            raise HashgrainError(
                Reason.SHARD_MISSING, f"{spec} counts from {first} to {last}; give the smaller number first"
            )
        middle = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return [whole for part in middle for whole in _braces(spec[: match.start()] + part + spec[match.end() :])]


def _remote_shards(urls: Iterable[str]) -> list[Shard]:
    """Return the shard of each URL, asking for several at a time."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(PROBES) as pool:
        return list(pool.map(_archive_shard, urls))


def _archive_shard(path: str) -> Shard:
    status = status_of(path) if is_url(path) else None
    name = parts_of(path)[-1]
    path, kind = path if status else str(Path(path).resolve()), kind_of(path) or ShardKind.TAR
    return Shard(name.removesuffix(suffix_of(name)), kind, path, status=status)


def _folder_shards(folder: Path, files_per_shard: int) -> list[Shard]:
    """Shards of a folder: each tar below it is one, and its image files are split in sorted order."""
    tars, files = [], []
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in names:
            path = Path(parent, name)
            if name.lower().endswith(ARCHIVE_SUFFIXES):
                tars.append(path)
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                files.append(path.relative_to(folder).as_posix())
    if not tars and not files:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise HashgrainError(Reason.SHARD_MISSING, f"folder {folder} holds no tar and no image ({suffixes})")
    root = folder.resolve()
    return [*map(_archive_shard, map(str, sorted(tars))), *_split(root.name, root, sorted(files), files_per_shard)]


def _split(name: str, root: Path, files: list[str], per_shard: int) -> list[Shard]:
    starts = range(0, len(files), per_shard)
    return [
        Shard(f"{name}-{part:05d}", ShardKind.FILES, str(root), tuple(files[start : start + per_shard]))
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
        parents = {position: parts_of(shards[position].path)[:-1] for position in clashes}
        deeper = [position for position in clashes if depth < len(parents[position])]
        if not deeper:
            name = shards[clashes[0]].name
            raise HashgrainError(Reason.SHARD_CLASH, f"two shards are called {name}; encode them into separate folders")
        for position in deeper:
            name = f"{parents[position][-1 - depth].strip(os.sep)}-{shards[position].name}"
            shards[position] = replace(shards[position], name=name)
        depth += 1
