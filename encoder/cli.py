"""The `encoder` command: fit or train a model, encode shards, inspect code files. Arguments in, one function call, lines out."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from encoder.errors import HashgrainError, Reason
from encoder.hashing.names import HashKind
from encoder.images.names import counted
from encoder.levels import parse_bits, parse_levels
from encoder.model.builtin import BUILTIN
from encoder.model.spec import BackboneSpec, Pooling, Precision
from encoder.plural import plural
from encoder.runtime.console import (
    EXIT_ERROR,
    notice,
    notice_damage,
    notice_unread,
    progress,
    result,
    run,
    show_version,
)
from encoder.runtime.files import exists, is_url
from encoder.stream.settings import EncodeEngine, SkipDuplicates
from encoder.training.cli import train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from encoder.codes.summary import CodesSummary
    from encoder.hashing.fit_model import FitSettings
    from encoder.images.shards import Shard
    from encoder.stream.report import EncodeReport

OVERWRITE = "--out, --overwrite"
REMEDIES = {
    "fit": {
        Reason.FIT_IMPOSSIBLE: "--label, --hash, --bits",
        Reason.WEIGHTS_UNAVAILABLE: "--weights",
    },
    "train": {
        Reason.FIT_IMPOSSIBLE: "--label, --loss",
        Reason.TRAINING_DIVERGED: "--loss, --batch, --precision fp32",
        Reason.WEIGHTS_UNAVAILABLE: "--weights",
    },
    "encode": {
        Reason.EXISTS: OVERWRITE,
        Reason.LEVEL_UNKNOWN: "--levels",
        Reason.MODEL_INVALID: "--model",
        Reason.MODEL_MISMATCH: OVERWRITE,
        Reason.PROCESS_DIED: "--batch, --devices",
        Reason.SHARD_CLASH: OVERWRITE,
        Reason.TOO_MANY_BAD: "--max-bad, encoder inspect --rejects",
        Reason.WEIGHTS_UNAVAILABLE: "--weights",
    },
    "inspect": {Reason.CODES_MISSING: "encoder encode SHARDS --out CODES"},
}
"""What an error's remedy is called on the command line: the library speaks of settings, not of flags."""
SUPERVISED = ", ".join(kind for kind in HashKind if kind.supervised)
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

