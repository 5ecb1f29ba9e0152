"""Fitting a model without training: sample images, pool their stage features, fit one hash layer per level."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from encoder.enum_names import take_names
from encoder.errors import HashgrainError, Reason
from encoder.hashing.checks import check_classes
from encoder.hashing.layer import HashLayer
from encoder.hashing.methods import fit_layer
from encoder.hashing.names import HashKind
from encoder.images.classes import classes_of, field_of, fields_for
from encoder.images.decoding.decode import decode_readable
from encoder.images.labels.values import Labels
from encoder.images.readers.formats import reader_for
from encoder.images.samples import LateLabels, Sample, ShardReader, batches
from encoder.images.shards import Shard
from encoder.levels import DEFAULT_BITS, STAGE_LEVELS, Level
from encoder.model.cost import check_cost
from encoder.model.device import fast_dtype
from encoder.model.model_file import save_model
from encoder.model.network import HashNetwork
from encoder.model.spec import BackboneSpec, ModelConfig, Pooling
from encoder.model.weights import load_backbone
from encoder.runtime.parallel import ordered_map
from encoder.runtime.publish import check_place
from encoder.vectors import unit_rows

SCAN_FACTOR = 20
"""Shards are counted, in random order, until they hold so many times the sample: a large collection is not walked whole."""

Features = npt.NDArray[np.float32]
"""float32[n, channels]: pooled features of one stage, not centred."""


@dataclass(frozen=True, slots=True)
class FitSettings:
    """What to fit."""

    backbone: BackboneSpec = field(default_factory=BackboneSpec)
    weights: str = "DEFAULT"
    kind: HashKind = HashKind.ITQ
    bits: Mapping[Level, int] = field(default_factory=lambda: dict(DEFAULT_BITS))
    image_size: int = 224
    pooling: Pooling = Pooling.ATTENTION
    sample: int = 5_000
    """Images to fit on, at most."""
    batch: int = 32
    seed: int = 0
    labels: Mapping[Level, str] | None = None
    """The JSON field that says what is the same at a level, for a hash function that is fitted with labels; None: see
    `classes.fields_for`."""

    def __post_init__(self) -> None:
        take_names(self)


@dataclass(frozen=True, slots=True)
class FitReport:
    """What was fitted."""

    fingerprint: str
    images: int
    rejects: int
    weights: str
    """Where the backbone's weights are from."""
    damaged: dict[str, str] = field(default_factory=dict)
    """Why, by path of a shard that was not whole; what was readable was used."""


@dataclass(frozen=True, slots=True)
class FitSample:
    """What a model is fitted to."""

    features: dict[Level, Features]
    """float32[n, channels] per stage."""
    labels: list[Labels]
    """Of the same images."""
    fields: dict[Level, str]
    """Of the levels that have one of their own; empty for a hash function that is fitted without."""
    rejects: int
    """Images drawn that could not be decoded."""
    damaged: dict[str, str] = field(default_factory=dict)
    """Why, by path of a shard that was not whole; what was readable was used."""


def fit(shards: Sequence[Shard], settings: FitSettings, out: Path, progress: Callable[[int, int], None]) -> FitReport:
    """Fit a model to a sample of the shards' images and write it to `out`.

    Args:
        shards: where images are drawn from.
        settings: network and hash function.
        out: model file to write.
        progress: called with (images done, images in the sample).

    Raises:
        HashgrainError: `weights-unavailable`, `fit-impossible`, `shard-missing`, `write-failed`, `bad-value`.
    """
    check_place(out)
    backbone, spec, origin = load_backbone(settings.backbone, settings.weights, settings.seed)
    check_cost(backbone.net, settings.image_size)
    network = HashNetwork(copy.deepcopy(backbone), settings.pooling).eval()  # a copy: it runs in the fast precision
    sample = pooled_features(network.to_precision(fast_dtype()), shards, settings, progress)
    images = len(sample.labels)
    if images < 2:
        raise HashgrainError(Reason.FIT_IMPOSSIBLE, f"only {images} readable images to fit on; give more shards")
    means = {level: values.mean(axis=0) for level, values in sample.features.items()}
    units = {level: unit_rows(values - means[level]) for level, values in sample.features.items()}
    units[Level.FUSED] = np.concatenate([units[level] for level in STAGE_LEVELS], axis=1)
    fields = {level: field_of(level, sample.fields) for level in settings.bits} if settings.kind.supervised else {}
    classes = {level: classes_of(sample.labels, name) for level, name in fields.items()}
    layers = {
        level: fit_layer(
            settings.kind, units[level], nbits, np.random.default_rng([settings.seed, number]), classes.get(level)
        )
        for number, (level, nbits) in enumerate(settings.bits.items())
    }
    heads = {level: layer.spec for level, layer in layers.items()}
    config = ModelConfig(
        backbone=spec,
        image_size=settings.image_size,
        pooling=settings.pooling,
        heads=heads,
        record={"weights": origin, "hash": settings.kind, "images": images, "seed": settings.seed, "labels": fields},
    )
    with torch.random.fork_rng(devices=[]):
        fitted = HashNetwork(backbone, settings.pooling, heads)
    _install(fitted, means, layers)
    return FitReport(save_model(out, config, fitted), images, sample.rejects, origin, sample.damaged)


