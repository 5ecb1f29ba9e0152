"""The command `encoder train`: arguments in, one call, lines out."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from encoder.errors import HashgrainError, Reason
from encoder.levels import Level, parse_bits, parse_level
from encoder.model.spec import BackboneSpec, Precision
from encoder.plural import plural
from encoder.runtime.console import notice_damage, notice_unread, progress, result
from encoder.runtime.files import exists
from encoder.training.losses.names import LossKind
from encoder.training.recipes import Recipe, settings_for


def train(
    shards: Annotated[
        list[str],
        typer.Argument(help="Training images: tars, folders, @list.txt, globs, a-{000..127}.tar.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="Model file to write; a cut training goes on beside it.")] = Path(
        "model.safetensors"
    ),
    recipe: Annotated[
        Recipe | None, typer.Option(help="Schedule.", show_default="scratch without --weights, else finetune")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Network.", show_default="threeblock from scratch, else resnet50")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="A .safetensors or .pth file, torchvision's name, or none.", show_default="the recipe's"),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=16, max=2048, help="Side the network sees.", show_default="the recipe's")
    ] = None,
    small_stem: Annotated[bool, typer.Option("--small-stem", help="3x3 stem, no pooling: for tiny pictures.")] = False,
    label: Annotated[
        str | None,
        typer.Option(
            help="Which JSON field says what is the same: FIELD, or by level mid=FIELD,coarse=FIELD.",
            show_default="mid=fine,coarse=coarse, or the only one",
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(help="Loss of every level with labels (csq) or by level (mid=dpsh).", show_default="the recipe's"),
    ] = None,
    bits: Annotated[
        str | None, typer.Option(help="Bits of every level (64) or by level (fine=64,fused=128).", show_default="64")
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(min=0.01, help="Epochs of the longest phase; others in proportion.", show_default="the recipe's"),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="Images per step.", show_default="the recipe's")] = None,
    held_out: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of the images that choose the epoch instead of training.")
    ] = 0.02,
    patience: Annotated[
        int, typer.Option(min=0, help="Epochs without a better held-out score that end a phase.", show_default="never")
    ] = 0,
    leave_out: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the classes left out, for the protocol unseen-classes.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Arithmetic of the convolutions.")] = Precision.AUTO,
    half: Annotated[bool, typer.Option("--half", help="Store 16-bit weights.")] = False,
    files_per_shard: Annotated[int, typer.Option(min=1, help="Files of a folder that make one shard.")] = 10_000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Train a model: attention, hash layers and backbone, from the labels beside the images.

    Run it again after a cut and it goes on; with torchrun it runs in several processes.

    Example: encoder train 'train-*.tar' --weights resnet50.safetensors --image-size 160 --out model.safetensors
    """
    from encoder.images.classes import parse_label_map
    from encoder.images.expand import expand
    from encoder.training.job import Machine
    from encoder.training.job import train as run_train
    from encoder.training.loop import TrainProgress

    if exists(out) and not overwrite:
        raise HashgrainError(Reason.EXISTS, f"{out} exists; choose another file (--out), or replace it (--overwrite)")
    chosen = recipe or (Recipe.SCRATCH if weights in {None, "none"} else Recipe.FINETUNE)
    settings = settings_for(chosen, parse_bits(bits or "64"), epochs)
    if chosen is Recipe.SCRATCH and backbone not in {None, "threeblock"}:
        settings = replace(settings, exits={})
    settings = replace(
        settings,
        backbone=BackboneSpec(backbone or settings.backbone.name, small_stem),
        weights=weights or settings.weights,
        image_size=image_size or settings.image_size,
        labels=parse_label_map(label) if label else None,
        losses={**settings.losses, **_losses(loss)},
        batch=batch or settings.batch,
        held_out=held_out,
        patience=patience,
        classes_left_out=leave_out,
        frozen_norms=settings.frozen_norms and weights != "none",  # random weights have no statistics worth keeping
        half=half,
        seed=seed,
    )
    found = expand(shards, files_per_shard)
    notice_unread(found.unread)
    with progress("training") as advance:

        def show(at: TrainProgress) -> None:
            score = "" if at.score is None else f", held-out score {at.score:.3f}"
            phase = f"phase {at.phase + 1}/{len(settings.phases)}"
            doing = "features" if at.loss is None else f"loss {at.loss:.3f}"
            advance(at.share, 1, f"{phase}, {doing}, {at.rate:.0f} images/s{score}", at.left)

        report = run_train(
            found,
            settings,
            out,
            show,
            lambda seen: advance(0, 1, f"{plural(seen, 'image')} read"),
            Machine(device, precision),
        )
    scores = ", ".join(f"{level} {score:.3f}" for level, score in report.scores.items())
    result(
        f"trained on {plural(report.images, 'image')} ({report.held_out:,} held out, {report.rejects:,} rejected) by {chosen}; "
        f"held-out scores: {scores or 'none'}; model {out}, fingerprint {report.fingerprint[:12]}"
    )
    notice_damage(report.damaged)
    if report.scores:
        result(
            "  scores: mAP of held-out images against each other; without labels, how often a second view finds its image"
        )


def _losses(text: str | None) -> dict[Level, LossKind]:
    """Read `csq` or `mid=dpsh,fused=csq`."""
    if text is None:
        return {}
    if "=" not in text:
        kind = _loss(text)
        return dict.fromkeys((Level.MID, Level.COARSE, Level.FUSED), kind)
    return {parse_level(part.partition("=")[0]): _loss(part.partition("=")[2]) for part in text.split(",")}


def _loss(name: str) -> LossKind:
    try:
        kind = LossKind(name.strip())
    except ValueError:
        names = ", ".join(LossKind)
        raise HashgrainError(Reason.BAD_VALUE, f"no loss is called {name!r}; the losses are {names}") from None
    if kind is LossKind.DQN:
        raise HashgrainError(
            Reason.BAD_VALUE,
            "dqn makes quantisation codes, which no Hamming index can search; it is for comparisons (make bench-methods)",
        )
    return kind
