"""What earlier runs left in a folder: the code files that still hold, those that lend their codes, and those that are stale."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoder.codes.file import RejectRow
from encoder.codes.header import CodeHeader
from encoder.codes.rules import CONTENT, Rules
from encoder.codes.store import CodeStore
from encoder.errors import HashgrainError, Reason, Reject
from encoder.images.duplicates import AS_ONE_IN
from encoder.images.names import escaped, from_escaped
from encoder.images.readers.formats import reader_for
from encoder.images.shards import Shard, ShardKind
from encoder.levels import Level
from encoder.model.spec import Precision
from encoder.runtime.files import exists, is_missing, is_url
from encoder.runtime.parallel import ordered_map
from encoder.stream.settings import EncodeSettings


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a code file of this run is made by."""

    store: CodeStore
    fingerprint: str
    bits: Mapping[Level, int]
    settings: EncodeSettings
    rules: Rules
    precision: Precision
    """Of this run, not AUTO."""


@dataclass(slots=True)
class Earlier:
    """The code files of a folder, as a new run sees them, by the names of their shards."""

    kept: dict[str, tuple[CodeHeader, Counter[Reject]]] = field(default_factory=dict)
    """What still holds."""
    same_as: dict[str, set[str]] = field(default_factory=dict)
    """The shards that hold what was skipped in one of `kept`."""
    replaced: list[str] = field(default_factory=list)
    """Files of this run's shards that are made again."""
    superseded: list[str] = field(default_factory=list)
    """Files of a part, or of an archive, that its folder, which was named, has no longer; or of one that has another name now."""
    gone: list[str] = field(default_factory=list)
    """Files of shards that are no longer there, and were not named."""
    donors: list[str] = field(default_factory=list)
    """Those of the last three kinds whose codes are the ones that this run would make."""


class _Head(NamedTuple):
    """What a code file says of itself, and what it left out."""

    header: CodeHeader
    rejects: list[RejectRow]


def look_back(shards: Sequence[Shard], wanted: Wanted) -> Earlier:
    """Find out what code files of a folder are worth to a run.

    Raises:
        HashgrainError: `shard-clash`, `exists`; `codes-missing` or `too-new` for a file with a shard's name that is none of ours.
    """
    earlier, named = Earlier(), _Named.by(shards)
    there = [shard for shard in shards if wanted.store.has(shard.name)]
    for shard, head in zip(there, _heads(wanted.store, [shard.name for shard in there]), strict=True):
        _of_this_run(shard, head, named, wanted, earlier)
    others = [name for name in wanted.store.names() if name not in named.names]
    for name, head in zip(others, _heads(wanted.store, others), strict=True):
        _of_another(name, head, named, wanted, earlier)
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

    def first_left(self, store: CodeStore, name: str, folder: str) -> str | None:
        """Return the first image of a code file that was not named and is there still."""
        others = (key for key in _own_keys(store, name) if key not in self.single[folder])
        return next(
            (key for key in others if exists(Path(folder, key)) or exists(Path(folder, from_escaped(key)))), None
        )

    def has_any(self, store: CodeStore, name: str, folder: str) -> bool:
        """Whether an image of a code file was named."""
        return any(key in self.single[folder] for key in _own_keys(store, name))


def _heads(store: CodeStore, names: Sequence[str]) -> Iterator[_Head | HashgrainError]:
    """Prove code files whole, and yield what each says of itself and of what it left out, or what is wrong with it."""

    def head(name: str) -> _Head | HashgrainError:
        try:
            with store.opened(name) as file:
                return _Head(file.header, file.rejects())
        except HashgrainError as err:
            return err

    return ordered_map(head, names, store.readers, alone=False)


