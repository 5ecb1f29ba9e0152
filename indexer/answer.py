"""Queries to answers: images, keys, codes and examples become codes, and the rows they match become hits a person can read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from encoder.bits import Codes, Logits, hamming
from encoder.errors import HashgrainError, Reason, shown
from encoder.images.limits import Limits
from encoder.images.region import DEFAULT_MODE, RegionMode
from encoder.levels import Level
from indexer.cutoffs import CutOff
from indexer.feedback import Direction, direction, of_codes, of_logits, weigh
from indexer.matches import Rows
from indexer.opened import Opened
from indexer.query import Answer, Asked, ByCode, ByExamples, ByImage, ByKey, Hit, name_of
from indexer.search.combine import Ranked
from indexer.search.rerank import rerank
from indexer.settings import Combine, CombineSettings, LevelSettings, SearchSettings

if TYPE_CHECKING:
    from encoder.model.image_encoder import ImageEncoder


@dataclass(frozen=True, slots=True)
class QueryCodes:
    """Queries as an index compares them."""

    codes: dict[Level, Codes]
    """uint8[nq, nbits / 8] by level."""
    logits: dict[Level, Logits]
    """float32[nq, nbits] by level; NaN for queries that are not images."""
    rows: Rows
    """int64[nq], the row that a query by key is; -1 for others."""
    examples: "dict[int, _Examples]" = field(default_factory=dict)
    """Of queries by examples, by their numbers; their codes are what the examples come to."""

    def of(self, some: Sequence[int]) -> "QueryCodes":
        """Return those of some queries."""
        return QueryCodes(
            {level: codes[some] for level, codes in self.codes.items()},
            {level: logits[some] for level, logits in self.logits.items()},
            self.rows[some],
            {at: self.examples[number] for at, number in enumerate(some) if number in self.examples},
        )


@dataclass(frozen=True, slots=True)
class _Examples:
    rows: Rows
    """int64[n], theirs."""
    directions: dict[Level, Direction]


@dataclass(frozen=True, slots=True)
class Found:
    """What a query came to, in rows."""

    query: str
    """How it is called."""
    searched: str
    level: Level
    """Whose distances count; of several levels, the last one named."""
    ranked: Ranked
    eligible: int
    cutoff: CutOff | None = None
    nearest: int | None = None
    """As of `Answer`."""


def answer_queries(
    index: Opened,
    queries: Sequence[Asked],
    settings: LevelSettings | CombineSettings,
    encoder: "Callable[[], ImageEncoder]",
    limits: Limits,
) -> list[Answer]:
    """Answer several queries as one batch, as `find_rows`, with all that a person wants to know of each row."""
    return [
        Answer(
            found.query,
            found.searched,
            tuple(_hits(index, found.query, found.level, found.ranked)),
            found.ranked.survivors,
            index.generation,
            found.eligible,
            found.cutoff,
            found.nearest,
        )
        for found in find_rows(index, queries, settings, encoder, limits)
    ]


def find_rows(
    index: Opened,
    queries: Sequence[Asked],
    settings: LevelSettings | CombineSettings,
    encoder: "Callable[[], ImageEncoder]",
    limits: Limits,
) -> list[Found]:
    """Find the rows nearest to several queries as one batch.

    Args:
        index: where to search.
        queries: what to look for.
        settings: how.
        encoder: called once if a query is an image; returns the model that made the index's codes.
        limits: what a query image may be.

    Raises:
        HashgrainError: `key-unknown`, `image-rejected`, `shard-missing`, `level-unknown`, `bad-value`, and what `encoder` raises.
    """
    if isinstance(settings, CombineSettings):
        levels, searched, last = (
            list(settings.levels),
            f"{','.join(settings.levels)} by {settings.how}",
            settings.levels[-1],
        )
    else:
        levels, searched, last = [settings.level], str(settings.level), settings.level
    for level in levels:
        index.check_level(level)
    cutoff = None if settings.max_false is None else index.cutoff(last, settings.max_false)
    if cutoff is not None and isinstance(settings, LevelSettings):
        radius = max(
            0, min(cutoff.radius, settings.search.radius if settings.search.radius is not None else cutoff.radius)
        )
        settings = replace(settings, search=replace(settings.search, radius=radius))
    if isinstance(settings, LevelSettings) and settings.explain:
        levels = list(index.manifest.bits)
    coded = code_queries(index, queries, levels, encoder, limits)
    ranked = _ranked(index, queries, settings, coded)
    if cutoff is not None:
        ranked = [_within(one, last, cutoff) for one in ranked]
    eligible = index.eligible(settings.search.where)
    return [
        Found(
            name_of(query),
            searched,
            last,
            one,
            eligible,
            cutoff,
            _nearest(index, last, settings, coded, at) if cutoff is not None and not len(one.rows) else None,
        )
        for at, (query, one) in enumerate(zip(queries, ranked, strict=True))
    ]


def code_queries(
    index: Opened,
    queries: Sequence[Asked],
    levels: Sequence[Level],
    encoder: "Callable[[], ImageEncoder]",
    limits: Limits,
) -> QueryCodes:
    """Turn queries into codes; the encoder is loaded only if one of them is an image."""
    bits = index.manifest.bits
    coded = QueryCodes(
        {level: np.empty((len(queries), bits[level] // 8), dtype=np.uint8) for level in levels},
        {level: np.full((len(queries), bits[level]), np.nan, dtype=np.float32) for level in levels},
        np.full(len(queries), -1, dtype=np.int64),
    )
    images: dict[int, ByImage] = {}
    for at, query in enumerate(queries):
        match query.start if isinstance(query, ByExamples) else query:
            case ByKey(key, None):
                coded.rows[at] = index.find(key)
                for level in levels:
                    coded.codes[level][at] = index.codes(level, coded.rows[at : at + 1])[0]
            case ByCode() as code:
                for level in levels:
                    coded.codes[level][at] = _code_at(code, level, levels, bits[level])
                    if code.logits is not None and level in code.logits:
                        coded.logits[level][at] = _logits_at(code.logits[level], level, bits[level])
            case ByKey(key, region, mode):
                coded.rows[at] = index.find(key)
                images[at] = ByImage(index.image(int(coded.rows[at])), None, region, mode)
            case ByImage() as image:
                images[at] = image
    _encode(images, levels, encoder, limits, coded)
    for at, query in enumerate(queries):
        if isinstance(query, ByExamples):
            coded.examples[at] = _learn(index, query, levels, coded, at)
    return coded


def _encode(
    images: Mapping[int, ByImage],
    levels: Sequence[Level],
    encoder: "Callable[[], ImageEncoder]",
    limits: Limits,
    coded: QueryCodes,
) -> None:
    """Put the logits and codes of images in their places, those of a mode together."""
    for mode in RegionMode:
        part = [at for at, query in images.items() if (query.region_mode or DEFAULT_MODE) is mode]
        if part:
            of = [images[at] for at in part]
            encoded = encoder().encode([each.image for each in of], levels, limits, [each.region for each in of], mode)
            for level in levels:
                coded.logits[level][part] = encoded.logits[level]
                coded.codes[level][part] = encoded.codes[level]


def _learn(index: Opened, query: ByExamples, levels: Sequence[Level], coded: QueryCodes, at: int) -> _Examples:
    """Return what a query's examples come to, and put its codes in the place of those of its start."""
    liked, rows = len(query.like), np.array([index.find(key) for key in query.keys], dtype=np.int64)
    directions = {}
    for level in levels:
        examples, logits = index.codes(level, rows), coded.logits[level][at]
        start = of_codes(coded.codes[level][at : at + 1]) if np.isnan(logits).any() else of_logits(logits)
        towards = direction(None if query.start is None else start, examples[:liked], examples[liked:])
        directions[level], coded.codes[level][at] = towards, weigh({level: towards})[level].code
    return _Examples(rows, directions)


