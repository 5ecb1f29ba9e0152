"""What is evaluated: a model and shards, or codes that were made before; either way coded images with their labels."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.codes.file import SUFFIX, list_code_files, open_codes
from encoder.errors import HashgrainError, Reason
from encoder.images.classes import fields_in
from encoder.images.expand import expand
from encoder.images.labels.values import LabelValue
from encoder.images.shards import Shard
from encoder.levels import Level
from encoder.runtime.console import Advance
from encoder.runtime.files import exists
from indexer.storage.current import POINTER, read_current

if TYPE_CHECKING:
    from encoder.model.image_encoder import ImageEncoder
    from encoder.model.model_file import Model
    from encoder.stream.report import EncodeReport
    from encoder.stream.settings import EncodeSettings

Progress = Callable[[str], AbstractContextManager[Advance]]
"""Shows how far a stage is; called with its title."""


def silent(_: str) -> AbstractContextManager[Advance]:
    """Show nothing: a `Progress` for callers without a terminal."""
    return nullcontext(lambda *_: None)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a part comes from."""

    shards: Sequence[str] = ()
    """Images to encode, as `encoder encode` takes them."""
    codes: Sequence[Path] = ()
    """What was encoded before: code files, folders of them, folders of indexes."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Coded images, row by row."""

    keys: list[str]
    labels: list[list[LabelValue]]
    """One list a field, the finest first."""
    codes: dict[Level, Codes]
    shards: dict[str, str]
    """Name of each shard by its SHA-256, where the codes say what they were made from."""
    models: frozenset[str]
    """Fingerprints of the models that made the codes."""

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """What is evaluated, before queries and database are split."""

    test: Part
    train: Part | None
    model: "Model | None"
    """None where codes stand without the model that made them."""
    encoder: "ImageEncoder | None" = None
    """The model on its device, where all images are at hand, too."""
    shards: Sequence[Shard] = ()
    """Those images, in the order of the rows."""
    rejects: int = 0
    """Images that were seen and have no code."""

    @property
    def record(self) -> dict[str, Any]:
        """Return what the model says of its training."""
        return self.model.config.record if self.model else {}


def open_subject(
    sources: Mapping[str, Source],
    model_path: Path | None,
    fields: Sequence[str],
    out: Path,
    how: "EncodeSettings",
    progress: Progress,
) -> Subject:
    """Encode what has to be encoded (code files that are there already and true are kept) and read all codes.

    Args:
        sources: of `test`, and of `train` if it is not empty.
        model_path: the model; None for the copy that stands beside the codes, if there is one.
        fields: label fields that every image has, the finest first.
        out: folder for a folder of code files a part.
        how: device, keys and the like.
        progress: shown while encoding.

    Raises:
        HashgrainError: `bad-value` without anything to ask with or a model to encode with, `codes-mismatch` when two
            models made the codes, `model-mismatch` when another one is given, and what encoding and `read_codes` raise.
    """
    from encoder.model.image_encoder import ImageEncoder
    from encoder.model.model_file import load_model

    given = [path for source in sources.values() for path in source.codes]
    model_path = model_path or next(filter(Path.exists, map(_model_beside, given)), None)
    parts: dict[str, Part] = {}
    shards: list[Shard] = []
    rejects = 0
    for name, source in sources.items():
        files = _files(source.codes)
        if source.shards:
            if model_path is None:
                raise HashgrainError(Reason.BAD_VALUE, "shards have to be encoded; give --model FILE, or codes")
            found = expand(source.shards)
            with progress(f"encoding {name}") as advance:
                report = _encode(found, model_path, out / name, how, advance)
            files += [out / name / f"{shard.name}{SUFFIX}" for shard in found]
            shards, rejects = [*shards, *found], rejects + report.rejects.total()
        if files:
            parts[name] = read_codes(files, fields)
    if "test" not in parts:
        raise HashgrainError(Reason.BAD_VALUE, "no queries; give --test SHARDS and --model, or --queries CODES")
    model = load_model(model_path) if model_path else None
    _check_maker(parts, model_path, model)
    encoder = ImageEncoder(model, how.device, how.precision) if model and not given else None
    return Subject(parts["test"], parts.get("train"), model, encoder, shards, rejects)


def _encode(
    shards: Sequence[Shard], model_path: Path, out: Path, how: "EncodeSettings", advance: Advance
) -> "EncodeReport":
    from encoder.stream.job import encode

    return encode(shards, model_path, out, how, lambda at: at.show(advance))


