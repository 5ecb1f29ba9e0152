"""What a code has to beat, and what it cannot: the same images ranked by something else than the model's codes.

Random codes, the class id that a linear classifier of the same backbone gives (Sablayrolles et al., How should we
evaluate supervised hashing?, ICASSP 2017), label-free hash functions of the features that the model's own hash layers
read, and those features themselves, real-valued.
"""

import hashlib
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes, binarize, pack
from encoder.errors import HashgrainError, Reason
from encoder.hashing.methods import fit_layer
from encoder.hashing.names import HashKind
from encoder.images.decoding.decode import decode_readable
from encoder.images.readers.formats import reader_for
from encoder.images.samples import Sample, batches
from encoder.images.shards import Shard
from encoder.levels import Level
from encoder.runtime.publish import write_failed
from encoder.vectors import unit_rows
from pipelines.evaluation.copies import Pictures
from pipelines.evaluation.protocols import Indices
from pipelines.evaluation.scoring import RADIUS, Features, rows_of

if TYPE_CHECKING:
    from encoder.model.image_encoder import ImageEncoder

HASHES = (HashKind.PCAH, HashKind.ITQ, HashKind.SH, HashKind.LSH)
SAMPLE = 5_000
"""Images that hash functions are fitted on, at most, as many as `encoder fit` takes."""
BATCH = 32
ROWS = 8192
"""Rows of features worked on at once."""
STEPS, PENALTY = 200, 10.0
"""Of the classifier: steps at most, and how little large weights cost (the C of liblinear and scikit-learn)."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Something that brings the database into an order for each query."""

    method: str
    level: Level | None
    """Whose features or codes it has; None where it has none."""
    nbits: int | None
    """That it stores of an image; None: real-valued."""
    values: Codes | Features | None
    """One row an image of the pool: uint8 ranks by Hamming distance, float32 by cosine. None: it could not be made."""
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """What the network and the disk say of the images, by row of the pool."""

    features: dict[Level, Features]
    """What each level's hash layer reads: float32[n, dim], a map of an unnamed file."""
    digests: list[bytes]
    """SHA-256 of each image file."""
    pictures: Pictures
    """uint8[len(kept), size, size, 3], of the rows that were to be kept."""


def read_images(
    encoder: "ImageEncoder", shards: Sequence[Shard], kept: Indices, folder: Path, progress: Callable[[int], None]
) -> Images:
    """Pass every image of the shards through the network; rows are in the order of the shards' code files.

    Args:
        encoder: the network, on its device.
        shards: the images.
        kept: rows whose pictures are wanted, rising.
        folder: where the unnamed files are made, 4 bytes a feature and image.
        progress: called with the images done so far.

    Raises:
        HashgrainError: `shard-missing`, `write-failed`.
    """
    import torch

    from encoder.runtime.parallel import ordered_map

    network, size = encoder.model.network, encoder.model.config.image_size

    @torch.inference_mode()
    def work(batch: Sequence[Sample]) -> tuple[list[bytes], Pictures, dict[Level, Features]]:
        samples, pictures = decode_readable(batch, size)  # the others have no code either
        digests = [hashlib.sha256(sample.data).digest() for sample in samples]
        found = network.features(torch.from_numpy(pictures).to(encoder.device)) if samples else {}
        return digests, pictures, {level: values.float().cpu().numpy() for level, values in found.items()}

    images = (image for shard in shards for image in reader_for(shard).images() if image.reject is None)
    digests: list[bytes] = []
    wanted, keeping = set(kept.tolist()), list[Pictures]()
    dims: dict[Level, int] = {}
    try:
        with ExitStack() as stack:
            files = {level: stack.enter_context(tempfile.TemporaryFile(dir=folder)) for level in network.levels}
            for found, pictures, features in ordered_map(work, batches(images, BATCH)):
                keeping += [picture.copy() for row, picture in enumerate(pictures, len(digests)) if row in wanted]
                digests += found
                for level, values in features.items():
                    files[level].write(values.tobytes())
                    dims[level] = values.shape[1]
                progress(len(digests))
            for file in files.values():
                file.flush()
            return Images(
                {
                    level: np.memmap(files[level], np.float32, "r+", shape=(len(digests), dim))
                    for level, dim in dims.items()
                },
                digests,
                np.stack(keeping) if keeping else np.empty((0, size, size, 3), np.uint8),
            )
    except OSError as err:
        raise write_failed(f"features in {folder}", err) from err


def standardise(features: Features, fitting: Indices) -> None:
    """Shift rows by the mean of the fitting ones and bring them to length 1, in place: the form that all baselines read."""
    total = sum(features[rows].sum(axis=0, dtype=np.float64) for rows in _blocks(fitting))
    mean = (total / len(fitting)).astype(np.float32)
    for start in range(0, len(features), ROWS):
        features[start : start + ROWS] = unit_rows(features[start : start + ROWS] - mean)


