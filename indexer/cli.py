"""The `indexer` command; other commands stand in the `cli.py` of their rooms. Arguments in, one function call, lines out."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from encoder.errors import HashgrainError, Reason
from encoder.levels import DEFAULT_BITS, parse_levels
from encoder.plural import plural
from encoder.runtime.console import notice, progress, result, run, show_version
from indexer.changes.cli import COMMANDS as CHANGES
from indexer.changes.cli import REMEDIES as OF_CHANGES
from indexer.changes.exchange_cli import COMMANDS as EXCHANGES
from indexer.changes.exchange_cli import REMEDIES as OF_EXCHANGES
from indexer.common_cli import DEFAULT_CODES, DEFAULT_INDEX, INDEX, NOTICES, AsJson, HowVerified, IndexPath
from indexer.cutoffs import radius_for
from indexer.duplicates.cli import REMEDIES as DUPLICATES
from indexer.duplicates.cli import duplicates
from indexer.options import K
from indexer.query_cli import QUERIES
from indexer.query_cli import REMEDIES as QUERY
from indexer.service.cli import REMEDIES as SERVE
from indexer.service.cli import serve
from indexer.settings import (
    BuildSettings,
    CalibrateSettings,
    Dedupe,
    IndexKind,
    OnDuplicate,
    Trust,
    TuneSettings,
    Verify,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from encoder.levels import Level
    from indexer.index import Index
    from indexer.storage.manifest import LevelRecord

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

CUTOFFS = (0.001, 0.01, 0.1)
"""Unrelated images per query whose radii are shown."""
REMEDIES = (
    {
        "build": {
            Reason.CODES_MISMATCH: "encoder encode SHARDS --out CODES --overwrite",
            Reason.CODES_MISSING: "encoder encode SHARDS --out CODES",
            Reason.DUPLICATE_KEYS: "--on-duplicate first, encoder encode --prefix-keys",
            Reason.EXISTS: "--out, --overwrite",
            Reason.LEVEL_UNKNOWN: "--levels",
            Reason.SHARD_DAMAGED: "--allow-damaged",
        },
        "calibrate": INDEX | {Reason.LEVEL_UNKNOWN: "--levels"},
        "tune": INDEX | {Reason.LEVEL_UNKNOWN: "--levels"},
        "info": INDEX,
        "relocate": INDEX,
        "verify": INDEX,
    }
    | OF_CHANGES
    | OF_EXCHANGES
    | QUERY
    | DUPLICATES
    | SERVE
)
"""What an error's remedy is called on the command line: the library speaks of settings, not of flags."""