def _of_this_run(shard: Shard, head: _Head | HashgrainError, named: _Named, wanted: Wanted, earlier: Earlier) -> None:
    """Sort the code file of a shard among those that hold and those that are made again."""
    store, settings = wanted.store, wanted.settings
    path = store.where(shard.name)
    if isinstance(head, HashgrainError):
        if head.reason is not Reason.CODES_DAMAGED and not settings.overwrite:
            raise head  # somebody else's file, or a newer program's
        return
    header, rejects = head
    record, reasons = header.shard, Counter(row.reject for row in rejects)
    was_at = store.found(record)
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
    if was_at in named.single and not settings.overwrite and (left := named.first_left(store, shard.name, was_at)):
        raise _left_out(path, left)
    earlier.replaced.append(shard.name)
    _lend(shard.name, header, wanted, earlier)


def _of_another(name: str, head: _Head | HashgrainError, named: _Named, wanted: Wanted, earlier: Earlier) -> None:
    """Sort a code file whose shard was not named: it may be another collection's, or stale."""
    if isinstance(head, HashgrainError):
        return  # not for this run to judge
    header = head.header
    was_at = wanted.store.found(header.shard)
    if header.shard.kind is ShardKind.FILES:
        superseded = was_at in named.roots or (was_at in named.single and _is_superseded(name, was_at, named, wanted))
    else:
        superseded = was_at in named.archives
    if not superseded and (is_url(was_at) or not is_missing(was_at)):
        return
    if superseded or any(Path(was_at).is_relative_to(root) for root in named.roots):
        _check_levels(wanted.store.where(name), header, wanted)
        earlier.superseded.append(name)
    else:
        earlier.gone.append(name)
    _lend(name, header, wanted, earlier)


def _is_superseded(name: str, folder: str, named: _Named, wanted: Wanted) -> bool:
    """Whether images that were named one by one take the place of a code file of the folder that they are in.

    Raises:
        HashgrainError: `shard-clash` for one with some of them and with others.
    """
    store = wanted.store
    left = named.first_left(store, name, folder)
    if left and named.has_any(store, name, folder) and not wanted.settings.overwrite:
        raise _left_out(store.where(name), left)
    return left is None or named.has_any(store, name, folder)


def _left_out(path: str, key: str) -> HashgrainError:
    return HashgrainError(
        Reason.SHARD_CLASH,
        f"{path} holds the codes of images that are there and were not named now, first {key}; name them, too, encode into "
        "another folder, or overwrite it",
    )


def _check_levels(path: str, header: CodeHeader, wanted: Wanted) -> None:
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
    lost = {*earlier.superseded, *earlier.gone}

    def stands(name: str) -> bool:
        there = name not in named.names | lost and wanted.store.has(name)
        return name in earlier.kept or there

    before = -1
    while before != len(earlier.replaced):
        before = len(earlier.replaced)
        for name in [name for name in earlier.kept if earlier.same_as[name]]:
            if not all(map(stands, earlier.same_as[name])):
                header, _ = earlier.kept.pop(name)
                earlier.replaced.append(name)
                _lend(name, header, wanted, earlier)


def _lend(name: str, header: CodeHeader, wanted: Wanted, earlier: Earlier) -> None:
    """Let a file lend its codes, where they are the ones that this run would make."""
    if (
        (header.fingerprint, header.precision) == (wanted.fingerprint, wanted.precision)
        and header.rules.codes_hold_for(wanted.rules)
        and wanted.bits.items() <= header.bits.items()
    ):
        earlier.donors.append(name)


def image_names(store: CodeStore, names: Iterable[str]) -> npt.NDArray[np.uint64]:
    """Return what the names of the images of code files are remembered by, proven before: uint64[n], 8 bytes each, sorted."""
    digests = (blake2b(key.encode(), digest_size=8).digest() for name in names for key in _own_keys(store, name))
    return np.unique(np.frombuffer(b"".join(digests), np.uint64))


def _own_keys(store: CodeStore, name: str) -> Iterator[str]:
    """Return the keys of a code file, proven before, without what stands before them."""
    with store.opened(name, proven=True) as file:
        prefix = file.header.shard.key_prefix
        yield from (key.removeprefix(prefix) for key in file.keys())  # noqa: SIM118  a method of the file, not of a dict