def _code_at(query: ByCode, level: Level, levels: Sequence[Level], nbits: int) -> Codes:
    """Return uint8[nbits / 8], the code of a query at a level."""
    if not isinstance(query.code, Mapping) and len(levels) > 1:
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"a query is one code; give one at each of {', '.join(levels)}, by level ({{level: code}})",
        )
    by_level = query.code if isinstance(query.code, Mapping) else {level: query.code}
    if level not in by_level:
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"a query has a code at {', '.join(by_level) or 'no level'}; give one at each of {', '.join(levels)}",
        )
    code: object = by_level[level]
    if not isinstance(code, np.ndarray) or code.dtype != np.uint8 or code.shape != (nbits // 8,):
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"a query's code is {shown(code)}; level {level} takes uint8[{nbits // 8}], lowest bit first",
        )
    return code


def _logits_at(logits: object, level: Level, nbits: int) -> Logits:
    """Return float32[nbits], the logits of a query at a level."""
    if (
        not isinstance(logits, np.ndarray)
        or logits.dtype != np.float32
        or logits.shape != (nbits,)
        or not np.isfinite(logits).all()
    ):
        raise HashgrainError(
            Reason.BAD_VALUE, f"a query's logits are {shown(logits)}; level {level} takes float32[{nbits}], finite"
        )
    return logits


def _ranked(
    index: Opened, queries: Sequence[Asked], settings: LevelSettings | CombineSettings, coded: QueryCodes
) -> list[Ranked]:
    """Search for all queries: those by examples one by one, the others as one batch."""
    if coded.examples:
        _check_examples(settings)
    others = [at for at in range(len(queries)) if at not in coded.examples]
    batch = _batch(index, [queries[at] for at in others], settings, coded.of(others) if coded.examples else coded)
    found = dict(zip(others, batch, strict=True))
    for at in coded.examples:
        found[at] = _by_examples(index, settings, coded.of([at]))
    if isinstance(settings, LevelSettings) and settings.explain:
        for at, answer in found.items():
            for level, codes in coded.codes.items():
                answer.distances[level] = hamming(codes[at : at + 1], index.codes(level, answer.rows))[0]
    return [found[at] for at in range(len(queries))]


