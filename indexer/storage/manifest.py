"""What a generation says of itself: segments, levels, shards, labels, history; made of JSON that anybody may have written."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from encoder.images.labels.values import LabelKind
from encoder.images.limits import Limits
from encoder.images.shards import ShardKind
from encoder.levels import Level
from indexer.cutoffs import Calibrated, parse_calibrated
from indexer.settings import Dedupe, IndexKind
from indexer.storage.labels import LabelField, own_files, packed_files

Value = TypeVar("Value")

COLUMNS = ("keys.text.npy", "keys.offsets.npy", "keys.hashes.npy", "keys.order.npy", "places.npy")
"""Files of a segment that are always there."""
POSTINGS = ("entries", "rows", "starts")
"""Parts of the postings."""
MOST_SEGMENTS = 4096
HISTORY = 1000
"""Changes that are remembered."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
"""What a file or folder in a generation may be called."""
_MOST = 1 << 48
"""Of anything that is counted."""


@dataclass(frozen=True, slots=True)
class Change:
    """What made a generation of the one before."""

    generation: str
    when: str
    """UTC, ISO 8601; for people alone, since clocks go back: order is that of the generations' numbers."""
    what: str
    """`build`, `add`, `remove`, `sync`, `import`, `compact`, `measure` (of lists), `retrain`, `rollback`, `tune`,
    `calibrate` or `relocate`."""
    added: int
    removed: int
    rows: int
    """Rows after it, without those removed."""
    of: str | None = None
    """The generation that a rollback took up again."""


@dataclass(frozen=True, slots=True)
class Trained:
    """Where the centroids of a level's lists come from; segments that agree in it share them."""

    centroids: str
    """SHA-256 of their bytes."""
    rows: int
    """Entries of all segments when they were trained."""
    imbalance: float | None = None
    """Of the lists over them, as in `Aged`; None: not known."""


@dataclass(frozen=True, slots=True)
class Aged:
    """What was last measured of the lists of all segments, after rows were added."""

    rows: int
    imbalance: float
    """nlist * sum(size^2) / sum(size)^2, 1 where all lists have as many entries."""
    recall: float
    """recall@k at the level's nprobe, k of `tuned`, else 10."""


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
    trained: Trained | None = None
    """Of the lists; None: an index of format version 3 does not say."""
    aged: Aged | None = None
    """In the record of the first segment; None: not measured yet."""
    calibrated: Calibrated | None = None
    """What distances chance brings, in the record of the first segment; None: not measured."""

    def files(self) -> list[str]:
        """Return the names of its files, in the segment's folder."""
        postings = [] if self.postings is None else [f"{self.postings}.{part}.npy" for part in POSTINGS]
        return [self.flat, *([] if self.ivf is None else [self.ivf]), *postings]


@dataclass(frozen=True, slots=True)
class ShardSpan:
    """The rows that came from one shard, which begin at `first_row`."""

    first_row: int
    kind: ShardKind
    path: str
    key_prefix: str
    relative: str | None = None
    """The path from the index's folder, where the shard lies beside or below it: then both may move together."""
    codes: str | None = None
    """Name of the code file."""
    seal: str | None = None
    """SHA-256 of the code file's user block, which changes with every byte of the file; None: an index of version 3."""


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
    removed: int = 0
    """Rows that `live` does not have."""


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
    kind: IndexKind = IndexKind.AUTO
    """How the index was asked for; later segments follow it, as they do `dedupe` and `seed`."""
    dedupe: Dedupe = Dedupe.AUTO
    seed: int = 0
    history: tuple[Change, ...] = ()
    """What was done to the index, oldest first, the last `HISTORY` changes."""

    @property
    def rows(self) -> int:
        """Return the number of codes at each level."""
        return sum(segment.rows for segment in self.segments)

    @property
    def live(self) -> int:
        """Return the number of rows that have not been removed."""
        return self.rows - sum(segment.removed for segment in self.segments)

    @property
    def bits(self) -> dict[Level, int]:
        """Return the bits of each level; every segment has the same."""
        return _bits(self.segments[0])

    def expected_files(self) -> list[str]:
        """Return the paths of the files that a generation with this manifest has to have, in it."""
        names = [] if self.model is None else [self.model]
        return names + [name for segment in self.segments for name in self.files_of(segment)]

    def files_of(self, segment: SegmentRecord) -> list[str]:
        """Return the paths of the files of a segment, in the generation."""
        of_version_2 = f"{segment.name}/{own_files(segment.labels[:1])[0]}" in self.files if segment.labels else False
        labels = own_files(segment.labels) if of_version_2 else packed_files(segment.labels)
        of_levels = [name for record in segment.levels.values() for name in record.files()]
        names = [f"{segment.name}/{name}" for name in (*COLUMNS, *labels, *of_levels)]
        return names if segment.live is None else [*names, segment.live]


