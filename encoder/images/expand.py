"""What the user calls shards: archives here or at a URL, folders, images, lists, globs and brace ranges, expanded to `Shard`s."""

import glob
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import overload

from encoder.errors import HashgrainError, Reason
from encoder.images.folder_walk import is_image, left_out, walk
from encoder.images.labels.sidecars import FolderSidecars
from encoder.images.labels.table_files import has_keys, shard_table_path
from encoder.images.names import NameKind, counted, escaped, kind_of_name
from encoder.images.readers.formats import ARCHIVE_SUFFIXES, kind_of, suffix_of
from encoder.images.readers.not_read import TABLES, img2dataset, why_not_read
from encoder.images.shards import Shard, ShardKind
from encoder.runtime.files import (
    AHEAD,
    absence,
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
LOOKED_AT = 100
"""Files of a folder without an image that are asked what they are."""
_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


@dataclass(slots=True)
class Shards(Sequence[Shard]):
    """The shards that were named, and what was found beside them."""

    shards: list[Shard] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    """Files and folders that are neither images nor their labels, by kind; archives are looked into when they are read."""
    unread: dict[str, str] = field(default_factory=dict)
    """Why a folder below a named one could not be read, by path: its images are missing."""

    def __len__(self) -> int:
        return len(self.shards)

    @overload
    def __getitem__(self, at: int) -> Shard: ...
    @overload
    def __getitem__(self, at: slice) -> list[Shard]: ...
    def __getitem__(self, at: int | slice) -> Shard | list[Shard]:
        return self.shards[at]


def expand(specs: Sequence[str], files_per_shard: int = FILES_PER_SHARD) -> Shards:
    """Return the shards that the specs name, each once, in the order given (folders and globs sorted).

    Args:
        specs: archives, folders, images, `@list.txt` (one spec per line), globs, brace ranges `a-{000..127}.tar`. A URL
            may be an archive, and where its file system can list them, a glob or folder of archives.
        files_per_shard: how many files of a folder (or loose images) make one shard, at most.

    Raises:
        HashgrainError: `shard-missing` when a spec names nothing, or nothing that can be reached.
    """
    found = Shards()
    shards: dict[str, list[Shard]] = {}
    loose: dict[Path, str] = {}
    others = set[str]()
    urls: dict[str, None] = {}

    @cache
    def real(folder: Path) -> Path:
        return folder.resolve()

    def place(path: Path) -> Path:
        """Return what tells a file from others, however it is spelled; a link to a file is one of its own, as in a folder."""
        return real(path.parent) / path.name

    for path, by_pattern in (path for spec in specs for path in _paths(spec, found)):
        if is_url(path):
            shards[path], urls[path] = [], None  # its place; what it is takes a request, and many are asked for at once
        elif os.path.isdir(path):  # noqa: PTH112  Path.is_dir raises where a folder on the way may not be entered
            root = Path(path).resolve()
            if str(root) not in shards:
                shards[str(root)] = _folder_shards(root, files_per_shard, found, by_pattern=by_pattern)
        elif shard := _archive_at(path, by_pattern=by_pattern):
            shards.setdefault(shard.path, [shard])
        elif is_image(Path(), path):
            loose.setdefault(place(Path(path)), Path(path).as_posix())
        elif by_pattern:
            others.add(Path(path).as_posix())
        else:
            raise _not_a_shard(path)
    for url, remote in zip(urls, _remote_shards(urls), strict=True):
        shards[url] = [remote]
    # an archive may be named beside its folder, and an image, too
    known = {(shard.path, shard.files): shard for group in shards.values() for shard in group}
    if loose:
        held = {place(Path(shard.path, file)) for shard in known.values() for file in shard.files}
        folders = {Path(image).parent for image in loose.values()}
        beside = FolderSidecars(name for folder in folders for name in _names(folder))
        sidecars = {image: beside.of(image) for image in loose.values()}
        others.difference_update(*sidecars.values())
        files = {image: sidecars[image] for at, image in loose.items() if at not in held}
        known |= {(shard.path, shard.files): shard for shard in _parts("images", Path.cwd(), files, files_per_shard)}
    found.skipped += left_out(others)
    if not known:
        raise HashgrainError(
            Reason.SHARD_MISSING, f"{' '.join(specs)} names no image and no archive ({counted(found.skipped)})"
        )
    found.shards = _with_unique_names(list(known.values()))
    return found


def _is_archive(path: str) -> bool:
    return parts_of(path)[-1].lower().endswith(ARCHIVE_SUFFIXES)


def _is_image(url: str) -> bool:
    return kind_of_name(parts_of(url)[-1]) is NameKind.IMAGE


def _paths(spec: str, found: Shards) -> Iterator[tuple[str, bool]]:
    """Resolve one spec to paths that exist, and to URLs of archives; and say whether it is a pattern, which may match anything."""
    if not is_url(spec) and exists(spec):
        yield spec, False
    elif spec.startswith("@"):
        yield from _listed(spec[1:], found)
    elif (choices := _braces(spec)) != [spec]:
        for choice in choices:
            yield from _paths(choice, found)
    elif is_url(spec):
        yield from ((url, False) for url in _urls(spec))
    elif glob.has_magic(spec):
        matches = _matches(spec, found)
        if not matches:
            raise HashgrainError(Reason.SHARD_MISSING, f"no file matches {spec!r}; check the pattern and the folder")
        yield from ((match, True) for match in matches)
    else:
        raise HashgrainError(
            Reason.SHARD_MISSING,
            f"{spec} cannot be read: {absence(spec)}; give an archive, a folder, an image or @list.txt",
        )


def _matches(pattern: str, found: Shards) -> list[str]:
    """Return what matches a glob, sorted; `**` goes through each real folder once, so that a link to a parent does no harm."""
    parts = Path(pattern).parts
    if "**" not in parts:
        return sorted(glob.glob(pattern))  # noqa: PTH207  Path.glob refuses absolute patterns
    at = parts.index("**")
    matches = []
    for base in sorted(glob.glob(str(Path(*parts[:at])))) if at else ["."]:  # noqa: PTH207
        below = walk(Path(base))
        found.skipped += below.skipped
        found.unread |= below.unread
        names = (name for name in below.files if _is_match(tuple(name.split("/")), parts[at:]))
        matches += [str(Path(base, name)) for name in names]
    return matches


def _is_match(names: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    """Whether a path matches a pattern part by part; `**` stands for any number of folders, and at the end for all below."""
    if not patterns or not names:
        return not names and all(pattern == "**" for pattern in patterns)
    if patterns[0] == "**":
        return _is_match(names, patterns[1:]) or _is_match(names[1:], patterns)
    return fnmatchcase(names[0], patterns[0]) and _is_match(names[1:], patterns[1:])


def _listed(path: str, found: Shards) -> Iterator[tuple[str, bool]]:
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
    web = [spec for spec in specs if spec.startswith(("http://", "https://"))]
    if path.lower().endswith(TABLES) or (web and not any(map(_is_archive, web))):
        ending = path.rpartition(".")[2].lower() if path.lower().endswith(TABLES) else "txt"
        raise HashgrainError(
            Reason.SHARD_MISSING,
            f"the list {path} should name a shard or image per line, and begins with {specs[0][:80]!r}; if it lists URLs of "
            f"images, img2dataset makes shards of it: {img2dataset(path, ending)}",
        )
    for spec in specs:
        if spec.startswith("@"):
            raise HashgrainError(
                Reason.SHARD_MISSING, f"the list {path} names another, {spec}; give both on the command line"
            )
        try:
            named = list(_paths(spec, found))
        except HashgrainError as err:
            raise HashgrainError(err.reason, f"the list {path}: {err}") from err
        yield from named


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


def _not_a_shard(path: str) -> HashgrainError:
    """Say what a file is, and what makes a shard of it."""
    if why := why_not_read(path):
        return HashgrainError(Reason.SHARD_MISSING, f"{path} is not an image shard but {why}")
    return HashgrainError(
        Reason.SHARD_MISSING,
        f"{path} is not an image shard; give an archive ({', '.join(ARCHIVE_SUFFIXES)}), a folder, an image or @list.txt",
    )


def _archive_at(path: str, *, by_pattern: bool) -> Shard | None:
    """Return the shard that a file is by its name, or where it is named itself, by its content."""
    may_be_one = _is_archive(path) or not (by_pattern or is_image(Path(), path))
    return _archive_shard(path) if may_be_one else None


def _remote_shards(urls: Iterable[str]) -> list[Shard]:
    """Return the shard of each URL, asking for several at a time."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(PROBES) as pool:
        return list(pool.map(_remote_shard, urls))


def _remote_shard(url: str) -> Shard:
    if shard := _archive_shard(url):
        return shard
    raise _not_a_shard(url)


def _archive_shard(path: str) -> Shard | None:
    """Return the shard that a file is, None if it is not one."""
    status = status_of(path) if is_url(path) else None
    name = parts_of(path)[-1]
    path, kind = path if status else str(Path(path).resolve()), kind_of(path)
    if kind is None:
        return None
    return Shard(name.removesuffix(suffix_of(name)), kind, path, status=status)


def _folder_shards(root: Path, files_per_shard: int, found: Shards, *, by_pattern: bool) -> list[Shard]:
    """Return the shards of a folder: each archive below it is one, and its image files are split into some.

    Raises:
        HashgrainError: `shard-missing` where there are none, unless a pattern matched the folder.
    """
    below = walk(root)
    if str(root) in below.unread and not by_pattern:
        raise HashgrainError(
            Reason.SHARD_MISSING,
            f"folder {root} could not be read ({below.unread[str(root)]}); give one that can be read",
        )
    archives, images, others = list[Shard](), list[str](), list[str]()
    for name in below.files:
        may_be_one = _is_archive(name) and kind_of_name(name) is not NameKind.SYSTEM
        if may_be_one and (shard := _archive_shard(str(root / name))):
            archives.append(replace(shard, root=str(root)))
        else:
            (images if is_image(root, name) else others).append(name)
    beside = FolderSidecars(others)
    files = {image: beside.of(image) for image in images}
    tables = {table.relative_to(root).as_posix() for shard in archives if (table := _table_of(shard, root))}
    skipped = below.skipped + left_out(set(others).difference(tables, *files.values()))
    found.skipped += skipped
    found.unread |= below.unread
    if not archives and not images and not by_pattern:
        what = f"; {counted(skipped)}" if skipped else ""
        known = ((name, why) for name in others[:LOOKED_AT] if (why := _known_as(root / name)))
        what += next((f"; {name} is {why}" for name, why in known), "")
        raise HashgrainError(Reason.SHARD_MISSING, f"folder {root} holds no image and no archive of images{what}")
    return [*archives, *(replace(shard, root=str(root)) for shard in _parts(root.name, root, files, files_per_shard))]


def _table_of(shard: Shard, root: Path) -> Path | None:
    """Return the table beside a shard that has labels for it, if it lies below a folder."""
    table = shard_table_path(shard.path)
    return table if table and table.is_relative_to(root) and has_keys(table) else None


def _known_as(path: Path) -> str | None:
    """Return what a file is that holds images and is not read; None of what cannot be looked into, too."""
    return why_not_read(str(path)) if path.is_file() and os.access(path, os.R_OK) else None


def _names(folder: Path) -> list[str]:
    try:
        return [(folder / name).as_posix() for name in os.listdir(folder)]  # noqa: PTH208  names, not paths
    except OSError:
        return []


def _parts(name: str, root: Path, files: Mapping[str, Sequence[str]], per_shard: int) -> list[Shard]:
    """Split files into shards of at most `per_shard`, by the leading bits of a digest of their names.

    A part is split in two when it grows too large, so that a file more or less changes one part, or two, and no other.

    Args:
        name: of the shards, before the bits.
        root: what the files are relative to.
        files: images, each with its sidecars.
        per_shard: how many at most.
    """
    parts = [("", [(_digest(file), file) for file in files])]
    shards = []
    while parts:
        bits, members = parts.pop()
        if len(members) <= per_shard:
            images = tuple(file for _, file in members)
            sidecars = tuple(tuple(files[image]) for image in images)
            if images:
                own = f"{name}-{bits}" if bits else name
                shards.append(Shard(own, ShardKind.FILES, str(root), images, sidecars if any(sidecars) else ()))
        else:
            depth = 63 - len(bits)
            halves = [[member for member in members if (member[0] >> depth) & 1 == bit] for bit in (0, 1)]
            parts += [(f"{bits}1", halves[1]), (f"{bits}0", halves[0])]
    return shards


def _digest(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest())


def _with_unique_names(shards: list[Shard]) -> list[Shard]:
    """Prefix the names that several shards share with as many parent folders as tell them apart; all can be stored as text."""
    shards = [replace(shard, name=escaped(shard.name)) for shard in shards]
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
            name = f"{escaped(parents[position][-1 - depth].strip(os.sep))}-{shards[position].name}"
            shards[position] = replace(shards[position], name=name)
        depth += 1
