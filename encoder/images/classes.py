"""Labels as a fit or a training needs them: which field of the sidecars speaks for which level, and classes as numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from encoder.errors import HashgrainError, Reason
from encoder.images.labels import Labels, LabelValue, kind_of, text_of
from encoder.levels import Level, parse_level


def parse_label_map(text: str) -> dict[Level, str]:
    """Return the JSON field of each level from `mid=fine,coarse=coarse`.

    Raises:
        HashgrainError: `bad-value` for anything else, `level-unknown`.
    """
    fields: dict[Level, str] = {}
    for part in text.split(","):
        name, equals, field = part.partition("=")
        if not equals or not field.strip():
            raise HashgrainError(
                Reason.BAD_VALUE, f"label {text!r} is not LEVEL=FIELD; give for example mid=fine,coarse=coarse"
            )
        fields[parse_level(name)] = field.strip()
    return fields


def field_of(level: Level, fields: Mapping[Level, str]) -> str:
    """Return the field that speaks for a level: its own, else that of the class (level mid), else the first there is."""
    return fields.get(level) or fields.get(Level.MID) or next(iter(fields.values()))


def classes_of(labels: Sequence[Labels], field: str) -> npt.NDArray[np.int64]:
    """Return the class of each image by one field of its labels: int64[n], -1 for an image that lacks it.

    Raises:
        HashgrainError: `fit-impossible` when no image has the field, or one has a list there.
    """
    if not any(field in own for own in labels):
        found = ", ".join(sorted(set().union(*labels))) or "none"
        raise HashgrainError(
            Reason.FIT_IMPOSSIBLE,
            f"none of {len(labels)} images has a label {field!r} (labels found: {found}); name a field that they have",
        )
    return class_indices([own.get(field) for own in labels], f"label {field!r}")[0]


def class_indices(
    values: Sequence[LabelValue | None], what: str = "a label"
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Number the classes in the order of their names, numbers (and false, true) before strings.

    Args:
        values: label of each image; None for none.
        what: they are called in an error.

    Returns:
        int64[n], -1 for none, and the classes' names by number. 7 and "7" are two classes, 7 and 7.0 are one.

    Raises:
        HashgrainError: `fit-impossible` where a value is a list: an image of several classes is of none in particular.
    """
    if (several := next((value for value in values if isinstance(value, tuple)), None)) is not None:
        raise HashgrainError(
            Reason.FIT_IMPOSSIBLE,
            f"{what} holds lists ({', '.join(several)[:80]}); name one that holds one value per image",
        )
    classes = sorted({_class_of(value) for value in values if value is not None})
    number = {of_class: index for index, of_class in enumerate(classes)}
    indices = [-1 if value is None else number[_class_of(value)] for value in values]
    return np.array(indices, np.int64), [text_of(value) for _, value in classes]


def _class_of(value: LabelValue) -> tuple[str, Any]:
    """Return what tells classes apart, and orders them: whole numbers and other numbers are of one kind."""
    kind = kind_of(value)
    return ("number" if kind.is_number else kind), value
