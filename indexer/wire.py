"""What a service and its clients say to each other, in plain data: JSON on the wire, these in a program.

Validated where it comes in (`indexer/service/parse.py`); this module needs nothing but the standard library, so that a client loads
neither numpy nor a web framework for it. Names on the wire are those of the fields.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from encoder.images.region import RegionMode
from encoder.levels import Level
from indexer.settings import Combine

_JSON: Final = json.JSONEncoder(allow_nan=False, ensure_ascii=True, separators=(",", ":"))
JsonLabels: TypeAlias = Mapping[str, Any]
"""Labels as JSON has them: text, numbers, booleans."""


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What to look for, and how. What is looked for is one of a picture (the body itself), `key`, `codes`; or `positive` alone."""

    key: str | None = None
    """An image that the index holds."""
    codes: Mapping[Level, str] | None = None
    """A code by level, hexadecimal, lowest bit of the first byte first: what an earlier answer returned."""
    positive: tuple[str, ...] = ()
    """Keys of images to be more like."""
    negative: tuple[str, ...] = ()
    """Keys of images to be less like."""
    region: tuple[float, float, float, float] | None = None
    """x, y, width, height of the part that is looked for, in shares of the upright picture; of a picture or a key."""
    region_mode: RegionMode | None = None
    level: Level | None = None
    """Which code is compared; none: fused, or the only one there is."""
    levels: tuple[Level, ...] = ()
    """Several levels instead of one."""
    combine: Combine | Literal["each"] | None = None
    """How several levels become one order; `each`: one answer per level, side by side."""
    weights: tuple[int, ...] | None = None
    budgets: tuple[int, ...] | None = None
    radii: tuple[int, ...] | None = None
    rerank: int | None = None
    """Order the nearest so many by how sure the query is of each bit; of pictures, one level."""
    k: int | None = None
    """Most hits; none: 10, or with a radius all within it, up to the service's limit."""
    offset: int = 0
    """Hits to leave out at the front: for the next page of an answer."""
    radius: int | None = None
    """Largest Hamming distance in bits, inclusive."""
    max_false: float | None = None
    """Nothing farther than the calibrated cut-off of so many unrelated images per query."""
    where: str | None = None
    """Filter that rows must pass."""
    explain: bool = False
    """Report the distance at every level."""
    exclude_self: bool = True
    """A query by key leaves its own row out."""
    nprobe: int | None = None
    recall: float | None = None
    exact: bool = False
    histogram: bool = False
    """Count the rows at each distance; of one level."""


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """Several queries of equal options."""

    queries: tuple[SearchRequest, ...]


@dataclass(frozen=True, slots=True)
class WireHit:
    """One row found."""

    key: str
    row: int
    """A number in the generation that the answer names."""
    rank: int
    distance: int
    labels: JsonLabels
    shard: str
    score: float | None = None
    distances: Mapping[str, int] = field(default_factory=dict)
    beyond: bool = False
    """Farther than the cut-off: chance may have brought it here."""


@dataclass(frozen=True, slots=True)
class WireCutOff:
    """The distance beyond which rows are not called similar."""

    radius: int
    max_false: float


@dataclass(frozen=True, slots=True)
class WireAnswer:
    """The hits of one query at one level, or at several that were combined."""

    level: Level
    """The one whose distance hits have."""
    searched: str
    """In words."""
    hits: tuple[WireHit, ...]
    eligible: int
    """Rows that pass the filter and have not been removed."""
    nothing_similar: bool = False
    """A cut-off was asked for, and nothing is within it: the hits, if any, are beyond."""
    cutoff: WireCutOff | None = None
    nearest: int | None = None
    """Distance of the nearest eligible row, where there is a cut-off and no hit."""
    survivors: tuple[int, ...] = ()
    histogram: tuple[int, ...] | None = None
    """Eligible rows at distance 0, 1, ... nbits."""


@dataclass(frozen=True, slots=True)
class WireQuery:
    """What was looked for."""

    name: str
    codes: Mapping[str, str]
    """By level, as `SearchRequest.codes` takes them."""
    labels: JsonLabels = field(default_factory=dict)
    """Of a query by key."""


@dataclass(frozen=True, slots=True)
class SearchResponse:
    """What a search came to."""

    generation: str
    rows: int
    """Of the index, without removed ones."""
    query: WireQuery
    answers: tuple[WireAnswer, ...]
    ms: Mapping[str, float]
    """Time by stage: receive, decode, encode, wait, search, hits, total."""
    batch: int
    """Queries that were searched together with this one, itself included."""
    partial: bool = False
    """A part of the index could not be asked: there may be nearer rows than these."""
    missing: tuple[int, ...] = ()
    """Numbers of the slices that could not."""


@dataclass(frozen=True, slots=True)
class BatchResponse:
    """One response per query, in their order."""

    responses: tuple[SearchResponse, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One row of the index."""

    key: str
    row: int
    generation: str
    shard: str
    labels: JsonLabels
    codes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LevelInfo:
    """One level of the index."""

    bits: int
    kind: str
    """flat or ivf."""
    nlist: int | None
    recall: Mapping[str, int]
    """Measured operating points: recall to lists probed."""
    cutoffs: Mapping[str, int]
    """Radius by expected unrelated images per query (0.001, 0.01, 0.1); empty where nothing was calibrated."""


@dataclass(frozen=True, slots=True)
class LabelFieldInfo:
    """One field of labels."""

    kind: str
    """text, texts (lists of it), number or boolean."""
    values: tuple[Any, ...]
    """Its most frequent values, at most 50, in a sample of rows."""
    distinct: int
    """Values in the sample."""
    least: float | None = None
    most: float | None = None
    """Of numbers, in the sample."""


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What a service serves."""

    name: str
    generation: str
    rows: int
    levels: Mapping[str, LevelInfo]
    fingerprint: str
    """Of the model that made the codes."""
    label_fields: Mapping[str, LabelFieldInfo]
    has_model: bool
    """Whether pictures can be queries; else keys and codes alone."""
    writable: bool
    limits: Mapping[str, int]
    """Largest body in bytes, pixels, k + offset, waiting queries."""


@dataclass(frozen=True, slots=True)
class Changed:
    """An item that was added, or removed."""

    key: str
    generation: str
    row: int | None
    """Where it stands; none after a removal."""


@dataclass(frozen=True, slots=True)
class WireHeatMap:
    """How much each place of a picture says for the bits that agree."""

    grids: tuple[tuple[tuple[float, ...], ...], ...]
    """[grid][row][column]; one grid per feature stage that the level is made of. Over all grids they add up to `total`."""
    box: tuple[float, float, float, float]
    """x, y, width, height of the square that the network saw, in shares of the upright picture."""
    total: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the agreeing bits of two pictures rest on."""

    level: Level
    bits: int
    agreeing: int
    query: WireHeatMap
    hit: WireHeatMap


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request was refused, as RFC 9457 has it."""

    type: str
    """`urn:hashgrain:` and the reason."""
    title: str
    status: int
    detail: str
    """What was done, the value, what was expected, the remedy, in one line."""
    reason: str


def as_text(value: object) -> str:
    """Return plain data as JSON; no control, bidirectional or other odd character is raw in it.

    Raises:
        ValueError: a number that is not finite.
    """
    return _JSON.encode(value)


def as_bytes(value: object) -> bytes:
    """Return plain data as JSON, as `as_text`."""
    return as_text(value).encode("ascii")
