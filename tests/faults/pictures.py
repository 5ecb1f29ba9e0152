"""What is done to pictures under faults, besides encoding: images of a service, and the fitting of a model. Torch is loaded for it."""

import shutil
from functools import partial
from pathlib import Path
from typing import Final

from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError
from encoder.hashing.fit_model import FitSettings, fit
from encoder.hashing.names import HashKind
from encoder.images.expand import expand
from encoder.images.limits import Limits
from encoder.levels import Level
from encoder.model.builtin import BUILTIN
from encoder.model.model_file import load_model
from encoder.model.spec import BackboneSpec
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings
from indexer.build import build
from indexer.index import Index
from indexer.service.holder import Holder
from indexer.service.items import Change, Changer
from indexer.settings import BuildSettings, Dedupe, IndexKind
from tests.faults.operations import Operation, state
from tests.support.pictures import encoded, write_tar

THERE: Final = [f"pic-{number:03d}" for number in range(4)]
NEW: Final = "pic-new"
INDEX: Final = "index"


def pictured(home: Path) -> dict[str, Operation]:
    """Write what the operations begin with, and return them by name."""
    write_tar(home / "served-shards/part.tar", [(f"{key}.jpg", encoded(at)) for at, key in enumerate(THERE)])
    encode(expand([str(home / "served-shards")]), BUILTIN, home / "served-codes", EncodeSettings(batch=4, workers=1))
    codes = list_code_files([home / "served-codes"])
    build(codes, home / "served" / INDEX, BuildSettings(IndexKind.FLAT, dedupe=Dedupe.OFF))
    shutil.rmtree(home / "served-codes")

    def change(path: Path, key: str, content: bytes | None) -> None:
        holder = Holder(Index(path / INDEX), lambda _: None)
        (outcome,) = Changer(path / "items", Limits()).run([Change(holder, key, content)])
        if isinstance(outcome, Exception):
            raise outcome

    def item(key: str, content: bytes | None, after: list[str]) -> Operation:
        return Operation(partial(change, key=key, content=content), home / "served", _served, after, inside=INDEX)

    return {
        "items": item(NEW, encoded(9), [*THERE, NEW]),
        "item gone": item(THERE[1], None, [THERE[0], *THERE[2:]]),
        "fit": Operation(partial(_fit, home / "served-shards"), home / "nothing", _fitted, ["model.safetensors"]),
    }


def _served(path: Path) -> list[str]:
    return state(path / INDEX)


def _fit(shards: Path, path: Path) -> None:
    spec = BackboneSpec("resnet18", small_stem=True)
    settings = FitSettings(spec, "none", HashKind.LSH, {Level.FUSED: 8}, image_size=32)
    fit(expand([str(shards)]), settings, path / "model.safetensors", lambda *_: None)


def _fitted(path: Path) -> list[str]:
    """Return the names of the models of a folder, each of which can be used."""
    found = sorted(path.glob("*.safetensors"))
    for each in found:
        try:
            load_model(each)
        except HashgrainError as err:
            raise AssertionError(str(err)) from err
    return [each.name for each in found]
