"""Names in the place of members of enums: taken for what they say, or refused."""

from dataclasses import fields, replace
from enum import StrEnum
from typing import Any

import pytest

from encoder.errors import HashgrainError, Reason
from encoder.hashing.fit_model import FitSettings
from encoder.hashing.names import HashKind
from encoder.levels import Level
from encoder.stream.settings import EncodeSettings, SkipDuplicates
from encoder.training.losses.names import LossKind
from encoder.training.settings import Phase, TrainSettings
from indexer.settings import (
    BuildSettings,
    Combine,
    CombineSettings,
    Engine,
    LevelSettings,
    SearchSettings,
    TuneSettings,
)

PHASE = Phase(1, 0.1, (Level.FINE,))
SETTINGS = [
    BuildSettings(levels=(Level.MID,)),
    SearchSettings(),
    TuneSettings(),
    LevelSettings(),
    CombineSettings(Combine.SUM, (Level.FINE, Level.MID)),
    EncodeSettings(levels=(Level.COARSE,)),
    FitSettings(),
    PHASE,
    TrainSettings((PHASE,), losses={Level.FINE: LossKind.DPSH}, exits={Level.MID: (3,)}),
]


def make(settings: Any, /, **options):
    """Settings of values that are of other types than they say."""
    return settings(**options)


def by_name(value):
    """A value with names in the place of its members of enums."""
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, dict):
        return {by_name(key): by_name(item) for key, item in value.items()}
    return tuple(map(by_name, value)) if isinstance(value, tuple) else value


def kinds(value):
    if isinstance(value, dict):
        return {by_name(key): (type(key), kinds(item)) for key, item in value.items()}
    return tuple(map(kinds, value)) if isinstance(value, tuple) else type(value)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: type(settings).__name__)
def test_names_become_members_in_every_public_settings_class(settings):
    given = {each.name: getattr(settings, each.name) for each in fields(settings)}
    taken = replace(settings, **{name: by_name(value) for name, value in given.items()})
    assert {name: kinds(getattr(taken, name)) for name in given} == {
        name: kinds(value) for name, value in given.items()
    }


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (lambda: make(SearchSettings, engine="abacus"), "engine: abacus; expected one of auto, scan, faiss, gpu"),
        (lambda: make(SearchSettings, engine=None), "engine: None; expected one of auto"),
        (lambda: make(BuildSettings, kind="tree"), "kind: tree; expected one of auto, flat, ivf"),
        (lambda: make(BuildSettings, dedupe=True), "dedupe: True; expected one of auto, on, off"),
        (lambda: make(BuildSettings, on_duplicate="last"), "on_duplicate: last; expected one of error, first"),
        (lambda: make(BuildSettings, levels=("fine", "finest")), "levels: finest; expected one of fine, mid"),
        (lambda: make(BuildSettings, levels="fine"), "levels: fine; expected several names, \\('fine',\\) for one"),
        (lambda: make(BuildSettings, levels=3), "levels: 3; expected several names, \\(3,\\) for one"),
        (lambda: make(FitSettings, bits=64), "bits: 64; expected values by name, as a dict has them"),
        (lambda: make(CombineSettings, how="mean", levels=("fine",)), "how: mean; expected one of cascade, sum, rrf"),
        (lambda: make(EncodeSettings, precision="int8"), "precision: int8; expected one of auto, fp32, bf16"),
        (lambda: make(EncodeSettings, skip="all"), "skip: all; expected one of none, exact, near"),
        (lambda: make(FitSettings, kind="pca-rr"), "kind: pca-rr; expected one of"),
        (lambda: make(FitSettings, bits={"finest": 64}), "bits: finest; expected one of"),
    ],
)
def test_what_is_not_a_name_is_one_line(asked, says):
    with pytest.raises(HashgrainError, match=says) as caught:
        asked()
    assert caught.value.reason is Reason.BAD_VALUE
    assert "\n" not in str(caught.value)


def test_members_stay_what_they_are():
    assert make(SearchSettings, engine="scan").engine is Engine.SCAN
    assert make(EncodeSettings, skip="near").skip is SkipDuplicates.NEAR
    assert FitSettings(kind=HashKind.LSH).kind is HashKind.LSH
