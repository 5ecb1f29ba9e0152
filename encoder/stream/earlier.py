"""What earlier runs left in a folder: the code files that still hold, those that lend their codes, and those that are stale."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from encoder.codes.file import SUFFIX, open_codes
from encoder.codes.header import CodeHeader
from encoder.codes.rules import CONTENT, Rules
from encoder.errors import HashgrainError, Reason, Reject
from encoder.images.duplicates import AS_ONE_IN
from encoder.images.names import escaped, from_escaped
from encoder.images.readers.formats import reader_for
from encoder.images.shards import Shard, ShardKind
from encoder.levels import Level
from encoder.model.spec import Precision
from encoder.runtime.files import exists, is_missing, is_url
from encoder.stream.settings import EncodeSettings


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a code file of this run is made by."""

    out: Path
    fingerprint: str
    bits: Mapping[Level, int]
    settings: EncodeSettings
    rules: Rules
    precision: Precision
    """Of this run, not AUTO."""


@dataclass(slots=True)
class Earlier:
    """The code files of a folder, as a new run sees them."""

    kept: dict[str, tuple[CodeHeader, Counter[Reject]]] = field(default_factory=dict)
    """What still holds, by the name of its shard."""
    same_as: dict[str, set[str]] = field(default_factory=dict)
    """The shards that hold what was skipped in one of `kept`, by its name."""
    replaced: list[Path] = field(default_factory=list)
    """Files of this run's shards that are made again."""
    superseded: list[Path] = field(default_factory=list)
    """Files of a part, or of an archive, that its folder, which was named, has no longer; or of one that has another name now."""
    gone: list[Path] = field(default_factory=list)
    """Files of shards that are no longer there, and were not named."""
    donors: list[Path] = field(default_factory=list)
    """Those of the last three kinds whose codes are the ones that this run would make."""


def look_back(shards: Sequence[Shard], wanted: Wanted) -> Earlier:
    """Find out what code files of a folder are worth to a run.

    Raises:
        HashgrainError: `shard-clash`, `exists`; `codes-missing` or `too-new` for a file with a shard's name that is none of ours.
    """
    earlier, named = Earlier(), _Named.by(shards)
    for shard in shards:
        _of_this_run(shard, named, wanted, earlier)
    others = [
        path for path in sorted(wanted.out.glob(f"*{SUFFIX}")) if path.name.removesuffix(SUFFIX) not in named.names
    ]
    for path in others:
        _of_another(path, named, wanted, earlier)
    _make_again_what_was_skipped(named, wanted, earlier)
    return earlier


def prefix_of(shard_name: str, settings: EncodeSettings) -> str:
    """Return what stands before each key of a shard."""
    return f"{shard_name}/" if settings.prefix_keys else ""


@dataclass(frozen=True, slots=True)
class _Named:
    """What a run has been told to encode."""

    names: frozenset[str]
    """Of its shards."""
    archives: frozenset[str]
    """Their paths."""
    roots: frozenset[str]
    """Folders, whose shards are all that is in them."""
    single: Mapping[str, frozenset[str]]
    """Images that were named one by one, as keys, by the folder that they are relative to, which may hold many others."""

    @classmethod
    def by(cls, shards: Sequence[Shard]) -> "_Named":
        files = [shard for shard in shards if shard.kind is ShardKind.FILES and shard.root is None]
        single = {
            path: frozenset(escaped(file) for shard in files if shard.path == path for file in shard.files)
            for path in {shard.path for shard in files}
        }
        archives = frozenset(shard.path for shard in shards if shard.kind is not ShardKind.FILES)
        roots = frozenset(shard.root for shard in shards if shard.root)
        return cls(frozenset(shard.name for shard in shards), archives, roots, single)

    def first_left(self, path: Path, folder: str) -> str | None:
        """Return the first image of a code file that was not named and is there still."""
        others = (key for key in _own_keys(path) if key not in self.single[folder])
        return next(
            (key for key in others if exists(Path(folder, key)) or exists(Path(folder, from_escaped(key)))), None
        )

    def has_any(self, path: Path, folder: str) -> bool:
        """Whether an image of a code file was named."""
        return any(key in self.single[folder] for key in _own_keys(path))


