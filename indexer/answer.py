"""Queries to answers: images, keys and codes become codes, and the rows they match become hits a person can read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from encoder.bits import Codes, Logits, hamming
from encoder.errors import HashgrainError, Reason, shown
from encoder.images.limits import Limits
from encoder.images.region import DEFAULT_MODE, RegionMode
from encoder.levels import Level
from indexer.matches import Rows
from indexer.query import Answer, ByCode, ByImage, ByKey, Hit, name_of
from indexer.search.combine import Ranked
from indexer.search.rerank import rerank
from indexer.settings import CombineSettings, LevelSettings
from indexer.snapshot import Snapshot

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


def answer_queries(
    index: Snapshot,
    queries: Sequence[ByImage | ByKey | ByCode],
    settings: LevelSettings | CombineSettings,
    encoder: "Callable[[], ImageEncoder]",
    limits: Limits,
) -> list[Answer]:
    """Answer several queries as one batch.

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
        levels, searched = list(settings.levels), f"{','.join(settings.levels)} by {settings.how}"
    else:
        levels, searched = [settings.level], str(settings.level)
    for level in levels:
        index.check_level(level)
    if isinstance(settings, LevelSettings) and settings.explain:
        levels = list(index.manifest.bits)
    coded = code_queries(index, queries, levels, encoder, limits)
    exclude = coded.rows if settings.exclude_self and (coded.rows >= 0).any() else None
    if isinstance(settings, CombineSettings):
        last, ranked = settings.levels[-1], index.combine(coded.codes, settings, exclude)
    else:
        last, ranked = settings.level, _of_one_level(index, queries, settings, coded, exclude)
    return [
        Answer(name, searched, tuple(_hits(index, name, last, one)), one.survivors, index.generation)
        for name, one in zip(map(name_of, queries), ranked, strict=True)
    ]


def code_queries(
    index: Snapshot,
    queries: Sequence[ByImage | ByKey | ByCode],
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
        match query:
            case ByKey(key, None):
                coded.rows[at] = index.find(key)
                for level in levels:
                    coded.codes[level][at] = index.codes(level, coded.rows[at : at + 1])[0]
            case ByCode():
                for level in levels:
                    coded.codes[level][at] = _code_at(query, level, levels, bits[level])
            case ByKey(key, region, mode):
                coded.rows[at] = index.find(key)
                images[at] = ByImage(index.image(int(coded.rows[at])), None, region, mode)
            case ByImage():
                images[at] = query
    for mode in RegionMode:
        part = [at for at, query in images.items() if (query.region_mode or DEFAULT_MODE) is mode]
        if part:
            of = [images[at] for at in part]
            encoded = encoder().encode([each.image for each in of], levels, limits, [each.region for each in of], mode)
            for level in levels:
                coded.logits[level][part] = encoded.logits[level]
                coded.codes[level][part] = encoded.codes[level]
    return coded


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


def _of_one_level(
    index: Snapshot,
    queries: Sequence[ByImage | ByKey | ByCode],
    settings: LevelSettings,
    coded: QueryCodes,
    exclude: Rows | None,
) -> list[Ranked]:
    """Search one level, order its matches by logits if that is wanted, and explain them if that is."""
    level, search = settings.level, settings.search
    if settings.rerank is None:
        found = index.search(level, coded.codes[level], search, exclude)
        ranked = [Ranked(one.rows, None, {level: one.distances}) for one in found]
    else:
        _check_images(queries)
        ranked = []
        candidates = index.search(level, coded.codes[level], replace(search, k=settings.rerank), exclude)
        for one, logits in zip(candidates, coded.logits[level], strict=True):
            ordered, scores = rerank(one, index.codes(level, one.rows), logits, search.k)
            ranked.append(Ranked(ordered.rows, scores, {level: ordered.distances}))
    if settings.explain:
        for at, answer in enumerate(ranked):
            for other, codes in coded.codes.items():
                answer.distances[other] = hamming(codes[at : at + 1], index.codes(other, answer.rows))[0]
    return ranked


def _check_images(queries: Sequence[ByImage | ByKey | ByCode]) -> None:
    """Raise `bad-value` for a query that has no logits to order hits by."""
    for query in queries:
        if not isinstance(query, ByImage) and not (isinstance(query, ByKey) and query.region):  # a region is read back
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"rerank needs the logits of an image, {name_of(query)} is a code; give the image, or leave rerank out",
            )


def _hits(index: Snapshot, query: str, level: Level, answer: Ranked) -> list[Hit]:
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
