"""The commands that ask an index: `indexer query`, `indexer explain`. Arguments in, one function call, lines out."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from encoder.errors import Reason
from encoder.images.labels.values import text_of
from encoder.images.region import DEFAULT_MODE, Region, RegionMode
from encoder.plural import plural
from encoder.runtime.console import notice, result, standard_input
from indexer.common_cli import (
    DEFAULT_INDEX,
    INDEX,
    AllowUrl,
    AsJson,
    HowVerified,
    ImagesUnder,
    IndexPath,
    ModelPath,
    read_token,
)
from indexer.options import K, QueryOptions
from indexer.query import KEY_PREFIX, ByExamples, parse_query
from indexer.settings import Combine, Engine, Trust, Verify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from indexer.index import Index
    from indexer.query import Answer, Asked

OfRegion = Annotated[
    str | None,
    typer.Option("--region", help="Only this part of the picture: x,y,width,height as shares of it (0.5,0,0.25,0.4)."),
]
ByRegion = Annotated[
    RegionMode,
    typer.Option("--region-mode", help="See the region in its surroundings, or cut it out and encode it by itself."),
]
LABEL_WIDTH = 80
"""Characters of a label that a line shows."""
STDIN = "-"
RADIUS_CAP = 1000
"""Hits a query shows with --radius when -k does not say how many."""
QUERY = INDEX | {Reason.LEVEL_UNKNOWN: "--level", Reason.MODEL_INVALID: "--model", Reason.MODEL_MISMATCH: "--model"}
REMEDIES = {"query": QUERY | {Reason.LEVEL_UNKNOWN: "--level, --levels"}, "explain": QUERY}
"""What an error's remedy is called on the command line."""


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
    url: Annotated[
        str | None, typer.Option(help="Ask the service there (indexer serve), instead of an index.", show_default=False)
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token of the service.", show_default=False)
    ] = None,
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
    if url is None:
        _refuse({"--token-file": token_file}, "is for a service; give --url, too")
    else:
        _refuse({"--save-html": save_html, "--model": model}, "is for an index at hand; leave --url out")
    if levels is None:
        _refuse({"--weights": weights, "--budgets": budgets, "--radii": radii}, "needs --levels")
    else:
        _refuse({"--rerank": rerank}, "orders the hits of one level; leave --levels out")
    cap = k or (K if radius is None else rerank or RADIUS_CAP)
    trust = Trust(how_verified, images_under, allow_url or ())
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
    opened = None if url is not None else Index(index, model, notify=notice, trust=trust)
    answers = (
        _ask(url or "", token_file, queries, options) if opened is None else opened.query_batch(queries, **options)
    )
    for answer in answers:
        (_print_json if as_json else _print_answer)(answer, explain=explain)
    if k is None and radius is not None and any(len(hits) == cap for hits in answers):
        notice(f"only the nearest {cap:,} of a query are shown; say how many with -k")
    if opened is not None:
        name_unverified(opened)
        by = "examples" if like or dislike else "rerank" if rerank else how if levels else ""
        _save_page(save_html, opened, list(zip(queries, answers, strict=True)), _fields(match), by)


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


def name_unverified(index: "Index") -> None:
    """Say which files an answer came from that were not proven."""
    if index.trust.verify is Verify.OFF:
        notice(f"{plural(len(index.unverified), 'file')} checked by size alone (--verify off)")


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
    nearest = f"nothing similar: the nearest is {plural(answer.nearest, 'bit')} away"
    often = f"{answer.cutoff.max_false:g} times per query"
    if answer.cutoff.radius < 0:
        return f"{nearest}, and even equal codes are chance more than {often}"
    return f"{nearest}, unrelated images come within {plural(answer.cutoff.radius, 'bit')} {often}"


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


def _ask(url: str, token_file: Path | None, queries: "list[Asked]", options: QueryOptions) -> "list[Answer]":
    """Have a service answer; it may want a token, which is in a file."""
    from indexer.client import Client

    with Client(url, None if token_file is None else read_token(token_file)) as client:
        return client.query_batch(queries, **options)


def _save_page(
    path: Path | None, index: "Index", asked: "list[tuple[Asked, Answer]]", match: list[str], scored: str
) -> None:
    """Write the page of queries and hits, where one is wanted."""
    if path is None:
        return
    from indexer.page.page import SCORES, Result, save_page

    results = [Result(of, {answer.searched: answer}) for of, answer in asked]
    save_page(path, index, results, match=match, score=SCORES.get(scored, ""))
    notice(f"page written to {path}")


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


def _numbers(name: str, text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}; expected whole numbers with commas between them", param_hint=f"--{name}"
        ) from None


QUERIES = (query, explain)
