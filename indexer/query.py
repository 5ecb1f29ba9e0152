"""Questions and answers: image files and keys become codes, rows become hits a person can read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoder.bits import Codes
from encoder.errors import HashgrainError, Reason
from encoder.labels import Labels
from encoder.levels import Level
from encoder.publish import sha256_of
from indexer.config import SearchSettings
from indexer.index import Index

KEY_PREFIX = "key:"
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Hit:
    """One row found for one query."""

    query: str
    """As the user gave it."""
    level: Level
    rank: int
    """From 1."""
    key: str
    distance: int
    """Hamming distance in bits."""
    row: int
    shard: str
    labels: Labels


def ask(
    index: Index,
    whats: Sequence[str],
    level: Level,
    settings: SearchSettings,
    model: Path | None = None,
    given: Mapping[str, bytes] | None = None,
) -> list[list[Hit]]:
    """Answer several queries as one batch.

    Args:
        index: where to search.
        whats: image paths, `key:KEY`, or names in `given`.
        level: which code to compare.
        settings: k, radius, effort.
        model: model file instead of the index's own; must be the one that made the codes.
        given: image files already in memory, by the name they have in `whats`; `-` is what came on stdin.

    Returns:
        The hits of each query, nearest first.

    Raises:
        HashgrainError: `key-unknown`, `image-rejected`, `shard-missing`, `level-unknown`, `model-mismatch`,
            `model-invalid`.
    """
    codes = query_codes(index, whats, level, model, given or {})
    answers = index.search(level, codes, settings)
    return [
        [
            Hit(what, level, rank, index.key(row), distance, row, index.shard(row), index.labels(row))
            for rank, (row, distance) in enumerate(
                zip(found.rows.tolist(), found.distances.tolist(), strict=True), start=1
            )
        ]
        for what, found in zip(whats, answers, strict=True)
    ]


def query_codes(
    index: Index, whats: Sequence[str], level: Level, model: Path | None, given: Mapping[str, bytes]
) -> Codes:
    """Return uint8[len(whats), nbits / 8]; the network is loaded only if one of the queries is an image."""
    index.check_level(level)
    codes = np.empty((len(whats), index.manifest.bits[level] // 8), dtype=np.uint8)
    images: list[tuple[int, str, bytes]] = []
    for at, what in enumerate(whats):
        if what.startswith(KEY_PREFIX):
            codes[at] = index.code(level, index.find(what.removeprefix(KEY_PREFIX)))
        else:
            images.append((at, what, given[what] if what in given else query_image(what)))
    if images:
        from encoder.inference import encode_images

        path = _model_of(index, model)
        codes[[at for at, _, _ in images]] = encode_images(
            path, [(what, data) for _, what, data in images], level, index.manifest.precision
        )
    return codes


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
