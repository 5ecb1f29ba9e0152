"""Named schedules: which levels learn what, when, and how fast. No torch, so that `--help` is quick."""

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

from encoder.levels import Level
from encoder.model.spec import BackboneSpec, Pooling
from encoder.training.losses.names import LossKind
from encoder.training.settings import Phase, TrainSettings

CLASS_LEVELS = (Level.MID, Level.COARSE, Level.FUSED)
"""The levels that learn from labels; `fine` learns from views of the picture itself."""
LEVEL_WEIGHT = {Level.MID: 0.5, Level.COARSE: 0.5}
"""Of the stages' losses, where the fused code's has 1."""


class Recipe(StrEnum):
    """How a network is trained."""

    SCRATCH = "scratch"
    """From random weights: everything at once, then the fine level's exit on a frozen trunk."""
    FROZEN = "frozen"
    """From given weights, which stay as they are: hash layers alone, on features that are computed once."""
    FINETUNE = "finetune"
    """From given weights: the same, then attention, hash layers and trunk end to end, with a smaller rate for the trunk."""
    ARTICLE = "article"
    """The algorithm this project grew from, to the letter: plain pooling, one fused code, pairs with a margin, two stages."""


def settings_for(recipe: Recipe, bits: Mapping[Level, int], epochs: float | None = None) -> TrainSettings:
    """Return a recipe's settings.

    Args:
        recipe: which one.
        bits: of each level.
        epochs: of the longest phase in which pictures go through the network, or of the longest phase where there is no
            such; the others shrink and grow with it. Default: the recipe's own.
    """
    settings = RECIPES[recipe]
    through = [phase.epochs for phase in settings.phases if not phase.copies]
    factor = epochs / max(through or [phase.epochs for phase in settings.phases]) if epochs else 1.0
    levels = {level for phase in settings.phases for level in phase.levels}
    return replace(
        settings,
        phases=tuple(replace(phase, epochs=phase.epochs * factor) for phase in settings.phases),
        bits={level: nbits for level, nbits in bits.items() if level in levels},
    )


PRETRAINED = TrainSettings(
    phases=(Phase(60, 0.3, CLASS_LEVELS, copies=6), Phase(8, 0.1, (Level.FINE,), copies=8)),
    backbone=BackboneSpec("resnet50"),
    weights="DEFAULT",
    image_size=224,
    losses=dict.fromkeys(CLASS_LEVELS, LossKind.GREEDYHASH) | {Level.FINE: LossKind.CONTRASTIVE_VIEWS},
    weight=LEVEL_WEIGHT,
    frozen_norms=True,
    batch=64,
    decay=1e-2,
    cutout=0,
    area=(0.35, 1.0),
)
"""Hash layers on given weights. Loss, rate, decay and epochs are those that carried over best to new scenes (`docs/LOG.md`)."""
RECIPES: Mapping[Recipe, TrainSettings] = {
    Recipe.SCRATCH: TrainSettings(
        phases=(Phase(32, 0.25, CLASS_LEVELS, trunk=1.0), Phase(8, 0.1, (Level.FINE,))),
        exits={Level.FINE: (128, 192), Level.MID: (256,)},
        losses={Level.FINE: LossKind.CONTRASTIVE_VIEWS, Level.MID: LossKind.GREEDYHASH},
        weight=LEVEL_WEIGHT,
        decay=1e-3,
    ),
    Recipe.FROZEN: PRETRAINED,
    Recipe.FINETUNE: replace(
        PRETRAINED,
        phases=(PRETRAINED.phases[0], Phase(12, 0.02, CLASS_LEVELS, trunk=0.3), PRETRAINED.phases[1]),
    ),
    Recipe.ARTICLE: replace(
        PRETRAINED,
        phases=(Phase(4, 0.05, (Level.FUSED,)), Phase(12, 0.002, (Level.FUSED,), trunk=0.3)),
        pooling=Pooling.PLAIN,
        losses={Level.FUSED: LossKind.CONTRASTIVE},
        weight={},
        decay=5e-4,
        nested=False,
        standardise=False,
    ),
}
