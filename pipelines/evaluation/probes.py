"""What labels do not tell of a model's codes: whether copies of a picture find it, and whether the bits are used."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from encoder.bits import Codes, Logits
from encoder.levels import Level
from encoder.runtime.console import Advance
from pipelines.evaluation.copies import CopyKind, CopyRecall, Pictures, copy_rng, find_originals, make_copies
from pipelines.evaluation.health import CodeHealth, code_health, rank_correlation
from pipelines.evaluation.protocols import Indices

if TYPE_CHECKING:
    from encoder.model.image_encoder import ImageEncoder

BATCH = 32


def recall_copies(
    encoder: "ImageEncoder",
    pictures: Pictures,
    rows: Indices,
    codes: Mapping[Level, Codes],
    seed: int,
    advance: Advance,
) -> dict[Level, CopyRecall]:
    """Change pictures in every way and look for the originals by every level's codes.

    Args:
        encoder: the model on its device.
        pictures: uint8[n, size, size, 3], the originals as the network sees them.
        rows: int64[n], where their codes stand.
        codes: uint8[nb, code_size] a level, of the originals and of everything they could be taken for.
        seed: of the copies.
        advance: called after each batch.
    """
    from encoder.runtime.parallel import ordered_map

    def batches() -> Iterator[Pictures]:
        for kind in CopyKind:
            rng = copy_rng(kind, seed)
            for start in range(0, len(pictures), BATCH):
                yield make_copies(pictures[start : start + BATCH], kind, rng)

    coded: dict[Level, list[Codes]] = {level: [] for level in codes}
    done, total = 0, len(pictures) * len(CopyKind)
    for batch in ordered_map(encoder.codes, batches()):
        for level, of_level in batch.items():
            coded[level].append(of_level)
        done += len(of_level)
        advance(done, total, f"{done:,} copies")
    found: dict[Level, CopyRecall] = {}
    for level, parts in coded.items():
        of_kinds = np.split(np.concatenate(parts), len(CopyKind))
        by_kind = {
            kind: find_originals(copies, rows, codes[level]) for kind, copies in zip(CopyKind, of_kinds, strict=True)
        }
        found[level] = CopyRecall(len(pictures), len(codes[level]), by_kind)
    return found


def logits_of(encoder: "ImageEncoder", pictures: Pictures) -> dict[Level, Logits]:
    """Return float32[n, nbits] a level of uint8[n, size, size, 3]."""
    from encoder.runtime.parallel import ordered_map

    batches = (pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH))
    found = list(ordered_map(encoder.logits, batches))
    return {level: np.concatenate([batch[level] for batch in found]) for level in found[0]}


def check_health(
    codes: Mapping[Level, Codes], logits: Mapping[Level, Logits], seed: int
) -> tuple[dict[Level, CodeHealth], dict[str, float]]:
    """Measure how each level uses its bits, and how alike every two levels rank.

    Args:
        codes: uint8[n, code_size] a level.
        logits: float32[m, nbits] a level, of some of the images; may be empty.
        seed: of the images that the levels rank.

    Returns:
        Health by level, and rank correlation by the two levels' names.
    """
    health = {level: code_health(of_level, logits.get(level)) for level, of_level in codes.items()}
    alike = {
        f"{one} / {other}": rank_correlation(codes[one], codes[other], seed) for one, other in combinations(codes, 2)
    }
    return health, alike