Shards = Annotated[
    list[str],
    typer.Argument(
        help="Tars, folders, images, @list.txt, globs, a-{000..127}.tar; tars also by URL (s3://, gs://, https://, hf://).",
        show_default=False,
    ),
]
Backbone = Annotated[str, typer.Option(help="torchvision network: resnet18..152, wide, resnext, alexnet, vgg16(_bn).")]
Weights = Annotated[str, typer.Option(help="A .safetensors or .pth file, torchvision's name (IMAGENET1K_V2), or none.")]
Hash = Annotated[HashKind, typer.Option("--hash", help="Hash function.")]
Label = Annotated[
    str | None,
    typer.Option(
        help=f"Which JSON field says what is the same: FIELD, or by level mid=FIELD,coarse=FIELD; for {SUPERVISED}.",
        show_default="mid=fine,coarse=coarse, or the only one",
    ),
]
Bits = Annotated[
    str | None,
    typer.Option(help="Bits of every level (128) or by level (fine=64,fused=128).", show_default="64, fused=128"),
]
ImageSize = Annotated[int, typer.Option(min=16, max=2048, help="Side in pixels of the square the network sees.")]
FilesPerShard = Annotated[int, typer.Option(min=1, help="Files of a folder that make one shard.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


@app.callback()
def main_help(
    _: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Turn image shards into files of binary codes."""


@app.command(no_args_is_help=True)
def fit(
    shards: Shards,
    out: Annotated[Path, typer.Option(help="Model file to write.")] = Path("model.safetensors"),
    backbone: Backbone = "resnet50",
    weights: Weights = "DEFAULT",
    hash_kind: Hash = HashKind.ITQ,
    label: Label = None,
    bits: Bits = None,
    image_size: ImageSize = 224,
    small_stem: Annotated[bool, typer.Option("--small-stem", help="3x3 stem, no pooling: for tiny pictures.")] = False,
    stride_in_1x1: Annotated[
        bool, typer.Option("--stride-in-1x1", help="Stride on the 1x1 convolutions, as in the original ResNet.")
    ] = False,
    pooling: Annotated[Pooling, typer.Option(help="plain: mean(F*A); mean: no attention.")] = Pooling.ATTENTION,
    sample: Annotated[int, typer.Option(min=2, help="Images to fit on, at most.")] = 5_000,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    files_per_shard: FilesPerShard = 10_000,
    overwrite: Overwrite = False,
) -> None:
    """Fit a model without training: a backbone's stage features, and a hash function per level.

    Most read no labels. Where one does, a level that --label does not name goes by that of the class (level mid).

    Example: encoder fit 'train-*.tar' --weights resnet50.safetensors --bits 128 --image-size 160
    """
    from encoder.hashing.fit_model import FitSettings
    from encoder.images.classes import parse_label_map
    from encoder.images.expand import expand

    if exists(out) and not overwrite:
        raise HashgrainError(Reason.EXISTS, f"{out} exists; choose another file (--out), or replace it (--overwrite)")
    if label and not hash_kind.supervised:
        raise HashgrainError(
            Reason.BAD_VALUE, f"--label is read by --hash {SUPERVISED}, not by {hash_kind}; leave it out"
        )
    settings = FitSettings(
        backbone=BackboneSpec(backbone, small_stem, stride_in_1x1),
        weights=weights,
        kind=hash_kind,
        bits=parse_bits(bits),
        image_size=image_size,
        pooling=pooling,
        sample=sample,
        seed=seed,
        labels=parse_label_map(label) if label else None,
    )
    found = expand(shards, files_per_shard)
    notice_unread(found.unread)
    _fit(found, settings, out)


@app.command(no_args_is_help=True)
def encode(
    shards: Shards,
    out: Annotated[str, typer.Option(help="Folder or URL of the code files, one per shard.")] = "codes",
    model: Annotated[
        Path | None,
        typer.Option(
            help="Model file. Without one: the copy in OUT, else one is fitted, or where no weights are given and none "
            "can be downloaded, the small one that comes with the program.",
            show_default=False,
        ),
    ] = None,
    backbone: Backbone = "resnet50",
    weights: Annotated[
        str | None,
        typer.Option(
            help="A .safetensors or .pth file, torchvision's name (IMAGENET1K_V2), or none.", show_default="DEFAULT"
        ),
    ] = None,
    hash_kind: Hash = HashKind.ITQ,
    bits: Bits = None,
    image_size: ImageSize = 224,
    levels: Annotated[
        str | None, typer.Option(help="Levels to code (fine,mid); later stages are left out.", show_default="all")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, help="Images the network sees at once.", show_default="32, on a GPU what its memory allows"
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads.", show_default="one per core")] = None,
    device: Annotated[
        str, typer.Option("--device", "--devices", help="auto, cpu, cuda, cuda:N; several (cuda:0,cuda:1) or all.")
    ] = "auto",
    precision: Annotated[Precision, typer.Option(help="Arithmetic of the network.")] = Precision.AUTO,
    profile: Annotated[
        Path | None, typer.Option(help="Write a trace of the run, for ui.perfetto.dev (JSON).", show_default=False)
    ] = None,
    skip_duplicates: Annotated[
        SkipDuplicates, typer.Option(help="Skip images whose bytes, or nearly whose fine code, came before.")
    ] = SkipDuplicates.NONE,
    near_radius: Annotated[int, typer.Option(min=0, help="Bits of the fine code that near ones may differ in.")] = 3,
    max_bad: Annotated[
        str, typer.Option(help="Rejects a run may have: a count (100) or a share (1%).", show_default="any")
    ] = "100%",
    max_bytes: Annotated[int, typer.Option(min=1, help="Largest image file, bytes.")] = 64 << 20,
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest image, pixels.")] = 89_478_485,
    labels: Annotated[
        Path | None,
        typer.Option(help="A table of labels, a row per image: .csv, .tsv, .parquet or .jsonl.", show_default=False),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="The column of --labels with the images' keys or file names.", show_default="key or file_name"
        ),
    ] = None,
    prefix_keys: Annotated[bool, typer.Option("--prefix-keys", help="Put SHARD/ before each key.")] = False,
    files_per_shard: FilesPerShard = 10_000,
    overwrite: Overwrite = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove the code files of shards that are no longer there.")
    ] = False,
    engine: Annotated[
        EncodeEngine, typer.Option(help="Who codes: this machine, or the machines of a Ray cluster (docs/CLUSTER.md).")
    ] = EncodeEngine.LOCAL,
    address: Annotated[
        str | None,
        typer.Option(
            help="Of the cluster (HOST:6379, auto, ray://HOST:10001).",
            show_default="RAY_ADDRESS, else a cluster of this machine",
        ),
    ] = None,
) -> None:
    """Encode shards: one code file each, what is done already is kept. The network options are for a model yet to fit.

    An image lies in label.folder, and in label.folder_1, folder_2, ... where folders are nested.

    Example: encoder encode 'train-{0000..0127}.tar' --model model.safetensors --out codes
    """
    from encoder.hashing.fit_model import FitSettings
    from encoder.images.expand import expand
    from encoder.images.limits import Limits
    from encoder.model.spec import MODEL_NAME
    from encoder.runtime.publish import make_folder
    from encoder.stream.job import encode as run_encode
    from encoder.stream.settings import EncodeSettings, MaxBad

    if address and engine is not EncodeEngine.RAY:
        raise typer.BadParameter(
            f"{address}: --address is that of a cluster; give --engine ray, too", param_hint="--address"
        )
    if key and labels is None:
        raise typer.BadParameter(f"{key}: --key names a column of a table; give --labels, too", param_hint="--key")
    settings = EncodeSettings(
        batch=batch,
        workers=workers,
        device=device,
        precision=precision,
        limits=Limits(max_bytes, max_pixels),
        max_bad=MaxBad.parse(max_bad),
        prefix_keys=prefix_keys,
        labels_table=labels,
        labels_key=key,
        overwrite=overwrite,
        levels=parse_levels(levels),
        skip=skip_duplicates,
        near_radius=near_radius,
        prune=prune,
        profile=profile,
        engine=engine,
        address=address,
    )
    found = expand(shards, files_per_shard)
    if model is None:
        if is_url(out):
            raise HashgrainError(Reason.BAD_VALUE, f"{out} is a URL, where no model is looked for; name one (--model)")
        model = Path(out) / MODEL_NAME
        if not exists(model):
            named = weights or "DEFAULT"
            notice(f"no model given and none in {out}: fitting one ({hash_kind} on {backbone}, weights {named})")
            make_folder(Path(out))
            fit_settings = FitSettings(
                BackboneSpec(backbone), weights=named, kind=hash_kind, bits=parse_bits(bits), image_size=image_size
            )
            model = _fit_or_builtin(found, fit_settings, model, may_fall_back=weights is None)
    with progress("encoding") as advance:
        report = run_encode(found, model, out, settings, lambda at: at.show(advance), notice)
    report.left_out.update(found.skipped)
    _print_report(report, out)
    notice_unread(found.unread)
    if report.damaged or found.unread:
        raise typer.Exit(EXIT_ERROR)
    if not report.rows:
        raise HashgrainError(
            Reason.TOO_MANY_BAD, f"no image has a code, of {report.seen:,} seen; the rejects of the code files say why"
        )


@app.command()
def inspect(
    codes: Annotated[list[Path] | None, typer.Argument(help="Code files or folders.", show_default="codes")] = None,
    rejects: Annotated[bool, typer.Option("--rejects", help="List every rejected image with its reason.")] = False,
    bad_labels: Annotated[
        bool, typer.Option("--bad-labels", help="List labels that could not be kept, the first 100 per shard, and why.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what code files hold: counts, levels, labels, rejects by reason, health of the bits.

    Example: encoder inspect codes
    """
    from encoder.codes.file import list_code_files, open_codes
    from encoder.codes.summary import summarise

    files = list_code_files(codes or [Path("codes")])
    if rejects or bad_labels:
        for path in files:
            with open_codes(path) as file:
                shard = file.header.shard.path
                rows = [{"key": row.key, "reason": row.reject, "detail": row.detail} for row in file.rejects()]
                bad = [{"name": one.name, "why": one.why} for one in file.bad_labels()]
                for fields in rows * rejects + bad * bad_labels:
                    line = {"shard": shard, **fields}
                    result(json.dumps(line) if as_json else "\t".join(line.values()))
        return
    summary = summarise(files)
    if as_json:
        result(json.dumps(asdict(summary)))
    else:
        _print_summary(summary)


def _fit_or_builtin(shards: "Sequence[Shard]", settings: "FitSettings", out: Path, *, may_fall_back: bool) -> Path:
    """Fit a model, or take the built-in one where no weights can be had."""
    try:
        _fit(shards, settings, out)
    except HashgrainError as err:
        if err.reason is not Reason.WEIGHTS_UNAVAILABLE or not may_fall_back:
            raise
        notice(f"{err}; using the small model that comes with the program, which knows tiny pictures ({BUILTIN.name})")
        return BUILTIN
    return out


def _fit(shards: "Sequence[Shard]", settings: "FitSettings", out: Path) -> None:
    from encoder.hashing.fit_model import fit as run_fit

    with progress("fitting") as advance:
        report = run_fit(
            shards, settings, out, lambda done, total: advance(done, total, f"{done:,} of {total:,} images")
        )
    result(
        f"fitted {settings.kind} on {plural(report.images, 'image')} ({report.rejects:,} rejected); backbone "
        f"{settings.backbone.name}, weights {report.weights}; model {out}, fingerprint {report.fingerprint[:12]}"
    )
    notice_damage(report.damaged)


def _named(names: "Sequence[str]", most: int = 3) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _print_report(report: "EncodeReport", out: str) -> None:
    result(
        f"{plural(report.seen, 'image')} seen = {plural(report.rows, 'row')} + {plural(report.rejects.total(), 'reject')}, "
        f"in {plural(report.shards, 'shard')} ({report.skipped:,} already done); code files in {out}"
    )
    if report.encoded:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in report.shares().items())
        gpu = "" if report.gpu is None else f"; GPU {report.gpu:.0%} busy"
        result(
            f"  this run: {plural(report.encoded, 'image')} from shard to code file in {report.seconds:.1f} s, "
            f"{report.encoded / report.seconds:.1f} images/s, {report.bytes / report.seconds / 1e6:,.1f} MB/s of image files"
        )
        result(f"  time of {plural(report.threads, 'thread')}: {shares}{gpu}")
    if report.ways:
        result(f"  decoded {report.decoded()}")
    if report.taken:
        whose = "its code" if report.taken == 1 else "their codes"
        result(f"  {plural(report.taken, 'image')} had {whose} from an earlier run")
    for reject, count in report.rejects.most_common():
        result(f"  rejected {count:,}: {reject}")
    if report.left_out:
        result(f"  {counted(report.left_out)}")
    if report.dropped:
        notice(
            f"{plural(report.dropped, 'image')} had codes in {out} and no longer: gone, under another name, or rejected"
        )
    if report.removed:
        notice(f"removed {_named(report.removed)}: what was in them is in other code files, or gone")
    if report.gone:
        notice(
            f"{_named(report.gone)} in {out}: the shards of these code files are no longer there; an index would hold "
            "their images all the same (--prune removes them)"
        )
    if report.bad_labels:
        notice(
            f"{plural(report.bad_labels, 'label')} could not be kept as given: `encoder inspect {out} --bad-labels` says why"
        )
    notice_damage(report.damaged)


def _print_summary(summary: "CodesSummary") -> None:
    rejected = sum(summary.rejects.values())
    result(
        f"{plural(summary.seen, 'image')} seen = {plural(summary.rows, 'row')} + {plural(rejected, 'reject')}, "
        f"in {plural(summary.files, 'code file')}"
    )
    for reject, count in summary.rejects.items():
        result(f"  rejected {count:,}: {reject}")
    result(f"fingerprint {', '.join(print_[:12] for print_ in summary.fingerprints)}; {', '.join(summary.precisions)}")
    result("level    bits  ones of all bits  ones of the most lopsided bit  distinct codes per row")
    for level, health in summary.levels.items():
        result(
            f"{level:7} {health.nbits:5} {health.mean_balance:17.1%} {health.worst_balance:30.1%} {health.distinct:23.1%}"
        )
    for name, count in summary.labels.items():
        result(f"label {name} ({summary.label_kinds[name]}): {plural(count, 'row')}")
    if summary.bad_labels:
        result(f"labels that could not be kept: {summary.bad_labels:,}, see --bad-labels")
    for path in summary.sequential:
        result(f"hits are read back from the front of a compressed tar, or of a row group: {path}")
    for path, why in summary.damaged.items():
        result(f"damaged shard: {path}: {why}")


app.command(no_args_is_help=True)(train)


def main() -> None:
    """Run the `encoder` command."""
    run(app, "encoder", REMEDIES)