def parse_manifest(content: dict[str, Any]) -> Manifest:
    """Make a manifest of JSON that anybody may have written: no name leads out of the generation, no count is anything else."""
    if len(content["segments"]) > MOST_SEGMENTS or len(content.get("history", ())) > HISTORY:
        raise ValueError(f"over {MOST_SEGMENTS} segments, or {HISTORY} changes")
    segments = [_segment(record) for record in content["segments"]]
    if not segments or len({tuple(_bits(segment).items()) for segment in segments}) > 1:
        raise ValueError("it has no segments, or segments of different levels")
    checked_count(sum(segment.rows for segment in segments))
    texts = {name: _text(content[name]) for name in ("fingerprint", "precision")}
    parsed = {
        "model": _or_none(_name, content["model"]),
        "segments": segments,
        "files": {
            _inside(name): (checked_count(size), _text(digest)) for name, (size, digest) in content["files"].items()
        },
        "limits": Limits(**{name: checked_count(limit) for name, limit in content.get("limits", {}).items()}),
        "kind": IndexKind(content.get("kind", IndexKind.AUTO)),
        "dedupe": Dedupe(content.get("dedupe", Dedupe.AUTO)),
        "seed": checked_count(content.get("seed", 0)),
        "history": tuple(_change(change) for change in content.get("history", ())),
    }
    manifest = Manifest(**content | texts | parsed)
    expected = manifest.expected_files()
    if len(expected) > len(set(expected)) or set(expected) != set(manifest.files):
        odd = sorted(set(expected) ^ set(manifest.files)) or ["a file twice"]
        raise ValueError(f"its files are not those of its segments, first {odd[0]!r}")
    return manifest


def _change(content: dict[str, Any]) -> Change:
    texts = {name: _line(content[name]) for name in ("generation", "when", "what")}
    counts = {name: checked_count(content[name]) for name in ("added", "removed", "rows")}
    return Change(**content | texts | counts | {"of": _or_none(_line, content.get("of"))})


def _level(content: dict[str, Any]) -> LevelRecord:
    parsed = {
        "nbits": checked_count(content["nbits"]),
        "flat": _name(content["flat"]),
        "ivf": _or_none(_name, content.get("ivf")),
        "postings": _or_none(_name, content.get("postings")),
        "nlist": _or_none(checked_count, content["nlist"]),
        "nprobe": _or_none(checked_count, content["nprobe"]),
        "tuned": _or_none(_tuned, content.get("tuned")),
        "trained": _or_none(_trained, content.get("trained")),
        "aged": _or_none(_aged, content.get("aged")),
        "calibrated": _or_none(partial(_calibrated, nbits=content["nbits"]), content.get("calibrated")),
    }
    record = LevelRecord(**content | parsed)
    probed = {record.nlist, record.nprobe}
    if not record.nbits or record.nbits % 8 or 0 in probed or (record.ivf is None) != (record.nlist is None):
        raise ValueError(f"a level of {record.nbits} bits, {record.nlist} lists, {record.nprobe} probed")
    return record


def _tuned(content: Any) -> Tuned:
    recalls = {
        int(nprobe): float(recall) for nprobe, recall in content["recalls"].items()
    }  # JSON has no numbers for names
    if not all(nprobe >= 1 and 0 <= recall <= 1 for nprobe, recall in recalls.items()):
        raise ValueError(f"recalls of {recalls}")
    return Tuned(checked_count(content["k"]), recalls)