def _blocks(rows: Indices) -> Iterator[Indices]:
    return (rows[start : start + ROWS] for start in range(0, len(rows), ROWS))


def random_codes(rows: int, nbits: int, seed: int) -> Ranking:
    """Draw every bit of every image: what no knowledge at all scores."""
    codes = np.random.default_rng([seed, 0]).integers(0, 256, (rows, nbits // 8), dtype=np.uint8)
    return Ranking("random", None, nbits, codes)


def learned_from(
    features: Mapping[Level, Features],
    classes: Indices,
    fitting: Indices,
    lengths: Mapping[Level, Sequence[int]],
    seed: int,
) -> list[Callable[[], Ranking]]:
    """Return the rankings that learn from the fitting rows, and the features they learn from, each to be made when called.

    Args:
        features: standardised, float32[n, dim] a level.
        classes: int64[n], the finest ones.
        fitting: rows that may be learnt from.
        lengths: bits of the codes that are fitted at each level.
        seed: of everything random.
    """
    richest = max(features, key=lambda level: features[level].shape[1])
    plan: list[Callable[[], Ranking]] = [partial(class_ids, richest, features[richest], classes, fitting)]
    for level, values in features.items():
        plan.append(partial(Ranking, "features", level, None, values))
        plan += [
            partial(hashed, kind, level, nbits, values, fitting, seed) for nbits in lengths[level] for kind in HASHES
        ]
    return plan


def hashed(kind: HashKind, level: Level, nbits: int, features: Features, fitting: Indices, seed: int) -> Ranking:
    """Fit a label-free hash function to a sample of the fitting rows and code all rows with it."""
    rng = np.random.default_rng([seed, 1, list(Level).index(level), nbits])
    sample = np.sort(rng.permutation(fitting)[:SAMPLE])
    try:
        layer = fit_layer(kind, features[sample], nbits, rng)
    except HashgrainError as err:
        if err.reason is not Reason.FIT_IMPOSSIBLE:
            raise
        return Ranking(kind, level, nbits, None, str(err))
    blocks = (features[start : start + ROWS] for start in range(0, len(features), ROWS))
    return Ranking(kind, level, nbits, np.concatenate([binarize(layer.logits(block)) for block in blocks]))


def class_ids(level: Level, features: Features, classes: Indices, fitting: Indices) -> Ranking:
    """Rank by the class that a linear softmax classifier predicts: the same class first, then all others.

    A class id stands as a one-hot code whose bits are repeated, so that two classes are farther apart than the radius
    that precision is taken within; it could be stored in ceil(log2 C) bits.

    Source: Sablayrolles, Douze, Usunier and Jegou, How should we evaluate supervised hashing?, ICASSP 2017.
    """
    seen, targets = np.unique(classes[fitting], return_inverse=True)
    predicted = predict_classes(features, fitting, targets)
    repeated = np.repeat(np.eye(len(seen), dtype=np.bool_), RADIUS // 2 + 1, axis=1)
    nbits = max(1, math.ceil(math.log2(len(seen))))
    right = float(np.mean(predicted[fitting] == targets))
    note = f"a linear classifier of {len(seen)} classes, right on {right:.1%} of the {len(fitting):,} images it learnt from"
    return Ranking("class-id", level, nbits, pack(repeated)[predicted], note)


def predict_classes(features: Features, fitting: Indices, targets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Train a linear softmax classifier and return the number of the class it gives each row.

    The loss is the mean cross-entropy + |W|^2 / (2 * `PENALTY` * rows), from W = 0, by L-BFGS.

    Args:
        features: float32[n, dim], standardised.
        fitting: rows it learns from.
        targets: int64[len(fitting)], classes 0..C-1 of those rows.

    Returns:
        int64[n].
    """
    import torch
    from torch.nn import functional

    inputs, classes = torch.from_numpy(rows_of(features, fitting)), torch.from_numpy(targets)
    weight = torch.zeros(int(targets.max()) + 1, features.shape[1], requires_grad=True)
    bias = torch.zeros(len(weight), requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimiser.zero_grad()
        wrong = functional.cross_entropy(inputs @ weight.T + bias, classes)
        total = wrong + weight.square().sum() / (2 * PENALTY * len(inputs))
        total.backward()  # type: ignore[no-untyped-call]
        return float(total.detach())

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    matrix, offset = weight.detach().numpy(), bias.detach().numpy()
    blocks = (features[start : start + ROWS] for start in range(0, len(features), ROWS))
    return np.concatenate([(block @ matrix.T + offset).argmax(axis=1) for block in blocks])
