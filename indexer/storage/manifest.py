"""The index on disk: immutable generations, each with a manifest, and one pointer that names the current one."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from encoder.errors import HashgrainError, Reason, why
from encoder.images.labels.values import LabelKind
from encoder.images.limits import Limits
from encoder.images.shards import ShardKind
from encoder.levels import Level
from encoder.runtime.publish import sha256_of, write_bytes
from indexer.storage.labels import LabelField

Value = TypeVar("Value")

FORMAT, VERSION = "hashgrain-index", 3
POINTER = "CURRENT"
MANIFEST = "manifest.json"
GENERATION = "gen-{:06d}"
_GENERATION = re.compile(r"gen-\d{6,}")


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was measured of inverted lists: an operating point per number of lists probed."""

    k: int
    recalls: dict[int, float]
    """Recall@k by nprobe."""


@dataclass(frozen=True, slots=True)
class LevelRecord:
    """One level of an index."""

    nbits: int
    flat: str
    """File name of the IndexBinaryFlat: the code of each entry, which is a row unless rows share entries."""
    ivf: str | None
    """File name of the IndexBinaryIVF over the same codes, if there is one."""
    nlist: int | None
    nprobe: int | None
    """Lists probed when the query does not say; None: every code is compared."""
    tuned: Tuned | None = None
    """What `indexer tune` measured of the lists."""
    postings: str | None = None
    """What the names of the files with the postings begin with, which hold the rows of each entry; None: an entry is a row."""


@dataclass(frozen=True, slots=True)
class ShardSpan:
    """The rows that came from one shard, which begin at `first_row`."""

    first_row: int
    kind: ShardKind
    path: str
    key_prefix: str
    relative: str | None = None
    """The path from the index's folder, where the shard lies beside or below it: then both may move together."""


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """Rows that were built together; a row of the index is a row here plus the rows of the segments before."""

    name: str
    """Folder of its files inside the generation."""
    rows: int
    levels: dict[Level, LevelRecord]
    labels: list[LabelField]
    shards: list[ShardSpan]
    live: str | None = None
    """File of the generation that says which rows have not been removed; None: all."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that a generation says of itself."""

    fingerprint: str
    """SHA-256 of the model file that made the codes."""
    precision: str
    """Arithmetic that the codes were made in."""
    model: str | None
    """File name of the model, if it stood beside the codes."""
    segments: list[SegmentRecord]
    files: dict[str, tuple[int, str]]
    """Size in bytes and SHA-256 of every other file of the generation, by path in it."""
    limits: Limits = Limits()
    """What an image might be that was encoded, by the most generous of the code files."""

    @property
    def rows(self) -> int:
        """Return the number of codes at each level."""
        return sum(segment.rows for segment in self.segments)

    @property
    def bits(self) -> dict[Level, int]:
        """Return the bits of each level; every segment has the same."""
        return _bits(self.segments[0])


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a generation's manifest."""
    content = {"format": FORMAT, "version": VERSION, **asdict(manifest)}
    (folder / MANIFEST).write_text(json.dumps(content, sort_keys=True, indent=1))


def write_pointer(index: Path, generation: str) -> None:
    """Make a generation the current one, at once for every reader."""
    pointer = {"generation": generation, "manifest_sha256": sha256_of(index / generation / MANIFEST)}
    write_bytes(index / POINTER, json.dumps(pointer).encode())


def generations(index: Path) -> list[Path]:
    """Return the generations that stand on disk. What else lies in the folder is somebody else's."""
    return [path for path in index.glob("gen-*") if _GENERATION.fullmatch(path.name) and (path / MANIFEST).is_file()]


def next_generation(index: Path) -> str:
    """Return the name of the generation after the last one that stands on disk."""
    numbers = [int(path.name.partition("-")[2]) for path in index.glob("gen-*") if _GENERATION.fullmatch(path.name)]
    return GENERATION.format(max(numbers, default=0) + 1)


def read_current(index: Path, pointer: bytes | None = None) -> tuple[Path, Manifest]:
    """Return the current generation's folder and manifest, proven to be the one the pointer was written for.

    Args:
        index: folder of the index.
        pointer: what the pointer file held when another generation was the current one; None: what it holds.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`, `too-new`.
    """
    try:
        pointed = (index / POINTER).read_bytes() if pointer is None else pointer
    except (OSError, ValueError) as err:
        raise _missing(index, err) from err
    try:
        content = json.loads(pointed)
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
        if expected not in {None, sha256_of(path)}:
            raise _damaged(path, "its bytes do not match the pointer's SHA-256")
        content = json.loads(path.read_bytes())
        if (version := _count(content.pop("version"))) > VERSION:
            raise HashgrainError(
                Reason.TOO_NEW, f"{path} has format version {version}, this program reads {VERSION}; upgrade hashgrain"
            )
        return _parse(content)
    except PermissionError as err:
        raise _unreadable(path, err) from err
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as err:
        raise _damaged(path, f"it cannot be read ({err})") from err