def _of_this_run(shard: Shard, named: _Named, wanted: Wanted, earlier: Earlier) -> None:
    """Sort the code file of a shard among those that hold and those that are made again."""
    path, settings = wanted.out / f"{shard.name}{SUFFIX}", wanted.settings
    if not path.exists():
        return
    try:
        with open_codes(path) as file:
            header, rejects = file.header, file.rejects()
    except HashgrainError as err:
        if err.reason is not Reason.CODES_DAMAGED and not settings.overwrite:
            raise  # somebody else's file, or a newer program's
        return
    record, reasons = header.shard, Counter(row.reject for row in rejects)
    was_at = record.found_from(path.parent)
    if was_at != shard.path and not settings.overwrite and exists(was_at):
        raise HashgrainError(
            Reason.SHARD_CLASH,
            f"{path} holds the codes of {was_at}; encode {shard.path} into another folder, or overwrite it",
        )
    _check_levels(path, header, wanted)
    if (
        (header.fingerprint, was_at) == (wanted.fingerprint, shard.path)
        and header.bits == wanted.bits
        and record.path == shard.path
        and record.key_prefix == prefix_of(shard.name, settings)
        and settings.precision in {Precision.AUTO, header.precision}
        and header.rules.hold_for(wanted.rules, reasons.keys())
        and record.stamp == reader_for(shard, settings.limits).stamp()
        and not record.damage  # it may have been the disk's for a moment: it is read again, and its codes are taken over
    ):
        earlier.kept[shard.name] = header, reasons
        earlier.same_as[shard.name] = {row.detail.removeprefix(AS_ONE_IN) for row in rejects if row.reject in CONTENT}
        return
    if was_at in named.single and not settings.overwrite and (left := named.first_left(path, was_at)):
        raise _left_out(path, left)
    earlier.replaced.append(path)
    _lend(path, header, wanted, earlier)


def _of_another(path: Path, named: _Named, wanted: Wanted, earlier: Earlier) -> None:
    """Sort a code file whose shard was not named: it may be another collection's, or stale."""
    try:
        with open_codes(path) as file:
            header = file.header
    except HashgrainError:
        return  # not for this run to judge
    was_at = header.shard.found_from(path.parent)
    if header.shard.kind is ShardKind.FILES:
        superseded = was_at in named.roots or (was_at in named.single and _is_superseded(path, was_at, named, wanted))
    else:
        superseded = was_at in named.archives
    if not superseded and (is_url(was_at) or not is_missing(was_at)):
        return
    if superseded or any(Path(was_at).is_relative_to(root) for root in named.roots):
        _check_levels(path, header, wanted)
        earlier.superseded.append(path)
    else:
        earlier.gone.append(path)
    _lend(path, header, wanted, earlier)


def _is_superseded(path: Path, folder: str, named: _Named, wanted: Wanted) -> bool:
    """Whether images that were named one by one take the place of a code file of the folder that they are in.

    Raises:
        HashgrainError: `shard-clash` for one with some of them and with others.
    """
    left = named.first_left(path, folder)
    if left and named.has_any(path, folder) and not wanted.settings.overwrite:
        raise _left_out(path, left)
    return left is None or named.has_any(path, folder)


def _left_out(path: Path, key: str) -> HashgrainError:
    return HashgrainError(
        Reason.SHARD_CLASH,
        f"{path} holds the codes of images that are there and were not named now, first {key}; name them, too, encode into "
        "another folder, or overwrite it",
    )


def _check_levels(path: Path, header: CodeHeader, wanted: Wanted) -> None:
    """Raise `exists` where a file has levels that the run would not make again."""
    kept = [level for level in header.bits if level in wanted.bits]
    if header.fingerprint == wanted.fingerprint and len(kept) < len(header.bits) and not wanted.settings.overwrite:
        raise HashgrainError(
            Reason.EXISTS,
            f"{path} has the levels {','.join(header.bits)}, of which {','.join(kept) or 'none'} would remain; choose another "
            "folder, or overwrite it",
        )


def _make_again_what_was_skipped(named: _Named, wanted: Wanted, earlier: Earlier) -> None:
    """Keep no file that skipped an image for one in a shard that may not have it any more."""
    lost = {path.name.removesuffix(SUFFIX) for path in (*earlier.superseded, *earlier.gone)}

    def stands(name: str) -> bool:
        there = name not in named.names | lost and (wanted.out / f"{name}{SUFFIX}").exists()
        return name in earlier.kept or there

    before = -1
    while before != len(earlier.replaced):
        before = len(earlier.replaced)
        for name in [name for name in earlier.kept if earlier.same_as[name]]:
            if not all(map(stands, earlier.same_as[name])):
                path, (header, _) = wanted.out / f"{name}{SUFFIX}", earlier.kept.pop(name)
                earlier.replaced.append(path)
                _lend(path, header, wanted, earlier)


def _lend(path: Path, header: CodeHeader, wanted: Wanted, earlier: Earlier) -> None:
    """Let a file lend its codes, where they are the ones that this run would make."""
    if (
        (header.fingerprint, header.precision) == (wanted.fingerprint, wanted.precision)
        and header.rules.codes_hold_for(wanted.rules)
        and wanted.bits.items() <= header.bits.items()
    ):
        earlier.donors.append(path)


def image_names(paths: Iterable[Path]) -> npt.NDArray[np.uint64]:
    """Return what the names of the images of code files are remembered by, proven before: uint64[n], 8 bytes each, sorted."""
    digests = (blake2b(key.encode(), digest_size=8).digest() for path in paths for key in _own_keys(path))
    return np.unique(np.frombuffer(b"".join(digests), np.uint64))


def _own_keys(path: Path) -> Iterator[str]:
    """Return the keys of a code file, proven before, without what stands before them."""
    with open_codes(path, proven=True) as file:
        prefix = file.header.shard.key_prefix
        yield from (key.removeprefix(prefix) for key in file.keys())  # noqa: SIM118  a method of the file, not of a dict