def pooled_features(
    network: HashNetwork, shards: Sequence[Shard], settings: FitSettings, progress: Callable[[int, int], None]
) -> FitSample:
    """Stream a random sample of images through the backbone.

    Args:
        network: runs on the CPU, in the precision it has.
        shards: where images are drawn from.
        settings: sample, batch, image size and seed.
        progress: called with (images done, images in the sample).

    Returns:
        float32[n, channels] per stage and the labels of the n images that could be decoded.

    Raises:
        HashgrainError: `shard-missing`, `fit-impossible` without a label that is needed.
    """
    drawn = _draw(shards, settings)
    fields = _check_labels(drawn, shards, settings) if settings.kind.supervised else {}

    @torch.inference_mode()
    def work(samples: list[Sample]) -> tuple[int, list[Labels], dict[Level, Features]]:
        readable, pictures = decode_readable(samples, settings.image_size)
        pooled = network.pooled(torch.from_numpy(pictures)) if readable else ()
        return len(samples), [sample.labels for sample in readable], {level: rows.numpy() for level, rows in pooled}

    pooled_parts: dict[Level, list[Features]] = {level: [] for level in STAGE_LEVELS}
    labels: list[Labels] = []
    done = 0
    for seen, own, pooled in ordered_map(work, batches(_images(shards, drawn.chosen), settings.batch)):
        done += seen
        labels += own
        for level, values in pooled.items():
            pooled_parts[level].append(values)
        progress(done, drawn.total)
    features = {
        level: np.concatenate(parts) if parts else np.empty((0, 1), np.float32) for level, parts in pooled_parts.items()
    }
    return FitSample(features, labels, fields, done - len(labels), drawn.damaged)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Images to fit on, before any is read."""

    chosen: dict[int, set[int]]
    """Ordinals, by the position of their shard."""
    labels: dict[int, list[Labels]]
    """Of all images of the shards that were counted, likewise."""
    damaged: dict[str, str]

    @property
    def total(self) -> int:
        """Return how many are drawn."""
        return sum(map(len, self.chosen.values()))


def _draw(shards: Sequence[Shard], settings: FitSettings) -> _Drawn:
    """Choose images at random."""
    rng = np.random.default_rng([settings.seed, len(Level)])
    labels: dict[int, list[Labels]] = {}
    damaged: dict[str, str] = {}
    for position in rng.permutation(len(shards)).tolist():
        reader = reader_for(shards[position], wanted=lambda _: False, labelled=settings.kind.supervised)
        labels[position] = _labels_in(reader)
        if reader.damage:
            damaged[reader.shard.path] = reader.damage
        if sum(map(len, labels.values())) >= SCAN_FACTOR * settings.sample:
            break
    owners = np.repeat(list(labels), list(map(len, labels.values())))
    ordinals = np.concatenate([np.arange(len(own)) for own in labels.values()])
    picked = rng.permutation(len(owners))[: settings.sample]
    chosen: dict[int, set[int]] = {}
    for owner, ordinal in zip(owners[picked].tolist(), ordinals[picked].tolist(), strict=True):
        chosen.setdefault(owner, set()).add(ordinal)
    return _Drawn(chosen, labels, damaged)


def _labels_in(reader: ShardReader) -> list[Labels]:
    """Return the labels of each image of a shard, those that come late included."""
    labels: list[Labels] = []
    by_key: dict[str, Labels] = {}
    for entry in reader:
        if isinstance(entry, LateLabels):
            by_key.get(entry.key, {}).update(entry.labels)
        else:
            labels.append(entry.labels)
            by_key[entry.key] = entry.labels
    return labels


def _check_labels(drawn: _Drawn, shards: Sequence[Shard], settings: FitSettings) -> dict[Level, str]:
    """Return the field of each level that has one of its own; raise before the network sees an image that lacks it."""
    found = set[str]().union(*(own for of_shard in drawn.labels.values() for own in of_shard))
    fields = fields_for(settings.labels, found)
    if not fields:
        raise HashgrainError(
            Reason.FIT_IMPOSSIBLE,
            f"{settings.kind} is fitted with labels and no image has any; take another hash function",
        )
    for name in {field_of(level, fields) for level in settings.bits}:
        lacking = {
            position: {ordinal for ordinal in ordinals if name not in drawn.labels[position][ordinal]}
            for position, ordinals in drawn.chosen.items()
        }
        labels = [
            drawn.labels[position][of]
            for position, ordinals in drawn.chosen.items()
            for of in ordinals - lacking[position]
        ]
        for batch in batches(_images(shards, lacking), settings.batch):
            labels += [
                sample.labels for sample in decode_readable(batch, settings.image_size)[0]
            ]  # the others are rejects
        check_classes(classes_of(labels, name), all_labelled=settings.kind.all_labelled)
    return fields


def _images(shards: Sequence[Shard], chosen: Mapping[int, set[int]]) -> Iterator[Sample]:
    for position in sorted(chosen):
        yield from reader_for(shards[position], wanted=chosen[position].__contains__).images()


def _install(network: HashNetwork, means: Mapping[Level, Features], layers: Mapping[Level, HashLayer]) -> None:
    with torch.no_grad():
        for level, mean in means.items():
            network.means[level].copy_(torch.from_numpy(mean))
        for level, layer in layers.items():
            network.head(level).load_state_dict({name: torch.from_numpy(at) for name, at in layer.tensors.items()})