def check_sizes(folder: Path, files: Mapping[str, tuple[int, str]]) -> None:
    """Raise `index-damaged` for a file that is missing or of another size: cheap, done at every open."""
    for name, (size, _) in files.items():
        path = folder / name
        try:
            found = path.stat().st_size
        except PermissionError as err:
            raise _unreadable(path, err) from err
        except OSError as err:
            raise _damaged(path, "it is missing") from err
        if found != size:
            raise _damaged(path, f"it has {found:,} bytes where {size:,} were written")


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
    return HashgrainError(Reason.INDEX_MISSING, f"index {path} cannot be read ({why(err)}); give one that you may read")


def _damaged(path: Path, fault: str) -> HashgrainError:
    return HashgrainError(
        Reason.INDEX_DAMAGED,
        f"index file {path} is damaged: {fault}; build the index again",
    )


def _parse(content: dict[str, Any]) -> Manifest:
    """Make a manifest of JSON that anybody may have written: no name leads out of the generation, no count is anything else."""
    if content.pop("format") != FORMAT:
        raise ValueError(f"no {FORMAT}")
    files = {_inside(name): (_count(size), _text(digest)) for name, (size, digest) in content["files"].items()}
    segments = [_segment(record) for record in content["segments"]]
    if not segments or len({tuple(_bits(segment).items()) for segment in segments}) > 1:
        raise ValueError("it has no segments, or segments of different levels")
    texts = {name: _text(content[name]) for name in ("fingerprint", "precision")}
    limits = Limits(**{name: _count(limit) for name, limit in content.get("limits", {}).items()})
    parsed = {"model": _or_none(_inside, content["model"]), "segments": segments, "files": files, "limits": limits}
    return Manifest(**content | texts | parsed)


def _level(content: dict[str, Any]) -> LevelRecord:
    measured = content.get("tuned")
    if measured is not None:  # JSON has no numbers for names
        recalls = {int(nprobe): float(recall) for nprobe, recall in measured["recalls"].items()}
        if not all(nprobe >= 1 and 0 <= recall <= 1 for nprobe, recall in recalls.items()):
            raise ValueError(f"recalls of {recalls}")
        measured = Tuned(_count(measured["k"]), recalls)
    names = {name: _or_none(_inside, content.get(name)) for name in ("ivf", "postings")}
    counts = {name: _or_none(_count, content[name]) for name in ("nlist", "nprobe")}
    record = LevelRecord(
        **content
        | names
        | counts
        | {"nbits": _count(content["nbits"]), "flat": _inside(content["flat"]), "tuned": measured}
    )
    if not record.nbits or record.nbits % 8 or 0 in counts.values() or (record.ivf is None) != (record.nlist is None):
        raise ValueError(f"a level of {record.nbits} bits, {record.nlist} lists, {record.nprobe} probed")
    return record


def _segment(content: dict[str, Any]) -> SegmentRecord:
    record = SegmentRecord(
        **content
        | {
            "name": _inside(content["name"]),
            "rows": _count(content["rows"]),
            "levels": {level: _level(content["levels"][level]) for level in Level if level in content["levels"]},
            "labels": [_label(record) for record in content["labels"]],
            "shards": [_span(record) for record in content["shards"]],
            "live": _or_none(_inside, content.get("live")),
        }
    )
    firsts = [span.first_row for span in record.shards]
    if firsts != sorted(firsts) or max(firsts, default=0) > record.rows or (record.rows and firsts[:1] != [0]):
        raise ValueError(f"shards that begin at rows {firsts[:5]}")
    return record


def _label(content: dict[str, Any]) -> LabelField:
    """Read a label; format version 2 had whole numbers and text."""
    kind = content.get("kind") or (LabelKind.TEXT if content["is_text"] else LabelKind.INT)
    return LabelField(_text(content["name"]), LabelKind(kind))


def _span(content: dict[str, Any]) -> ShardSpan:
    texts = (_text(content["path"]), _text(content["key_prefix"]), _or_none(_text, content.get("relative")))
    return ShardSpan(_count(content["first_row"]), ShardKind(content["kind"]), *texts)


def _bits(segment: SegmentRecord) -> dict[Level, int]:
    return {level: record.nbits for level, record in segment.levels.items()}


def _inside(name: object) -> str:
    """Return a path that stays in its folder."""
    path = PurePosixPath(_text(name))
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name!r} is not a file of a generation")
    return str(path)


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TypeError(f"{value!r} is not text")
    return value


def _or_none(read: Callable[[object], Value], value: object) -> Value | None:
    return None if value is None else read(value)