@app.callback()
def main_help(
    _: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Build Hamming-search indexes from code files, and search them."""


@app.command()
def build(
    codes: Annotated[
        list[str] | None, typer.Argument(help="Code files, or folders or URLs of them.", show_default="codes")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the index.")] = DEFAULT_INDEX,
    kind: Annotated[IndexKind, typer.Option(help="auto: flat below a million rows, else ivf.")] = IndexKind.AUTO,
    levels: Annotated[str | None, typer.Option(help="Levels to build (fine,fused).", show_default="all")] = None,
    nlist: Annotated[int | None, typer.Option(min=1, help="Inverted lists.", show_default="about sqrt(rows)")] = None,
    dedupe: Annotated[
        Dedupe, typer.Option(help="Store a code that many rows have once; auto: where that halves the search.")
    ] = Dedupe.AUTO,
    on_duplicate: Annotated[OnDuplicate, typer.Option(help="What to do with repeated keys.")] = OnDuplicate.ERROR,
    allow_damaged: Annotated[
        bool, typer.Option("--allow-damaged", help="Take what was readable of damaged shards.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the index that is there.")] = False,
) -> None:
    """Build an index from code files, one FAISS binary index per level.

    Example: indexer build codes --out index --kind ivf
    """
    from encoder.codes.store import code_files_at
    from encoder.model.spec import MODEL_NAME
    from indexer.build import build as run_build

    settings = BuildSettings(
        kind=kind,
        levels=parse_levels(levels),
        nlist=nlist,
        dedupe=dedupe,
        on_duplicate=on_duplicate,
        allow_damaged=allow_damaged,
        overwrite=overwrite,
    )
    with progress("building") as advance, code_files_at(codes or [str(DEFAULT_CODES)], MODEL_NAME) as files:
        report = run_build(files, out, settings, lambda share, what: advance(share, 1.0, what))
    result(f"built {out} ({report.generation}): {plural(report.rows, 'row')}, {report.bytes / 1e6:,.1f} MB")
    _print_levels(report.levels)
    if report.duplicates:
        other = "a later" if on_duplicate is OnDuplicate.REPLACE else "an earlier"
        notice(f"{plural(report.duplicates, 'row')} left out: {other} row has the key")
    for line in report.notices[:NOTICES]:
        notice(line)
    if (more := len(report.notices) - NOTICES) > 0:
        notice(f"{plural(more, 'more label')} of several kinds")
    for line in report.missing:
        notice(f"{line} (encoder encode --prune, indexer sync)")
    if not report.has_model:
        notice("no model stood beside the code files: image queries will need --model")


@app.command()
def tune(
    index: IndexPath = DEFAULT_INDEX,
    recall: Annotated[float, typer.Option(help="Share of the k nearest that is to be found.")] = 0.95,
    k: Annotated[int, typer.Option("-k", min=1, help="How many nearest.")] = K,
    levels: Annotated[str | None, typer.Option(help="Levels to tune (fine,fused).", show_default="all")] = None,
    nlist: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Numbers of lists to try beside the one there is.", show_default=False),
    ] = None,
    queries: Annotated[
        list[Path] | None,
        typer.Option(help="Code files whose rows are the queries.", show_default="rows of the index, held out"),
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="Most queries.")] = 1000,
    plot: Annotated[Path | None, typer.Option(help="Draw recall by time (.svg or .png).")] = None,
) -> None:
    """Measure how many inverted lists to probe for a recall, and keep it: `indexer query --recall` then needs no nprobe.

    Example: indexer tune --recall 0.95 --nlist 1024 --nlist 4096 --plot tune.svg
    """
    from indexer.index import Index
    from indexer.tune import read_queries
    from indexer.tune import tune as run_tune

    manifest = Index(index).manifest
    chosen = parse_levels(levels) or tuple(manifest.bits)
    settings = TuneSettings(recall, k, chosen, tuple(nlist or ()), sample)
    with progress("tuning") as advance:
        curves = run_tune(
            index, settings, read_queries(queries or [], manifest), lambda share, what: advance(share, 1.0, what)
        )
    for curve in curves:
        result(f"{curve.level}, {plural(curve.nlist, 'list')}: recall@{k} by lists probed")
        for point in curve.points:
            probed = "every code" if point.nprobe is None else f"{point.nprobe:,}"
            mark = "  <- chosen" if point is curve.chosen else ""
            result(f"  {probed:>10}  {point.recall:.4f}  {point.milliseconds:.4f} ms per query{mark}")
    if plot is not None:
        from encoder.evaluation.plots import Curve, save_recall_by_time

        lines = [
            Curve(
                f"{curve.level}, {plural(curve.nlist, 'list')}",
                *zip(*[(p.milliseconds, p.recall) for p in curve.points], strict=True),
            )
            for curve in curves
        ]
        save_recall_by_time(plot, lines, f"Recall@{k} by time")
        notice(f"plot written to {plot}")


@app.command()
def calibrate(
    index: IndexPath = DEFAULT_INDEX,
    levels: Annotated[str | None, typer.Option(help="Levels to measure (fine,fused).", show_default="all")] = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="Label whose values tell unrelated images apart: FIELD, or by level fine=FIELD,fused=FIELD.",
            show_default="none: by what chance leaves over",
        ),
    ] = None,
    elsewhere: Annotated[
        list[Path] | None,
        typer.Option(
            help="Code files of images that have nothing to do with the index, by its model: they ask.",
            show_default="rows of the index",
        ),
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="Most images that ask.")] = 1000,
) -> None:
    """Measure how near unrelated images come by chance, and keep it: `indexer query --max-false` then says when nothing is similar.

    Example: indexer calibrate --index index --label fused=label.class
    """
    from indexer.calibrate import calibrate as run_calibrate
    from indexer.index import Index
    from indexer.tune import read_queries

    manifest = Index(index).manifest
    settings = CalibrateSettings(parse_levels(levels), _by_level(label, manifest.bits), sample)
    with progress("calibrating") as advance:
        codes = read_queries(elsewhere or [], manifest)
        found = run_calibrate(index, settings, codes, lambda share, what: advance(share, 1.0, what))
    for level, measured in found.items():
        result(
            f"{level}: {plural(measured.sample, 'image')} asked for {plural(measured.rows, 'row')}, unrelated: {measured.how}"
        )
        for often in CUTOFFS:
            radius = radius_for(measured, often, manifest.live)
            within = "not even equal codes" if radius is None else f"within {plural(radius, 'bit')}"
            right = (
                f", {measured.precision[radius]:.0%} of what is there is related"
                if radius is not None and measured.precision
                else ""
            )
            result(f"  {often:g} per query: {within}{right}")


@app.command()
def info(index: IndexPath = DEFAULT_INDEX, how_verified: HowVerified = Verify.QUICK, as_json: AsJson = False) -> None:
    """Show what an index holds.

    Example: indexer info --index index
    """
    from indexer.changes.ageing import worn
    from indexer.index import Index
    from indexer.storage.digests import QUICK_BYTES

    opened = Index(index, trust=Trust(how_verified))
    manifest = opened.manifest
    if as_json:
        content = {
            "generation": opened.folder.name,
            "rows": manifest.rows,
            **asdict(manifest),
            "engine": _engine(opened),
        }
        result(json.dumps(content))
        return
    size = sum(size for size, _ in manifest.files.values())
    result(
        f"{index} ({opened.folder.name}): {plural(manifest.rows, 'row')}, {size / 1e6:,.1f} MB, "
        f"fingerprint {manifest.fingerprint[:12]}"
    )
    for segment in manifest.segments:
        result(f"{segment.name}: {plural(segment.rows, 'row')} from {plural(len(segment.shards), 'shard')}")
        _print_levels(segment.levels, manifest.live)
        if segment.labels:
            result(f"  labels: {', '.join(f'{field.name} ({field.kind})' for field in segment.labels)}")
    for level, reason in worn(manifest).items():
        result(f"lists of {level} are worn ({reason}); indexer compact trains them anew")
    result(f"model: {manifest.model or 'none; image queries need --model'}")
    result(f"engine: {_engine(opened)}")
    large = [size for size, _ in manifest.files.values() if size > QUICK_BYTES]
    if large and how_verified is not Verify.FULL:
        result(
            f"{plural(len(large), 'file')} of {sum(large) / 1e9:,.1f} GB checked by size when used, all others by "
            "SHA-256; indexer verify reads every byte, --verify full at each use"
        )


@app.command()
def warm(
    bits: Annotated[
        list[int] | None,
        typer.Option(min=8, help="Bits of a code; repeatable.", show_default="those of the default levels, 64 and 128"),
    ] = None,
) -> None:
    """Compile the scan for this machine and keep it, so that no process has to: in a container's image, too.

    It goes to the folder that NUMBA_CACHE_DIR names, else beside the program, else to the user's cache.

    Example: indexer warm --bits 64 --bits 128
    """
    from indexer.engines.scan.kits import compile_kit, folder_of_kernels, kits_for

    if (folder := folder_of_kernels()) is None:
        raise HashgrainError(
            Reason.WRITE_FAILED,
            "compiled kernels cannot be kept on disk; name a folder that can be written in NUMBA_CACHE_DIR",
        )
    kits = kits_for(bits or DEFAULT_BITS.values())
    with progress("compiling") as advance:
        for at, kit in enumerate(kits):
            advance(at, len(kits), str(kit))
            compile_kit(kit)
        advance(len(kits), len(kits), "")
    result(f"the scan is compiled and kept in {folder}")


@app.command(no_args_is_help=True)
def relocate(
    moves: Annotated[list[str], typer.Argument(help="OLD=NEW, paths or URLs; repeatable.", show_default=False)],
    index: IndexPath = DEFAULT_INDEX,
) -> None:
    """Say where shards are that have moved, so that the pictures of hits are found again.

    Shards beside the index, which moved together with it, are found without it.

    Example: indexer relocate /old/photos=/new/photos
    """
    from indexer.relocate import Move
    from indexer.relocate import relocate as run_relocate

    report = run_relocate(index, [Move.parse(move) for move in moves])
    result(f"{plural(report.moved, 'shard')} of {index} with a new place")
    for path in report.missing[:3]:
        notice(f"{path} is not there")
    if more := len(report.missing[3:]):
        notice(f"nor {plural(more, 'other')}")


@app.command()
def verify(index: IndexPath = DEFAULT_INDEX) -> None:
    """Check every digest and every count of an index.

    Example: indexer verify --index index
    """
    from indexer.verify import verify as run_verify

    with progress("verifying") as advance:
        opened = run_verify(index, advance)
    result(
        f"{index} ({opened.folder.name}) is whole: {plural(opened.ntotal, 'row')}, {plural(len(opened.manifest.files), 'file')}"
    )


def _engine(index: "Index") -> str:
    """Say which engine answers a query now, and why."""
    from indexer.engines.scan.kits import load

    levels = [index.level(level) for level in index.manifest.bits]
    if all(load(kit) for kit in {level.kit(lists=lists) for level in levels for lists in {False, level.has_lists}}):
        return "faiss, and the scan, whose kernels are kept on disk, as soon as it is worth loading"
    return "faiss, and the scan when it is compiled, in the background (indexer warm does it once)"


def _print_levels(levels: "Mapping[Level, LevelRecord]", live: int | None = None) -> None:
    for level, record in levels.items():
        probed = (
            f"nprobe {record.nprobe}" if record.nprobe else "probed only on request: comparing every code is quicker"
        )
        lists = f", ivf of {plural(record.nlist or 0, 'list')} ({probed})" if record.ivf else ""
        shared = ", rows share codes" if record.postings else ""
        result(f"  {level}: {record.nbits} bits, flat{shared}{lists}")
        if record.calibrated is not None and live is not None:
            radii = [radius_for(record.calibrated, often, live) for often in CUTOFFS]
            shown = ", ".join(
                f"{often:g}: {'none' if radius is None else plural(radius, 'bit')}"
                for often, radius in zip(CUTOFFS, radii, strict=True)
            )
            result(f"    cut-offs by unrelated images per query ({record.calibrated.how}): {shown}")


def _by_level(text: str | None, levels: "Iterable[Level]") -> "dict[Level, str]":
    """Return a label by level of FIELD, which is that of all, or LEVEL=FIELD with commas between."""
    from encoder.images.classes import parse_label_map

    fields = {} if text is None else parse_label_map(text)
    return fields if text is None or "=" in text else dict.fromkeys(levels, text.strip())


for command in (*QUERIES, *CHANGES, *EXCHANGES, duplicates, serve):
    app.command(
        command.__name__.strip("_"),
        no_args_is_help=command.__name__ in {"query", "explain", "remove", "rollback", "import_", "export"},
        context_settings={"ignore_unknown_options": command.__name__ == "rollback"},  # -1 is a number there
    )(command)


def main() -> None:
    """Run the `indexer` command."""
    run(app, "indexer", REMEDIES)
