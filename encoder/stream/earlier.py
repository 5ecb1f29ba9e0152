"""What earlier runs left in a folder: the code files that still hold, those that lend their codes, and those that are stale."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from encoder.codes.file import SUFFIX, CodeHeader, open_codes
from encoder.codes.rules import Rules
from encoder.errors import HashgrainError, Reason, Reject
from encoder.images.readers.formats import reader_for
from encoder.images.shards import Shard, ShardKind
from encoder.levels import Level
from encoder.model.spec import Precision
from encoder.runtime.files import exists, is_url
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
    replaced: list[Path] = field(default_factory=list)
    """Files of this run's shards that are made again."""
    superseded: list[Path] = field(default_factory=list)
    """Files of a part, or of an archive, that its folder, which was named, has no longer."""
    gone: list[Path] = field(default_factory=list)
    """Files of shards that are no longer there, and were not named."""
    donors: list[Path] = field(default_factory=list)
    """Those of the last three kinds whose codes are the ones that this run would make."""


def look_back(shards: Sequence[Shard], wanted: Wanted) -> Earlier:
    """Find out what code files of a folder are worth to a run.

    Raises:
        HashgrainError: `shard-clash`, `exists`; `codes-missing` or `too-new` for a file with a shard's name that is none of ours.
    """
    earlier = Earlier()
    for shard in shards:
        _of_this_run(shard, wanted, earlier)
    names = {shard.name for shard in shards}
    roots = {shard.path for shard in shards if shard.kind is ShardKind.FILES} | {shard.root for shard in shards}
    others = [path for path in sorted(wanted.out.glob(f"*{SUFFIX}")) if path.name.removesuffix(SUFFIX) not in names]
    for path in others:
        _of_another(path, {root for root in roots if root}, wanted, earlier)
    return earlier


def prefix_of(shard_name: str, settings: EncodeSettings) -> str:
    """Return what stands before each key of a shard."""
    return f"{shard_name}/" if settings.prefix_keys else ""


def _of_this_run(shard: Shard, wanted: Wanted, earlier: Earlier) -> None:
    """Sort the code file of a shard among those that hold and those that are made again."""
    path, settings = wanted.out / f"{shard.name}{SUFFIX}", wanted.settings
    if not path.exists():
        return
    try:
        with open_codes(path) as file:
            header, reasons = file.header, Counter(row.reject for row in file.rejects())
    except HashgrainError as err:
        if err.reason is not Reason.CODES_DAMAGED and not settings.overwrite:
            raise  # somebody else's file, or a newer program's
        return
    record = header.shard
    was_at = record.found_from(path.parent)
    if was_at != shard.path and not settings.overwrite and exists(was_at):
        raise HashgrainError(
            Reason.SHARD_CLASH,
            f"{path} holds the codes of {was_at}; encode {shard.path} into another folder, or overwrite it",
        )
    same = header.fingerprint == wanted.fingerprint and was_at == shard.path
    if same and header.bits.keys() > wanted.bits.keys() and not settings.overwrite:
        has = ",".join(header.bits)
        raise HashgrainError(
            Reason.EXISTS,
            f"{path} has the levels {has}, of which {','.join(wanted.bits)} would remain; choose another folder, or overwrite it",
        )
    if (
        same
        and header.bits == wanted.bits
        and record.path == shard.path
        and record.key_prefix == prefix_of(shard.name, settings)
        and settings.precision in {Precision.AUTO, header.precision}
        and header.rules.hold_for(wanted.rules, reasons.keys())
        and record.stamp == reader_for(shard, settings.limits).stamp()
    ):
        earlier.kept[shard.name] = header, reasons
    else:
        earlier.replaced.append(path)
        _lend(path, header, wanted, earlier)


def _of_another(path: Path, roots: set[str], wanted: Wanted, earlier: Earlier) -> None:
    """Sort a code file whose shard was not named: it may be another collection's, or stale."""
    try:
        with open_codes(path) as file:
            header = file.header
    except HashgrainError:
        return  # not for this run to judge
    if is_url(header.shard.path):
        return
    was_at = header.shard.found_from(path.parent)
    is_part = header.shard.kind is ShardKind.FILES and was_at in roots
    if not is_part and exists(was_at):
        return
    named = is_part or any(Path(was_at).is_relative_to(root) for root in roots)
    (earlier.superseded if named else earlier.gone).append(path)
    _lend(path, header, wanted, earlier)


def _lend(path: Path, header: CodeHeader, wanted: Wanted, earlier: Earlier) -> None:
    """Let a file lend its codes, where they are the ones that this run would make."""
    if (
        (header.fingerprint, header.precision) == (wanted.fingerprint, wanted.precision)
        and header.rules.codes_hold_for(wanted.rules)
        and wanted.bits.items() <= header.bits.items()
    ):
        earlier.donors.append(path)


def image_names(paths: Sequence[Path]) -> set[bytes]:
    """Return what the names of all images of code files are remembered by: 8 bytes each."""
    names = set[bytes]()
    for path in paths:
        with open_codes(path, proven=True) as file:
            prefix = file.header.shard.key_prefix
            keys = iter(file.keys())
            names |= {blake2b(key.removeprefix(prefix).encode(), digest_size=8).digest() for key in keys}
    return names