def _check_maker(parts: Mapping[str, Part], model_path: Path | None, model: "Model | None") -> None:
    """Refuse codes of several models, or of another one than the one at hand."""
    made_by = frozenset[str]().union(*(part.models for part in parts.values()))
    if len(made_by) > 1:
        raise HashgrainError(
            Reason.CODES_MISMATCH,
            f"the codes were made by {len(made_by)} models, and only codes of one can be compared; encode all with one",
        )
    if model and model.fingerprint not in made_by:
        raise HashgrainError(
            Reason.MODEL_MISMATCH,
            f"{model_path} is not the model that made the codes; give that one with --model, or none",
        )


def _files(paths: Sequence[Path]) -> list[Path]:
    return list(chain.from_iterable([path] if exists(path / POINTER) else list_code_files([path]) for path in paths))


def _model_beside(path: Path) -> Path:
    """Return where the copy of the model stands if there is one."""
    from encoder.model.spec import MODEL_NAME

    if exists(path / POINTER):
        folder, manifest = read_current(path)
        return folder / (manifest.model or MODEL_NAME)
    return (path if path.is_dir() else path.parent) / MODEL_NAME


def fields_of(source: Source) -> set[str]:
    """Return the label fields of a part, as its first shard or its first codes have them; no image is read.

    Raises:
        HashgrainError: what opening shards and codes raises.
    """
    if source.shards:
        return fields_in(expand(source.shards))
    for path in _files(source.codes):
        if path.is_file():
            with open_codes(path) as file:
                return set(file.label_fields())
        _, manifest = read_current(path)
        return {label.name for segment in manifest.segments for label in segment.labels}
    return set()


def read_codes(paths: Sequence[Path], fields: Sequence[str]) -> Part:
    """Read code files and indexes as one part.

    Args:
        paths: code files, and folders of indexes.
        fields: label fields that every image has, the finest first.

    Raises:
        HashgrainError: `bad-value` for an image without a label, `codes-mismatch` for codes of other lengths or levels,
            and what opening the files raises.
    """
    parts = [_from_file(path, fields) if path.is_file() else _from_index(path, fields) for path in paths]
    return joined(parts)


def _from_file(path: Path, fields: Sequence[str]) -> Part:
    with open_codes(path) as file:
        header, keys = file.header, list(file.keys())
        labels: list[list[LabelValue]] = []
        for field in fields:
            column = file.label(field)
            _check_labelled(keys, column.present, field, path, file.label_fields())
            labels.append(list(column.values.tolist() if isinstance(column.values, np.ndarray) else column.values))
        codes = {level: file.codes(level) for level in header.bits}
    shards = {header.shard.sha256: header.shard.name} if header.shard.sha256 else {}
    return Part(keys, labels, codes, shards, frozenset({header.fingerprint}))


def _from_index(path: Path, fields: Sequence[str]) -> Part:
    from indexer.index import Index

    index = Index(path)
    live = index.live_rows()
    keys, rows = [index.key(row) for row in live.tolist()], [index.labels(row) for row in live.tolist()]
    for field in fields:
        _check_labelled(keys, np.array([field in row for row in rows]), field, path, set[str]().union(*rows))
    codes = {level: index.codes(level, live) for level in index.manifest.bits}
    labels = [[row[field] for row in rows] for field in fields]
    return Part(keys, labels, codes, {}, frozenset({index.manifest.fingerprint}))


def _check_labelled(
    keys: Sequence[str], present: npt.NDArray[np.bool_], field: str, path: Path, found: Iterable[str]
) -> None:
    if not present.all():
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"image {keys[int(present.argmin())]!r} of {path} has no label {field!r} (labels found there: "
            f"{', '.join(sorted(found)) or 'none'}); give --label a field that every image has",
        )


def joined(parts: Sequence[Part]) -> Part:
    """Put parts behind one another.

    Raises:
        HashgrainError: `codes-mismatch` for codes of other lengths or levels.
    """
    bits = [{level: 8 * codes.shape[1] for level, codes in part.codes.items()} for part in parts]
    if other := next((found for found in bits if found != bits[0]), None):
        raise HashgrainError(
            Reason.CODES_MISMATCH, f"codes of {other} and {bits[0]} bits cannot be compared; encode them with one model"
        )
    return Part(
        [key for part in parts for key in part.keys],
        [list(chain.from_iterable(columns)) for columns in zip(*(part.labels for part in parts), strict=True)],
        {level: np.concatenate([part.codes[level] for part in parts]) for level in parts[0].codes},
        {digest: name for part in parts for digest, name in part.shards.items()},
        frozenset[str]().union(*(part.models for part in parts)),
    )
