"""The `indexer` command; what changes an index stands in `changes/cli.py`. Arguments in, one function call, lines out."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from encoder.errors import HashgrainError, Reason
from encoder.images.labels.values import text_of
from encoder.images.region import DEFAULT_MODE, Region, RegionMode
from encoder.levels import DEFAULT_BITS, parse_levels
from encoder.plural import plural
from encoder.runtime.console import notice, progress, result, run, show_version, standard_input
from indexer.changes.cli import COMMANDS, DEFAULT_CODES, DEFAULT_INDEX, INDEX, NOTICES, AsJson, IndexPath
from indexer.changes.cli import REMEDIES as CHANGES
from indexer.cutoffs import radius_for
from indexer.duplicates.cli import REMEDIES as DUPLICATES
from indexer.duplicates.cli import duplicates
from indexer.options import K, QueryOptions
from indexer.query import KEY_PREFIX, ByExamples, parse_query
from indexer.service.cli import REMEDIES as SERVE
from indexer.service.cli import serve
from indexer.settings import (
    BuildSettings,
    CalibrateSettings,
    Combine,
    Dedupe,
    Engine,
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
    from indexer.query import Answer, Asked
    from indexer.storage.manifest import LevelRecord

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

HowVerified = Annotated[
    Verify,
    typer.Option(
        "--verify", help="Which files are proven by their SHA-256 when first used: quick: up to 32 MiB; full: all."
    ),
]
OfRegion = Annotated[
    str | None,
    typer.Option("--region", help="Only this part of the picture: x,y,width,height as shares of it (0.5,0,0.25,0.4)."),
]
ByRegion = Annotated[
    RegionMode,
    typer.Option("--region-mode", help="See the region in its surroundings, or cut it out and encode it by itself."),
]
ModelPath = Annotated[Path | None, typer.Option("--model", help="Model file, instead of the index's own.")]
ImagesUnder = Annotated[
    list[Path] | None,
    typer.Option(
        "--images-under",
        help="Folder that pictures of rows may be read from; repeatable.",
        show_default="the shards of an index that you built",
    ),
]
AllowUrl = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-url", help="Scheme of URLs (https) that pictures may be read from; repeatable.", show_default=False
    ),
]
LABEL_WIDTH = 80
"""Characters of a label that a line shows."""
STDIN = "-"
CUTOFFS = (0.001, 0.01, 0.1)
"""Unrelated images per query whose radii are shown."""
RADIUS_CAP = 1000
"""Hits a query shows with --radius when -k does not say how many."""
QUERY = INDEX | {Reason.LEVEL_UNKNOWN: "--level", Reason.MODEL_INVALID: "--model", Reason.MODEL_MISMATCH: "--model"}
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
        "query": QUERY | {Reason.LEVEL_UNKNOWN: "--level, --levels"},
        "explain": QUERY,
        "calibrate": INDEX | {Reason.LEVEL_UNKNOWN: "--levels"},
        "tune": INDEX | {Reason.LEVEL_UNKNOWN: "--levels"},
        "info": INDEX,
        "relocate": INDEX,
        "verify": INDEX,
    }
    | CHANGES
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
    codes: Annotated[list[Path] | None, typer.Argument(help="Code files or folders.", show_default="codes")] = None,
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
    from encoder.codes.file import list_code_files
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
    with progress("building") as advance:
        report = run_build(
            list_code_files(codes or [DEFAULT_CODES]), out, settings, lambda share, what: advance(share, 1.0, what)
        )
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


@app.command(no_args_is_help=True)
def query(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="Image files, key:KEY, or - for image bytes on stdin.", show_default=False),
    ] = None,
    index: IndexPath = DEFAULT_INDEX,
    level: Annotated[
        str | None, typer.Option(help="fine, mid, coarse or fused.", show_default="fused, or the only one")
    ] = None,
    k: Annotated[int | None, typer.Option("-k", min=1, help="Most hits per query.", show_default="10")] = None,
    radius: Annotated[int | None, typer.Option(min=0, help="Largest distance in bits, inclusive.")] = None,
    max_false: Annotated[
        float | None,
        typer.Option(help="Nothing farther than unrelated images come so often per query (0.01), as measured."),
    ] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(
            help="Key of an image to be more like, beside the queries or instead; repeatable.", show_default=False
        ),
    ] = None,
    dislike: Annotated[
        list[str] | None, typer.Option(help="Key of an image to be less like; repeatable.", show_default=False)
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="Only rows that pass, e.g. 'label.fine in (3, 7) and shard ~ \"train-*\"'.")
    ] = None,
    levels: Annotated[str | None, typer.Option(help="Search several levels (coarse,mid,fine) instead of one.")] = None,
    how: Annotated[Combine, typer.Option("--combine", help="How --levels become one order.")] = Combine.CASCADE,
    weights: Annotated[
        str | None, typer.Option(help="Weight of each of --levels, for sum and rrf (1,2,4).", show_default="1 each")
    ] = None,
    budgets: Annotated[
        str | None, typer.Option(help="Rows each level of a cascade but the last leaves over (1000,100).")
    ] = None,
    radii: Annotated[
        str | None, typer.Option(help="Largest distance at each level of a cascade (8,20,24): all within are found.")
    ] = None,
    rerank: Annotated[
        int | None, typer.Option(min=1, help="Order the nearest so many by how sure the query is of each bit.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show the distance at every level.")] = False,
    exclude_self: Annotated[
        bool | None,
        typer.Option(
            "--exclude-self/--include-self", help="Whether key:KEY leaves itself out.", show_default="only on a page"
        ),
    ] = None,
    nprobe: Annotated[int | None, typer.Option(min=1, help="Inverted lists to probe.")] = None,
    recall: Annotated[
        float | None,
        typer.Option(help="Share of the nearest to find (0.95), as `indexer tune` measured it for up to its k."),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare every code, also where there is an IVF.")] = False,
    engine: Annotated[
        Engine, typer.Option(help="faiss, our own scan, or whichever is quicker; they find the same.")
    ] = Engine.AUTO,
    region: OfRegion = None,
    region_mode: ByRegion = DEFAULT_MODE,
    model: ModelPath = None,
    how_verified: HowVerified = Verify.QUICK,
    as_json: AsJson = False,
    save_html: Annotated[
        Path | None, typer.Option(help="Write a page of the queries and hits with their pictures.")
    ] = None,
    match: Annotated[
        list[str] | None,
        typer.Option(
            help="Label that marks hits on the page when it is the query's too (label.fine); repeatable.",
            show_default="labels that vary",
        ),
    ] = None,
    images_under: ImagesUnder = None,
    allow_url: AllowUrl = None,
) -> None:
    """Find the nearest images. Several queries are answered as one batch.

    Example: indexer query photo.jpg --level fine -k 5
    """
    from indexer.index import Index

    if save_html is None:
        _refuse({"--match": match}, "is for the page; give --save-html, too")
    if save_html is None and region is None:
        reading = {"--images-under": images_under, "--allow-url": allow_url}
        _refuse(reading, "is for pictures of rows; give --save-html or --region, too")
    if levels is None:
        _refuse({"--weights": weights, "--budgets": budgets, "--radii": radii}, "needs --levels")
    else:
        _refuse({"--rerank": rerank}, "orders the hits of one level; leave --levels out")
    cap = k or (K if radius is None else rerank or RADIUS_CAP)
    trust = Trust(how_verified, images_under, allow_url or ())
    opened = Index(index, model, notify=notice, trust=trust)
    options: QueryOptions = {
        "k": cap,
        "radius": radius,
        "max_false": max_false,
        "where": where,
        "nprobe": nprobe,
        "recall": recall,
        "exact": exact,
        "engine": engine,
        "explain": explain,
        "exclude_self": save_html is not None if exclude_self is None else exclude_self,
    }
    if levels is None:
        options |= {"level": level, "rerank": rerank}
    else:
        options |= {
            "levels": levels.split(","),
            "combine": how,
            "weights": _numbers("weights", weights),
            "budgets": _numbers("budgets", budgets),
            "radii": _numbers("radii", radii),
        }
    queries = _queries(what or [], _keys(like), _keys(dislike), region, region_mode)
    answers = opened.query_batch(queries, **options)
    for answer in answers:
        (_print_json if as_json else _print_answer)(answer, explain=explain)
    if k is None and radius is not None and any(len(hits) == cap for hits in answers):
        notice(f"only the nearest {cap:,} of a query are shown; say how many with -k")
    _name_unverified(opened)
    if save_html is not None:
        from indexer.page.page import SCORES, Result, save_page

        results = [Result(of, {answer.searched: answer}) for of, answer in zip(queries, answers, strict=True)]
        by = "examples" if like or dislike else "rerank" if rerank else how if levels else ""
        save_page(save_html, opened, results, match=_fields(match), score=SCORES.get(by, ""))
        notice(f"page written to {save_html}")


@app.command(no_args_is_help=True)
def explain(
    query: Annotated[str, typer.Argument(help="Image file, key:KEY, or - for image bytes on stdin.")],
    key: Annotated[str, typer.Argument(help="Key of the hit.")],
    index: IndexPath = DEFAULT_INDEX,
    level: Annotated[
        str | None, typer.Option(help="fine, mid, coarse or fused.", show_default="fused, or the only one")
    ] = None,
    region: OfRegion = None,
    region_mode: ByRegion = DEFAULT_MODE,
    model: ModelPath = None,
    how_verified: HowVerified = Verify.QUICK,
    save_html: Annotated[Path | None, typer.Option(help="Write a page of both pictures under their heat maps.")] = None,
    images_under: ImagesUnder = None,
    allow_url: AllowUrl = None,
) -> None:
    """Show what the bits rest on in which a query and a hit agree: which places of both pictures speak for them.

    Example: indexer explain photo.jpg cat/cat-01.jpg --level fused --save-html why.html
    """
    from indexer.explain import explain as run_explain
    from indexer.index import Index
    from indexer.page.heat import SIDE, area_of_half, combined, save_heat

    opened = Index(index, model, notify=notice, trust=Trust(how_verified, images_under, allow_url or ()))
    part = None if region is None else Region.parse(region)
    asked = parse_query(query, standard_input() if query == STDIN else None, part, region_mode)
    found = run_explain(opened, asked, key, level)
    result(f"{query} and {key} ({found.level}): {found.agreeing} of {found.bits} bits agree")
    for name, heat in (("query", found.query), ("hit", found.hit)):
        half = area_of_half(combined(heat, SIDE))
        result(f"  {name:5}  total {heat.total:.2f}, half of what speaks for them in {half:.0%} of the square")
    if save_html is not None:
        save_heat(save_html, opened, found, asked, key)
        notice(f"page written to {save_html}")


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
        result(f"{level}: {measured.sample:,} images asked for {measured.rows:,} rows, unrelated: {measured.how}")
        for often in CUTOFFS:
            radius = radius_for(measured, often, manifest.live)
            within = "not even equal codes" if radius is None else f"within {_bits(radius)}"
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


def _name_unverified(index: "Index") -> None:
    """Say which files an answer came from that were not proven."""
    if index.trust.verify is Verify.OFF:
        notice(f"{plural(len(index.unverified), 'file')} checked by size alone (--verify off)")


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
                f"{often:g}: {'none' if radius is None else _bits(radius)}"
                for often, radius in zip(CUTOFFS, radii, strict=True)
            )
            result(f"    cut-offs by unrelated images per query ({record.calibrated.how}): {shown}")


def _print_json(answer: "Answer", *, explain: bool) -> None:  # noqa: ARG001 - distances are in it anyhow
    for hit in answer:
        result(json.dumps(hit.as_dict()))
    if answer.nothing_similar:
        notice(f"{answer.query}: {_nothing_similar(answer)}")


def _print_answer(answer: "Answer", *, explain: bool) -> None:
    result(f"{answer.query} ({answer.searched})")
    if answer.survivors:
        result(f"  rows left over by each level: {', '.join(f'{count:,}' for count in answer.survivors)}")
    if not answer:
        result(f"  {_nothing_similar(answer) if answer.nothing_similar else 'nothing found'}")
    for hit in answer:
        labels = "  ".join(f"{name}={_short(text_of(value))}" for name, value in hit.labels.items())
        result(f"{hit.rank:4}  {hit.heading:>8}  {hit.key}  {labels}")
        if explain:
            result("      " + "  ".join(f"{level} {distance}" for level, distance in hit.distances.items()))


def _nothing_similar(answer: "Answer") -> str:
    """Say how near the nearest is, and how near chance comes."""
    if answer.cutoff is None or answer.nearest is None:
        return "nothing similar: there is nothing to compare with"
    often = f"{answer.cutoff.max_false:g} times per query"
    if answer.cutoff.radius < 0:
        return f"nothing similar: the nearest is {_bits(answer.nearest)} away, and even equal codes are chance more than {often}"
    return (
        f"nothing similar: the nearest is {_bits(answer.nearest)} away, unrelated images come within "
        f"{_bits(answer.cutoff.radius)} {often}"
    )


def _bits(count: int) -> str:
    return "1 bit" if count == 1 else f"{count} bits"


def _queries(
    what: list[str], like: tuple[str, ...], dislike: tuple[str, ...], region: str | None, mode: RegionMode | None
) -> "list[Asked]":
    """Return the queries of a command line: words, each refined by the examples, or these alone."""
    if not what and not like:
        raise typer.BadParameter("nothing to look for; give an image file, key:KEY, or --like KEY", param_hint="WHAT")
    stdin = standard_input() if STDIN in what else b""
    part = None if region is None else Region.parse(region)
    starts = [parse_query(text, stdin if text == STDIN else None, part, mode) for text in what]
    if not like and not dislike:
        return [*starts]
    return [ByExamples(like, dislike, start) for start in starts] or [ByExamples(like, dislike)]


def _keys(texts: list[str] | None) -> tuple[str, ...]:
    """Return keys, also of those that are written as queries are."""
    return tuple(text.removeprefix(KEY_PREFIX) for text in texts or ())


def _short(text: str) -> str:
    return text if len(text) <= LABEL_WIDTH else f"{text[: LABEL_WIDTH - 3]}..."


def _fields(match: list[str] | None) -> list[str]:
    return [name.strip() for text in match or [] for name in text.split(",")]


def _refuse(given: "Mapping[str, object]", why: str) -> None:
    for name, value in given.items():
        if value is not None:
            raise typer.BadParameter(f"{value}: {name} {why}", param_hint=name)


def _by_level(text: str | None, levels: "Iterable[Level]") -> "dict[Level, str]":
    """Return a label by level of FIELD, which is that of all, or LEVEL=FIELD with commas between."""
    from encoder.images.classes import parse_label_map

    fields = {} if text is None else parse_label_map(text)
    return fields if text is None or "=" in text else dict.fromkeys(levels, text.strip())


def _numbers(name: str, text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}; expected whole numbers with commas between them", param_hint=f"--{name}"
        ) from None


for command in (*COMMANDS, duplicates, serve):
    app.command(
        command.__name__.strip("_"),
        no_args_is_help=command.__name__ in {"remove", "rollback", "import_", "export"},
        context_settings={"ignore_unknown_options": command.__name__ == "rollback"},  # -1 is a number there
    )(command)


def main() -> None:
    """Run the `indexer` command."""
    run(app, "indexer", REMEDIES)
