"""The job: from image shards to a trained model file."""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from encoder.errors import HashgrainError, Reason
from encoder.images.classes import fields_for, fields_in
from encoder.images.shards import Shard
from encoder.levels import Level
from encoder.model.cost import check_cost
from encoder.model.device import resolve_device, resolve_precision
from encoder.model.model_file import save_model
from encoder.model.network import HashNetwork
from encoder.model.spec import BackboneSpec, ModelConfig, Normalisation, Precision
from encoder.model.threeblock import ThreeBlock
from encoder.model.weights import NO_WEIGHTS, load_backbone
from encoder.runtime.publish import check_place, make_folder
from encoder.training.batches import CHUNK
from encoder.training.class_codes import nested_codes, spread_codes
from encoder.training.dataset import TrainingImages, read_images
from encoder.training.distributed import process_group, share_norms
from encoder.training.learner import Learner
from encoder.training.loop import Training, TrainProgress
from encoder.training.losses.criteria import Criterion, make_criterion
from encoder.training.losses.names import LossKind
from encoder.training.settings import TrainSettings
from encoder.training.split import Parts, split_images

CHECKPOINT = ".checkpoint"
"""Suffix of the file beside `out` that a cut training goes on from."""
MARGIN = 1.15
"""Side of the kept pictures, in network sides, where parts of them are cut out at random."""
WHITENING_SAMPLE = 5_000


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What was trained."""

    fingerprint: str
    images: int
    """Trained on."""
    held_out: int
    rejects: int
    scores: dict[str, float]
    """Held-out score by level, of the epochs whose weights were kept."""
    damaged: dict[str, str]
    """Why, by path of a shard that was not whole; what was readable was used."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a training runs; with another one the result differs by rounding."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`; each process of torchrun takes the device of its number."""
    precision: Precision = Precision.AUTO
    """Of the convolutions, by autocast."""

    def resolve(self) -> tuple[torch.device, torch.dtype]:
        """Return the device of this process and the type of its convolutions."""
        name = self.device
        if name == "cuda" or (
            name == "auto" and torch.cuda.is_available()
        ):  # by number: else each takes memory of the first
            name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        device = resolve_device(name)
        precision = resolve_precision(self.precision, device)
        return device, torch.bfloat16 if precision is Precision.BF16 else torch.float32


def train(
    shards: Sequence[Shard],
    settings: TrainSettings,
    out: Path,
    progress: Callable[[TrainProgress], None],
    reading: Callable[[int], None] = lambda _: None,
    machine: Machine = Machine(),
) -> TrainReport:
    """Train a model and write it to `out`; go on where an earlier call with the same arguments was cut.

    Args:
        shards: the training images; nothing else is looked at, not for a choice either.
        settings: what to train.
        out: model file; `out` + ".checkpoint" stands beside it until the end.
        progress: called after each step.
        reading: called with the images read so far.
        machine: device and precision.

    Raises:
        HashgrainError: `weights-unavailable`, `fit-impossible`, `shard-missing`, `write-failed`, `bad-value`, `exists`.
    """
    device, dtype = machine.resolve()
    make_folder(out.parent)
    checkpoint = out.with_name(out.name + CHECKPOINT)
    check_place(checkpoint)
    with process_group(device) as share:
        number, processes = share
        if processes > 1 and settings.batch % (CHUNK * processes):
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"a batch of {settings.batch} cannot be shared by {processes} processes; "
                f"give a multiple of {CHUNK * processes}",
            )
        side = round(settings.image_size * MARGIN) if settings.area else settings.image_size
        settings = replace(settings, labels=fields_for(settings.labels, fields_in(shards)))
        _check_labelled(settings)
        images = read_images(shards, side, settings.labels or {}, out.parent, reading)
        parts = split_images(images, settings)
        learner, spec, origin = make_learner(images, parts, settings, dtype)
        check_cost(learner.network.backbone.net, settings.image_size)
        if processes > 1:
            share_norms(learner.network)
        learner.to(device).to(memory_format=torch.channels_last)
        digest = hashlib.sha256(f"{images.digest}{settings}{origin}{dtype}".encode()).hexdigest()
        history = Training(learner, settings, images.pictures, parts, share, checkpoint, digest).run(progress)
        network, heads = learner.cpu().finished()
        record = {
            "weights": origin,
            "settings": json.loads(json.dumps(asdict(settings), default=str)),
            "shards": images.shards,
            "images": len(parts.trained),
            "held_out": len(parts.held_out),
            "classes_left_out": parts.left_out,
            "data_sha256": images.digest,
            "revision": revision(),
            "torch": torch.__version__,
            "precision": str(dtype).removeprefix("torch."),
            "history": history,
        }
        config = ModelConfig(
            spec, settings.image_size, settings.pooling, heads, Normalisation.NONE, dict(settings.exits), record
        )
        fingerprint = save_model(out, config, network, half=settings.half) if number == 0 else ""
        if number == 0:
            checkpoint.unlink(missing_ok=True)
    scores = {name: value for row in history if row["kept"] for name, value in row["score"].items()}
    return TrainReport(fingerprint, len(parts.trained), len(parts.held_out), images.rejects, scores, images.damaged)


def make_learner(
    images: TrainingImages, parts: Parts, settings: TrainSettings, dtype: torch.dtype
) -> tuple[Learner, BackboneSpec, str]:
    """Return what is to be trained, the backbone's spec as built, and where its weights are from."""
    backbone, spec, origin = load_backbone(settings.backbone, settings.weights, settings.seed)
    torch.manual_seed(settings.seed)
    network = HashNetwork(backbone, settings.pooling, None, Normalisation.NONE, settings.exits)
    if isinstance(backbone.net, ThreeBlock) and settings.weights == NO_WEIGHTS:
        some = np.sort(np.random.default_rng(settings.seed).permutation(parts.trained)[:WHITENING_SAMPLE])
        backbone.net.whiten(network.normalise(torch.from_numpy(images.pictures[some])))
    return Learner(network, settings, _criteria(settings, parts), dtype), spec, origin


def revision() -> str:
    """Return the program's version, with the git commit where it runs from a working copy."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return version("hashgrain")
    return f"{version('hashgrain')}+{commit}"


def _check_labelled(settings: TrainSettings) -> None:
    """Refuse a loss that reads labels where there are none, before an image is decoded."""
    for level in settings.bits:
        kind = settings.losses.get(level, LossKind.ORTHOHASH)
        if not settings.labels and kind is not LossKind.CONTRASTIVE_VIEWS:
            raise HashgrainError(
                Reason.FIT_IMPOSSIBLE,
                f"level {level} is to learn by {kind}, but the images have no labels; give them some, or the level the loss "
                f"{LossKind.CONTRASTIVE_VIEWS}",
            )


def _criteria(settings: TrainSettings, parts: Parts) -> dict[Level, Criterion]:
    criteria: dict[Level, Criterion] = {}
    for number, (level, nbits) in enumerate(settings.bits.items()):
        kind = settings.losses.get(level, LossKind.ORTHOHASH)
        if kind is LossKind.CONTRASTIVE_VIEWS:
            continue
        rng = np.random.default_rng([settings.seed, 3, number])
        kinds = parts.kinds() if level is Level.FUSED and settings.nested else None
        nclasses = len(parts.names[level])
        class_codes = spread_codes(nclasses, nbits, rng) if kinds is None else nested_codes(kinds, nbits, rng)
        criteria[level] = make_criterion(kind, torch.from_numpy(class_codes), len(parts.trained))
    return criteria
