"""The header of a code file: what it says of its shard and of itself. Read as anybody may have written it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encoder.codes.rules import Rules
from encoder.images.limits import Limits
from encoder.images.shards import ShardKind, found_from
from encoder.levels import MAX_BITS, Level


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """The shard a code file came from, as it was when it was read."""

    name: str
    kind: ShardKind
    path: str
    """Absolute path of the tar, or of the folder the files are below."""
    size: int
    sha256: str
    stamp: str
    """`Shard.stamp()`: sizes and times, to tell cheaply whether it changed."""
    damage: str | None
    """Why the shard was not whole, or None."""
    key_prefix: str
    """What stands before each image's own name in its key."""
    relative: str | None = None
    """The path from the code file's folder, where the shard lies beside or below it: then both may move together."""

    def found_from(self, folder: Path) -> str:
        """Return the path of the shard for a code file in `folder`: where both moved together, the new one."""
        return found_from(folder, self.path, self.relative)


@dataclass(frozen=True, slots=True)
class CodeHeader:
    """What a code file says of itself."""

    fingerprint: str
    """SHA-256 of the model file that made the codes."""
    precision: str
    bits: dict[Level, int]
    shard: ShardRecord
    seen: int
    """Images seen = rows + rejects."""
    rows: int
    rejects: int
    bad_labels: int
    rules: Rules = field(default_factory=Rules)
    """What decided which images became rows; a file of version 1 does not say."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Files in the shard that are neither images nor labels, by kind."""


def read_header(fields: dict[str, Any]) -> CodeHeader:
    """Return the header of its JSON.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is not one.
    """
    bits = {level: _count(fields["bits"][level]) for level in Level if level in fields["bits"]}
    if not bits or any(not 0 < nbits <= MAX_BITS or nbits % 8 for nbits in bits.values()):
        raise ValueError(f"bits {bits}, expected multiples of 8 up to {MAX_BITS}")
    texts = {name: _text(fields[name]) for name in ("fingerprint", "precision")}
    counts = {name: _count(fields[name]) for name in ("seen", "rows", "rejects", "bad_labels")}
    skipped = {_text(kind): _count(count) for kind, count in fields.get("skipped", {}).items()}
    parsed = {"bits": bits, "shard": _shard(fields["shard"]), "rules": _rules(fields), "skipped": skipped}
    return CodeHeader(**fields | texts | counts | parsed)


def _shard(fields: dict[str, Any]) -> ShardRecord:
    texts = {name: _text(fields[name]) for name in ("name", "path", "sha256", "stamp", "key_prefix")}
    maybe = {name: None if fields.get(name) is None else _text(fields[name]) for name in ("damage", "relative")}
    return ShardRecord(**fields | texts | maybe | {"kind": ShardKind(fields["kind"]), "size": _count(fields["size"])})


def _rules(fields: dict[str, Any]) -> Rules:
    """Return what decided which images became rows; a file of version 1 does not say."""
    if "rules" not in fields:
        return Rules()
    rules = fields["rules"]
    limits = Limits(**{name: _count(limit) for name, limit in rules["limits"].items()})
    texts = {name: _text(rules[name]) for name in ("skip", "labels") if name in rules}
    return Rules(**rules | texts | {"limits": limits, "decode": _count(rules.get("decode", 1))})


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r} is not a count")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TypeError(f"{value!r} is not text")
    return value