def _batch(
    index: Opened, queries: Sequence[Asked], settings: LevelSettings | CombineSettings, coded: QueryCodes
) -> list[Ranked]:
    """Search for queries that are codes, and order the matches of one level by logits if that is wanted."""
    if not queries:
        return []
    exclude = coded.rows if settings.exclude_self and (coded.rows >= 0).any() else None
    if isinstance(settings, CombineSettings):
        return index.combine(coded.codes, settings, exclude)
    level, search = settings.level, settings.search
    if settings.rerank is None:
        found = index.search(level, coded.codes[level], search, exclude)
        return [Ranked(one.rows, None, {level: one.distances}) for one in found]
    _check_logits(queries, coded.logits[level])
    ranked = []
    candidates = index.search(level, coded.codes[level], replace(search, k=settings.rerank), exclude)
    for one, logits in zip(candidates, coded.logits[level], strict=True):
        ordered, scores = rerank(one, index.codes(level, one.rows), logits, search.k)
        ranked.append(Ranked(ordered.rows, scores, {level: ordered.distances}))
    return ranked


def _by_examples(index: Opened, settings: LevelSettings | CombineSettings, coded: QueryCodes) -> Ranked:
    """Search for one query by examples, which are left out."""
    examples = coded.examples[0]
    levels = settings.levels if isinstance(settings, CombineSettings) else (settings.level,)
    shares = (settings.weights if isinstance(settings, CombineSettings) else ()) or (1,) * len(levels)
    wanted = weigh({level: share * examples.directions[level] for level, share in zip(levels, shares, strict=True)})
    return index.search_by_bits(wanted, settings.search, _left_out(settings, coded, 0))


def _check_examples(settings: LevelSettings | CombineSettings) -> None:
    """Raise `bad-value` for what a query by examples cannot be asked with."""
    if isinstance(settings, CombineSettings) and settings.how is not Combine.SUM:
        given, expected = f"combine: {settings.how}", f"{Combine.SUM}: examples weigh the bits of all levels together"
    elif isinstance(settings, LevelSettings) and settings.rerank is not None:
        given, expected = f"rerank: {settings.rerank}", "left out: examples order hits by themselves"
    elif effort := {name: value for name, value in settings.search.effort.items() if name != "exact"}:
        given, expected = (
            ", ".join(f"{name}: {value}" for name, value in effort.items()),
            "left out: every row is compared",
        )
    else:
        return
    raise HashgrainError(Reason.BAD_VALUE, f"{given} with a query by examples; expected {expected}")


def _within(answer: Ranked, level: Level, cutoff: CutOff) -> Ranked:
    """Return what is within the cut-off."""
    near = answer.distances[level] <= cutoff.radius
    return Ranked(
        answer.rows[near],
        None if answer.scores is None else answer.scores[near],
        {other: distances[near] for other, distances in answer.distances.items()},
        answer.survivors,
    )


def _nearest(
    index: Opened, level: Level, settings: LevelSettings | CombineSettings, coded: QueryCodes, at: int
) -> int | None:
    """Return the distance of the row nearest to a query, however far; None where no row is eligible."""
    without, search = _left_out(settings, coded, at), settings.search
    every = SearchSettings(1 + len(without), where=search.where, engine=search.engine)
    (found,) = index.search(level, coded.codes[level][at : at + 1], every)
    return next(iter(found.distances[~np.isin(found.rows, without)].tolist()), None)


def _left_out(settings: LevelSettings | CombineSettings, coded: QueryCodes, at: int) -> Rows:
    """Return the rows that a query does not find: its own, if that is wanted, and its examples."""
    own = coded.rows[at : at + 1] if settings.exclude_self and coded.rows[at] >= 0 else np.empty(0, dtype=np.int64)
    return np.append(own, coded.examples[at].rows) if at in coded.examples else own


def _check_logits(queries: Sequence[Asked], logits: Logits) -> None:
    """Raise `bad-value` for a query that has no logits to order hits by."""
    for query, of_query in zip(queries, logits, strict=True):
        if np.isnan(of_query).any():
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"rerank needs the logits of an image, {name_of(query)} is a code; give the image, or leave rerank out",
            )


def _hits(index: Opened, query: str, level: Level, answer: Ranked) -> list[Hit]:
    hits = []
    for at, row in enumerate(answer.rows.tolist()):
        distances = {other: int(values[at]) for other, values in answer.distances.items()}
        hits.append(
            Hit(
                query=query,
                level=level,
                rank=at + 1,
                key=index.key(row),
                distance=distances[level],
                row=row,
                shard=index.shard(row),
                labels=index.labels(row),
                score=None if answer.scores is None else float(answer.scores[at]),
                distances=distances if len(distances) > 1 else {},
                read_image=index.image_reader(row),
            )
        )
    return hits
