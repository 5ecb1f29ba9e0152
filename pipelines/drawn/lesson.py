"""What a network is taught of the drawn pictures: each level its own question."""

from collections.abc import Mapping
from dataclasses import replace

from encoder.levels import Level
from encoder.model.builtin import BUILTIN
from encoder.model.spec import BackboneSpec
from encoder.training.losses.names import LossKind
from encoder.training.recipes import Recipe, settings_for
from encoder.training.settings import Phase, TrainSettings

LABELS: Mapping[Level, str] = {Level.FINE: "instance", Level.MID: "class", Level.COARSE: "kind"}
"""The label of each level's own question; the fused level has all of them to answer."""
EPOCHS = 15
"""Over the drawn pictures: a minute of one core."""


def lesson() -> TrainSettings:
    """Return how hash layers, and an exit for each stage, learn on the frozen trunk of the built-in model.

    Exits, since the trunk knows photos and no drawings. No picture is held out to choose an epoch by: the last one counts.
    """
    frozen = settings_for(Recipe.FROZEN, dict.fromkeys(Level, 64))
    return replace(
        frozen,
        phases=(Phase(EPOCHS, 0.3, tuple(Level)),),
        backbone=BackboneSpec("threeblock"),
        weights=str(BUILTIN),
        image_size=32,
        exits={Level.FINE: (128, 192), Level.MID: (256,), Level.COARSE: (256,)},
        losses=dict.fromkeys(Level, LossKind.ORTHOHASH),
        labels=LABELS,
        held_out=0.0,
    )