def _trained(content: Any) -> Trained:
    imbalance = _or_none(float, content.get("imbalance"))
    if imbalance is not None and not 0 <= imbalance < _MOST:
        raise ValueError(f"lists with the imbalance {imbalance}")
    return Trained(_line(content["centroids"]), checked_count(content["rows"]), imbalance)


def _aged(content: Any) -> Aged:
    aged = Aged(checked_count(content["rows"]), float(content["imbalance"]), float(content["recall"]))
    if not (0 <= aged.imbalance < _MOST and 0 <= aged.recall <= 1):
        raise ValueError(f"lists with the imbalance {aged.imbalance} and the recall {aged.recall}")
    return aged


def _calibrated(content: Any, nbits: int) -> Calibrated:
    counts = {name: checked_count(content[name]) for name in ("rows", "sample")}
    return parse_calibrated(content | counts | {"how": _line(content["how"])}, nbits)


def _segment(content: dict[str, Any]) -> SegmentRecord:
    record = SegmentRecord(
        **content
        | {
            "name": _name(content["name"]),
            "rows": checked_count(content["rows"]),
            "levels": {level: _level(content["levels"][level]) for level in Level if level in content["levels"]},
            "labels": [_label(record) for record in content["labels"]],
            "shards": [_span(record) for record in content["shards"]],
            "live": _or_none(_inside, content.get("live")),
            "removed": checked_count(content.get("removed", 0)),
        }
    )
    firsts = [span.first_row for span in record.shards]
    if firsts != sorted(firsts) or max(firsts, default=0) > record.rows or (record.rows and firsts[:1] != [0]):
        raise ValueError(f"shards that begin at rows {firsts[:5]}")
    if record.removed > record.rows or (record.removed and record.live is None):
        raise ValueError(f"{record.removed} of {record.rows} rows removed, which {record.live} tells")
    if len({field.name for field in record.labels}) < len(record.labels):
        raise ValueError("a label twice")
    return record


def _label(content: dict[str, Any]) -> LabelField:
    """Read a label; format version 2 had whole numbers and text."""
    kind = content.get("kind") or (LabelKind.TEXT if content["is_text"] else LabelKind.INT)
    return LabelField(_text(content["name"]), LabelKind(kind))


def _span(content: dict[str, Any]) -> ShardSpan:
    texts = (_text(content["path"]), _text(content["key_prefix"]), _or_none(_text, content.get("relative")))
    of_codes = (_or_none(_text, content.get("codes")), _or_none(_line, content.get("seal")))
    return ShardSpan(checked_count(content["first_row"]), ShardKind(content["kind"]), *texts, *of_codes)


def _bits(segment: SegmentRecord) -> dict[Level, int]:
    return {level: record.nbits for level, record in segment.levels.items()}


def _inside(name: object) -> str:
    """Return a path that stays in its folder: a file of the generation, or one of a folder in it."""
    parts = _text(name).split("/")
    if len(parts) > 2 or not all(_NAME.fullmatch(part) for part in parts):
        raise ValueError(f"{name!r} is not a file of a generation")
    return "/".join(parts)


def _name(name: object) -> str:
    """Return a name without folders."""
    if not _NAME.fullmatch(_text(name)):
        raise ValueError(f"{name!r} is not the name of a file of a generation")
    return str(name)


def checked_count(value: object) -> int:
    """Return a whole number from 0 on, of a size that something counted can have; raise ValueError for anything else."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MOST:
        raise ValueError(f"{value!r} is not a count")
    return value


def _line(value: object) -> str:
    """Return text of one line that any terminal can show."""
    if not (text := _text(value)).isprintable():
        raise ValueError(f"{text!r} is not a line of text")
    return text


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TypeError(f"{value!r} is not text")
    return value


def _or_none(read: Callable[[Any], Value], value: object) -> Value | None:
    return None if value is None else read(value)
