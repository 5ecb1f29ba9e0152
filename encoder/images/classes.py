"""Labels as a fit or a training needs them: which field of the sidecars speaks for which level, and classes as numbers."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from encoder.errors import HashgrainError, Reason
from encoder.images.labels.values import Labels, LabelValue, kind_of, text_of
from encoder.images.readers.formats import reader_for
from encoder.images.shards import Shard
from encoder.levels import DEFAULT_LABELS, Level, parse_level


def parse_label_map(text: str) -> dict[Level, str]:
    """Return the JSON field of each level from `mid=fine,coarse=coarse`, or from `fine`, which then speaks for all levels.

    Raises:
        HashgrainError: `bad-value` for anything else, `level-unknown`.
    """
    if text.strip() and not set(text) & set("=,"):
        return {Level.MID: text.strip()}  # the other levels go by it, see `field_of`
    fields: dict[Level, str] = {}
    for part in text.split(","):
        name, equals, field = part.partition("=")
        if not equals or not field.strip():
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"label {text!r} is neither FIELD nor LEVEL=FIELD; give for example fine, or mid=fine,coarse=coarse",
            )
        if parse_level(name) in fields:
            raise HashgrainError(
                Reason.BAD_VALUE, f"label {text!r} names two fields for level {name.strip()}; give one for each level"
            )
        fields[parse_level(name)] = field.strip()
    return fields


def field_of(level: Level, fields: Mapping[Level, str]) -> str:
    """Return the field that speaks for a level: see `speaker_of`."""
    return fields[speaker_of(level, fields)]


def speaker_of(level: Level, labelled: Collection[Level]) -> Level:
    """Return the level whose labels speak for a level: itself, else that of the class (level mid), else the first there is."""
    return next(one for one in (level, Level.MID, *labelled) if one in labelled)


def fields_for(given: Mapping[Level, str] | None, found: Collection[str]) -> dict[Level, str]:
    """Return the field of each level that has one of its own, before any image is looked at.

    Args:
        given: by the user; None for the usual ones, as far as they are there, else the only field there is.
        found: the fields that some images have.

    Returns:
        Field by level; empty where nothing is given and there is none.

    Raises:
        HashgrainError: `fit-impossible` for a field that no image has, or where several are there and none is a usual one.
    """
    if given is not None:
        check_fields(given.values(), found)
        return dict(given)
    usual = {level: field for level, field in DEFAULT_LABELS.items() if field in found}
    if not usual and len(found) > 1:
        raise HashgrainError(
            Reason.FIT_IMPOSSIBLE,
            f"which label says what is the same? Labels found: {', '.join(sorted(found))}; name one, for all levels or for each",
        )
    return usual or dict.fromkeys([Level.MID] * len(found), next(iter(found), ""))


def check_fields(given: Iterable[str], found: Collection[str]) -> None:
    """Refuse a field that no image has.

    Raises:
        HashgrainError: `fit-impossible`.
    """
    for field in given:
        if field not in found:
            raise HashgrainError(
                Reason.FIT_IMPOSSIBLE,
                f"no image has a label {field!r} (labels found: {', '.join(sorted(found)) or 'none'}); name one that is there",
            )


def fields_in(shards: Iterable[Shard]) -> set[str]:
    """Return the label fields of the first of the shards that has an image; no image is read.

    Raises:
        HashgrainError: `shard-missing`.
    """
    for shard in shards:
        reader = reader_for(shard, wanted=lambda _: False, labelled=True)
        found = {field for entry in reader for field in entry.labels}
        if reader.seen:
            return found
    return set()


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
