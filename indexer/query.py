"""Questions and answers: image files and keys become codes, rows become hits a person can read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from encoder.bits import Codes, Logits, binarize, hamming
from encoder.errors import HashgrainError, Reason
from encoder.images.sidecars import Labels
from encoder.levels import Level
from encoder.runtime.publish import sha256_of
from indexer.index import Index
from indexer.matches import Matches
from indexer.search.combine import Ranked, Scores
from indexer.search.rerank import rerank
from indexer.settings import CombineSettings, Question

KEY_PREFIX = "key:"
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Hit:
    """One row found for one query."""

    query: str
    """As the user gave it."""
    level: Level
    """The one asked; of several, the last one named."""
    rank: int
    """From 1."""
    key: str
    distance: int
    """Hamming distance at the level, in bits."""
    row: int
    shard: str
    labels: Labels
    score: float | None = None
    """What hits are ordered by where it is not the distance: asymmetric distance, sum, or fused rank."""
    distances: dict[Level, int] = field(default_factory=dict)
    """Hamming distance at every level that was looked at, in bits, where more than one was."""

    @property
    def heading(self) -> str:
        """How near it is, in words."""
        bits = "1 bit" if self.distance == 1 else f"{self.distance} bits"
        return bits if self.score is None else f"{self.score:.4g} ({bits})"


@dataclass(frozen=True, slots=True)
class QueryCodes:
    """Queries as the index compares them, by level."""

    codes: dict[Level, Codes]
    """uint8[nq, nbits / 8]."""
    logits: dict[Level, Logits]
    """float32[nq, nbits]; NaN for queries that are not images."""


def ask(
    index: Index,
    whats: Sequence[str],
    question: Question,
    model: Path | None = None,
    given: Mapping[str, bytes] | None = None,
) -> list[list[Hit]]:
    """Answer several queries as one batch.

    Args:
        index: where to search.
        whats: image paths, `key:KEY`, or names in `given`.
        question: level, k, radius, effort.
        model: model file instead of the index's own; must be the one that made the codes.
        given: image files already in memory, by the name they have in `whats`; `-` is what came on stdin.

    Returns:
        The hits of each query, nearest first.

    Raises:
        HashgrainError: `key-unknown`, `image-rejected`, `shard-missing`, `level-unknown`, `model-mismatch`,
            `model-invalid`, `bad-value`.
    """
    level, search = question.level, question.search
    index.check_level(level)
    levels = list(index.manifest.bits) if question.explain else [level]
    queries = query_codes(index, whats, levels, model, given or {})
    if question.rerank is None:
        answers: list[tuple[Matches, Scores]] = [
            (found, None) for found in index.search(level, queries.codes[level], search)
        ]
    else:
        _check_images(whats)
        candidates = index.search(level, queries.codes[level], replace(search, k=question.rerank))
        answers = [
            rerank(found, index.codes(level, found.rows), logits, search.k)
            for found, logits in zip(candidates, queries.logits[level], strict=True)
        ]
    hits = []
    for at, (what, (found, scores)) in enumerate(zip(whats, answers, strict=True)):
        distances = {
            other: hamming(queries.codes[other][at : at + 1], index.codes(other, found.rows))[0]
            for other in levels
            if question.explain
        }
        hits.append(_hits(index, what, level, Ranked(found.rows, scores, {level: found.distances} | distances)))
    return hits


def ask_levels(
    index: Index,
    whats: Sequence[str],
    settings: CombineSettings,
    model: Path | None = None,
    given: Mapping[str, bytes] | None = None,
) -> tuple[list[list[Hit]], list[tuple[int, ...]]]:
    """Answer several queries at several levels; as `ask`.

    Returns:
        The hits of each query, best first, and for a cascade how many rows each level left over.
    """
    for level in settings.levels:
        index.check_level(level)
    queries = query_codes(index, whats, settings.levels, model, given or {})
    answers = index.combine(queries.codes, settings)
    hits = [_hits(index, what, settings.levels[-1], answer) for what, answer in zip(whats, answers, strict=True)]
    return hits, [answer.survivors for answer in answers]


def _hits(index: Index, what: str, level: Level, answer: Ranked) -> list[Hit]:
    hits = []
    for at, row in enumerate(answer.rows.tolist()):
        distances = {other: int(values[at]) for other, values in answer.distances.items()}
        score = None if answer.scores is None else float(answer.scores[at])
        hits.append(
            Hit(
                query=what,
                level=level,
                rank=at + 1,
                key=index.key(row),
                distance=distances[level],
                row=row,
                shard=index.shard(row),
                labels=index.labels(row),
                score=score,
                distances=distances if len(distances) > 1 else {},
            )
        )
    return hits


def query_codes(
    index: Index, whats: Sequence[str], levels: Sequence[Level], model: Path | None, given: Mapping[str, bytes]
) -> QueryCodes:
    """Turn queries into codes; the network is loaded only if one of them is an image."""
    bits = index.manifest.bits
    queries = QueryCodes(
        {level: np.empty((len(whats), bits[level] // 8), dtype=np.uint8) for level in levels},
        {level: np.full((len(whats), bits[level]), np.nan, dtype=np.float32) for level in levels},
    )
    images: list[tuple[int, str, bytes]] = []
    for at, what in enumerate(whats):
        if what.startswith(KEY_PREFIX):
            row = np.array([index.find(what.removeprefix(KEY_PREFIX))])
            for level in levels:
                queries.codes[level][at] = index.codes(level, row)[0]
        else:
            images.append((at, what, given[what] if what in given else query_image(what)))
    if images:
        from encoder.model.image_encoder import image_logits

        path, places = _model_of(index, model), [at for at, _, _ in images]
        found = image_logits(path, [(what, data) for _, what, data in images], levels, index.manifest.precision)
        for level, logits in found.items():
            queries.logits[level][places] = logits
            queries.codes[level][places] = binarize(logits)
    return queries


def _check_images(whats: Sequence[str]) -> None:
    """Raise `bad-value` for a query that has no logits to order hits by."""
    for what in whats:
        if what.startswith(KEY_PREFIX):
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"rerank needs the logits of an image, {what} is a code; give the image, or leave rerank out",
            )


def query_image(what: str) -> bytes:
    """Return the bytes of an image file asked for."""
    try:
        return Path(what).read_bytes()
    except OSError as err:
        raise HashgrainError(
            Reason.SHARD_MISSING,
            f"image {what} could not be read ({err.strerror}); give an image file, {KEY_PREFIX}KEY or {STDIN} for stdin",
        ) from err


def _model_of(index: Index, model: Path | None) -> Path:
    """Return the model file to code images with, proven to be the one that made the index's codes."""
    if model is None and index.manifest.model is None:
        raise HashgrainError(
            Reason.MODEL_INVALID,
            f"{index.path} holds no model, none stood beside its code files; give the one that made them with --model",
        )
    path = model or index.folder / str(index.manifest.model)
    if not path.is_file():
        raise HashgrainError(
            Reason.MODEL_INVALID, f"model file {path} does not exist; give the one that made the codes"
        )
    if (found := sha256_of(path)) != index.manifest.fingerprint:
        raise HashgrainError(
            Reason.MODEL_MISMATCH,
            f"model {path} has fingerprint {found[:12]}, the codes of {index.path} were made by "
            f"{index.manifest.fingerprint[:12]}; give that one, or leave --model out",
        )
    return path
