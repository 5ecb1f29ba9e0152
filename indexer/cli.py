"""The `indexer` command: build, query, info, verify. Arguments in, one function call, lines out."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from encoder.console import notice, progress, result, run, show_version
from encoder.levels import parse_level, parse_levels
from indexer.config import BuildSettings, IndexKind, OnDuplicate, SearchSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from encoder.levels import Level
    from indexer.manifest import LevelRecord
    from indexer.query import Hit

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

DEFAULT_CODES, DEFAULT_INDEX = Path("codes"), Path("index")
IndexPath = Annotated[Path, typer.Option("--index", help="Folder of the index.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]

K = 10
RADIUS_CAP = 1000
"""Hits a query shows with --radius when -k does not say how many."""


@app.callback()
def main_help(
    _: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Build Hamming-search indexes from code files, and ask them."""


@app.command()
def build(
    codes: Annotated[list[Path] | None, typer.Argument(help="Code files or folders.", show_default="codes")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the index.")] = DEFAULT_INDEX,
    kind: Annotated[IndexKind, typer.Option(help="auto: flat below a million rows, else ivf.")] = IndexKind.AUTO,
    levels: Annotated[str | None, typer.Option(help="Levels to build (fine,fused).", show_default="all")] = None,
    nlist: Annotated[int | None, typer.Option(min=1, help="Inverted lists.", show_default="about sqrt(rows)")] = None,
    on_duplicate: Annotated[OnDuplicate, typer.Option(help="What to do with repeated keys.")] = OnDuplicate.ERROR,
    allow_damaged: Annotated[
        bool, typer.Option("--allow-damaged", help="Take what was readable of damaged shards.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the index that is there.")] = False,
) -> None:
    """Build an index from code files, one FAISS binary index a level.

    Example: indexer build codes --out index --kind ivf
    """
    from encoder.codefile import list_code_files
    from indexer.build import build as run_build

    settings = BuildSettings(
        kind=kind,
        levels=parse_levels(levels),
        nlist=nlist,
        on_duplicate=on_duplicate,
        allow_damaged=allow_damaged,
        overwrite=overwrite,
    )
    with progress("building") as advance:
        report = run_build(
            list_code_files(codes or [DEFAULT_CODES]), out, settings, lambda share, what: advance(share, 1.0, what)
        )
    result(f"built {out} ({report.generation}): {report.rows:,} rows, {report.bytes / 1e6:,.1f} MB")
    _print_levels(report.levels)
    if report.duplicates:
        notice(f"{report.duplicates:,} rows left out: an earlier row has their key")
    if not report.has_model:
        notice("no model stood beside the code files: image queries will need --model")


@app.command(no_args_is_help=True)
def query(
    what: Annotated[
        list[str], typer.Argument(help="Image files, key:KEY, or - for image bytes on stdin.", show_default=False)
    ],
    index: IndexPath = DEFAULT_INDEX,
    level: Annotated[str, typer.Option(help="fine, mid, coarse or fused.")] = "fused",
    k: Annotated[int | None, typer.Option("-k", min=1, help="Most hits a query.", show_default="10")] = None,
    radius: Annotated[int | None, typer.Option(min=0, help="Largest distance in bits, inclusive.")] = None,
    nprobe: Annotated[int | None, typer.Option(min=1, help="Inverted lists to look into.")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Look at every code, also where there is an IVF.")] = False,
    model: Annotated[Path | None, typer.Option(help="Model file, instead of the index's own.")] = None,
    as_json: AsJson = False,
    save_html: Annotated[
        Path | None, typer.Option(help="Write a page of the queries and hits with their pictures.")
    ] = None,
) -> None:
    """Find the nearest images. Several queries are answered as one batch.

    Example: indexer query photo.jpg --level fine -k 5
    """
    from indexer.index import Index
    from indexer.query import STDIN, ask

    cap = k or (K if radius is None else RADIUS_CAP)
    opened = Index(index)
    settings = SearchSettings(k=cap, radius=radius, nprobe=nprobe, exact=exact)
    given = {STDIN: sys.stdin.buffer.read()} if STDIN in what else {}
    answers = ask(opened, what, parse_level(level), settings, model, given)
    for hits in answers:
        _print_hits(hits, as_json=as_json)
    if k is None and radius is not None and any(len(hits) == cap for hits in answers):
        notice(f"only the nearest {cap:,} hits of a query are shown; say how many with -k")
    if save_html is not None:
        from indexer.page import Known, Section, save_page

        known = {name: Known(image) for name, image in given.items()}
        section = Section(f"level {level}", "", answers)
        save_page(
            save_html, opened, [section], title="Queries and hits", summary=f"{opened.rows:,} images", known=known
        )
        notice(f"page written to {save_html}")


@app.command()
def info(index: IndexPath = DEFAULT_INDEX, as_json: AsJson = False) -> None:
    """Show what an index holds.

    Example: indexer info --index index
    """
    from indexer.index import Index

    opened = Index(index)
    manifest = opened.manifest
    if as_json:
        result(json.dumps({"generation": opened.folder.name, "rows": manifest.rows, **asdict(manifest)}))
        return
    size = sum(size for size, _ in manifest.files.values())
    result(
        f"{index} ({opened.folder.name}): {manifest.rows:,} rows, {size / 1e6:,.1f} MB, fingerprint {manifest.fingerprint[:12]}"
    )
    for segment in manifest.segments:
        result(f"{segment.name}: {segment.rows:,} rows from {len(segment.shards):,} shards")
        _print_levels(segment.levels)
        if segment.labels:
            result(f"  labels: {', '.join(field.name for field in segment.labels)}")
    result(f"model: {manifest.model or 'none; image queries need --model'}")


@app.command()
def verify(index: IndexPath = DEFAULT_INDEX) -> None:
    """Check every digest and every count of an index.

    Example: indexer verify --index index
    """
    from indexer.verifying import verify as run_verify

    with progress("verifying") as advance:
        opened = run_verify(index, advance)
    result(f"{index} ({opened.folder.name}) is whole: {opened.rows:,} rows, {len(opened.manifest.files):,} files")


def _print_levels(levels: "Mapping[Level, LevelRecord]") -> None:
    for level, record in levels.items():
        lists = f", ivf of {record.nlist:,} lists (nprobe {record.nprobe})" if record.ivf else ""
        result(f"  {level}: {record.nbits} bits, flat{lists}")


def _print_hits(hits: "list[Hit]", *, as_json: bool) -> None:
    if as_json:
        for hit in hits:
            result(json.dumps(asdict(hit)))
        return
    if not hits:
        result("  nothing found")
        return
    result(f"{hits[0].query} ({hits[0].level})")
    for hit in hits:
        labels = "  ".join(f"{name}={value}" for name, value in hit.labels.items())
        result(f"{hit.rank:4}  {hit.distance:4} bits  {hit.key}  {labels}")


def main() -> None:
    """Run the `indexer` command."""
    run(app, "indexer")
