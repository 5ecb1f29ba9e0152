"""Which images are trained on, which choose the epoch, which are left out; and their labels as numbers."""

from dataclasses import dataclass

import numpy as np

from encoder.errors import HashgrainError, Reason
from encoder.images.classes import class_indices, speaker_of
from encoder.levels import Level
from encoder.training.dataset import Indices, TrainingImages
from encoder.training.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Parts:
    """Rows by what they are for, and classes by level."""

    trained: Indices
    """int64[m], rising."""
    held_out: Indices
    """int64[h], rising."""
    left_out: list[str]
    """Names of the classes that are not trained on."""
    classes: dict[Level, Indices]
    """int64[n], class of every image."""
    names: dict[Level, list[str]]
    """Names of the classes by number."""

    def kinds(self) -> Indices | None:
        """Return the kind of each fused class, int64[classes], or None where kinds say no more than classes do."""
        if Level.COARSE not in self.classes:
            return None
        kinds = np.zeros(len(self.names[Level.FUSED]), np.int64)
        kinds[self.classes[Level.FUSED]] = self.classes[Level.COARSE]
        return kinds if len(np.unique(kinds)) < len(kinds) else None


def split_images(images: TrainingImages, settings: TrainSettings) -> Parts:
    """Split the images by the seed.

    A level without labels of its own goes by those of the class (level mid), else by the first there are.

    Raises:
        HashgrainError: `fit-impossible` when classes are to be left out and there are none.
    """
    numbered = {level: class_indices(values) for level, values in images.labels.items()}
    if numbered:
        numbered = {level: numbered[speaker_of(level, numbered)] for level in Level}
    rows, left_out = np.arange(len(images)), list[str]()
    if settings.classes_left_out:
        if Level.FUSED not in numbered:
            raise HashgrainError(
                Reason.FIT_IMPOSSIBLE, "classes can be left out only of images with labels; name a field"
            )
        indices, names = numbered[Level.FUSED]
        order = np.random.default_rng([settings.seed, 1]).permutation(len(names))
        unseen = np.sort(order[: round(settings.classes_left_out * len(names))])
        left_out = [names[number] for number in unseen]
        rows = rows[~np.isin(indices, unseen)]
    mixed = np.random.default_rng([settings.seed, 2]).permutation(rows)
    held = round(settings.held_out * len(rows))
    return Parts(
        trained=np.sort(mixed[held:]),
        held_out=np.sort(mixed[:held]),
        left_out=left_out,
        classes={level: indices for level, (indices, _) in numbered.items()},
        names={level: names for level, (_, names) in numbered.items()},
    )
