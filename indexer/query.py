"""Queries of an index and its answers, in plain data: queries by image, key or code, and hits."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np

from encoder.bits import Codes, Logits
from encoder.enum_names import named
from encoder.errors import HashgrainError, Reason, shown
from encoder.images.labels.values import Labels, as_json
from encoder.images.region import Region, RegionMode
from encoder.levels import Level
from indexer.cutoffs import CutOff

if TYPE_CHECKING:
    from PIL.Image import Image

    from encoder.images.inputs import ImageLike

KEY_PREFIX = "key:"
NAMED = 3
"""Keys that the name of a query by examples has."""


@dataclass(frozen=True, slots=True, eq=False)
class ByImage:
    """A query by an image: what looks like it?"""

    image: "ImageLike"
    """A path (here a `str` becomes one), the bytes of an image file, a PIL image, or uint8[height, width, 3], RGB."""
    name: str | None = None
    """How the query is called in its hits; default: the path, or a few words about the image."""
    region: Region | None = None
    """The part of the picture that is looked for; None: all of it."""
    region_mode: RegionMode | None = None
    """How that part becomes a code; None: crop, the better one on real photos, see docs/RESULTS.md."""

    def __init__(
        self,
        image: "ImageLike | str",
        name: str | None = None,
        region: Region | None = None,
        region_mode: RegionMode | str | None = None,
    ) -> None:
        mode = None if region_mode is None else named(RegionMode, region_mode, "region_mode")
        object.__setattr__(self, "image", Path(image) if isinstance(image, str) else image)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "region", region)
        object.__setattr__(self, "region_mode", mode)


@dataclass(frozen=True, slots=True)
class ByKey:
    """A query by an image that the index holds, or by a part of it, for which the picture is read back."""

    key: str
    region: Region | None = None
    """As of `ByImage`."""
    region_mode: RegionMode | None = None
    """As of `ByImage`."""


@dataclass(frozen=True, slots=True, eq=False)
class ByCode:
    """A query by a code."""

    code: Codes | Mapping[Level, Codes]
    """uint8[nbits / 8], lowest bit first, at the level that is searched; where several are, one by level."""
    name: str = "code"
    """How the query is called in its hits."""
    logits: Mapping[Level, Logits] | None = None
    """float32[nbits] by level, where the code is that of an image: what `rerank` orders hits by."""


@dataclass(frozen=True, slots=True)
class ByExamples:
    """A query by several images that the index holds: more like these, less like those."""

    like: tuple[str, ...]
    """Keys."""
    dislike: tuple[str, ...] = ()
    """Keys."""
    start: "ByImage | ByKey | ByCode | None" = None
    """What was asked first, which the examples refine; None: they alone."""

    @property
    def face(self) -> "ByImage | ByKey | ByCode":
        """What stands for it where there is room for one picture."""
        return self.start or ByKey(self.like[0])

    @property
    def keys(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.like, *self.dislike)


Asked: TypeAlias = ByImage | ByKey | ByCode | ByExamples
"""A query of an index, told apart."""
Query: TypeAlias = "Asked | Path | bytes | Image | np.ndarray[Any, np.dtype[np.uint8]]"
"""A query of an index; the last four are images."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One row found for one query."""

    query: str
    """How the query is called."""
    level: Level
    """The one searched; of several, the last one named."""
    rank: int
    """From 1."""
    key: str
    distance: int
    """Hamming distance at the level, in bits."""
    row: int
    shard: str
    labels: Labels
    score: float | None = None
    """What hits are ordered by where it is not the distance: asymmetric or weighted distance, sum, or fused rank."""
    distances: dict[Level, int] = field(default_factory=dict)
    """Hamming distance at every level that was compared, in bits, where more than one was."""
    read_image: Callable[[], bytes] = field(default=bytes, repr=False, compare=False)

    @property
    def heading(self) -> str:
        """How near it is, in words."""
        bits = "1 bit" if self.distance == 1 else f"{self.distance} bits"
        return bits if self.score is None else f"{self.score:.4g} ({bits})"

    def image(self) -> bytes:
        """Read its image file back from its shard.

        Raises:
            HashgrainError: `shard-missing`, `shard-damaged` when it is no longer there.
        """
        return self.read_image()

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can say of it, as `indexer query --json` does: without a score or distances where there are none."""
        names = ("query", "level", "rank", "key", "distance", "row", "shard", "labels", "score", "distances")
        content = {name: getattr(self, name) for name in names} | {"labels": as_json(self.labels)}
        return {name: value for name, value in content.items() if name == "labels" or value not in (None, {})}


@dataclass(frozen=True, slots=True)
class Answer(Sequence[Hit]):
    """The hits of one query, nearest first."""

    query: str
    """How the query is called."""
    searched: str
    """What was searched, in words: a level, or several and how they were combined."""
    hits: tuple[Hit, ...]
    survivors: tuple[int, ...] = ()
    """Cascade: how many rows each level left over."""
    generation: str = ""
    """The generation of the index that answered: rows are numbers in it."""
    eligible: int = 0
    """Rows that pass the filter and have not been removed."""
    cutoff: CutOff | None = None
    """What `max_false` came to: hits are within it."""
    nearest: int | None = None
    """Distance in bits of the nearest eligible row, where there is a cut-off and no hit."""

    @property
    def nothing_similar(self) -> bool:
        """Whether there is a cut-off and no eligible row within it."""
        within = self.cutoff is not None and self.nearest is not None and self.nearest <= self.cutoff.radius
        return self.cutoff is not None and not self.hits and not within

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, at: int) -> Hit: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, at: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[at]


def as_query(what: object) -> Asked:
    """Return a query of anything that is one.

    Raises:
        HashgrainError: `bad-value`.
    """
    if isinstance(what, ByKey) and not isinstance(what.key, str):
        raise HashgrainError(Reason.BAD_VALUE, f"a query has key {shown(what.key)}; give one key, a str")
    if isinstance(what, ByExamples):
        return _checked(what)
    if isinstance(what, ByImage | ByKey) and not isinstance(what.region, Region | None):
        raise HashgrainError(
            Reason.BAD_VALUE, f"a query has region {shown(what.region)}; give a Region, in shares 0..1"
        )
    if isinstance(what, ByImage | ByKey | ByCode):
        return what
    if isinstance(what, Path | bytes) or (isinstance(what, np.ndarray) and what.ndim == 3) or _is_picture(what):
        return ByImage(what)  # type: ignore[arg-type]
    if isinstance(what, str):
        expected = "pathlib.Path for a file, ByKey for a key: a str could be either"
    elif isinstance(what, list | tuple):
        expected = "one query, or several to query_batch"
    elif isinstance(what, np.ndarray):
        expected = "uint8[height, width, 3] for pixels, ByCode for a code"
    else:
        expected = "ByImage, ByKey, ByCode, ByExamples, a pathlib.Path, bytes, a PIL image or uint8[height, width, 3]"
    raise HashgrainError(Reason.BAD_VALUE, f"{shown(what)} is not a query; give {expected}")


def _checked(examples: ByExamples) -> ByExamples:
    """Return examples as they are declared, or raise `bad-value`."""
    start = None if examples.start is None else as_query(examples.start)
    if isinstance(start, ByExamples):
        raise HashgrainError(Reason.BAD_VALUE, "examples start from examples; give all of them as one query")
    for name in ("like", "dislike"):
        given: object = getattr(examples, name)
        if not isinstance(given, tuple | list) or not all(isinstance(key, str) for key in given):
            raise HashgrainError(Reason.BAD_VALUE, f"{name} is {shown(given)}; give keys, a tuple of str")
    if start is None and not examples.like:
        raise HashgrainError(Reason.BAD_VALUE, "there is nothing to be like; give a key of such an image, or a start")
    return ByExamples(tuple(examples.like), tuple(examples.dislike), start)


def _is_picture(what: object) -> bool:
    """Tell a PIL image without loading Pillow: whoever has one has loaded it."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(what, pillow.Image)


def parse_query(
    text: str, given: bytes | None = None, region: Region | None = None, mode: RegionMode | None = None
) -> ByImage | ByKey:
    """Return the query that a word of a command line names: `key:KEY`, or an image file, or what was given in its place."""
    if text.startswith(KEY_PREFIX):
        return ByKey(text.removeprefix(KEY_PREFIX), region, mode)
    return ByImage(text if given is None else given, text, region, mode)


def name_of(query: Asked) -> str:
    """Return how a query is called in its hits."""
    match query:
        case ByKey():
            return KEY_PREFIX + query.key
        case ByImage(name=None):
            from encoder.images.inputs import described

            return described(query.image)
        case ByExamples(like, dislike, start):
            parts = [] if start is None else [name_of(start)]
            parts += [f"{how} like {_listed(keys)}" for how, keys in (("more", like), ("less", dislike)) if keys]
            return ", ".join(parts)
        case _:
            return str(query.name)


def _listed(keys: Sequence[str]) -> str:
    more = len(keys) - NAMED
    return ", ".join(keys[:NAMED]) + (f" and {more:,} more" if more > 0 else "")
