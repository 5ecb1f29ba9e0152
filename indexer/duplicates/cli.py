"""`indexer duplicates`. Arguments in, one function call, lines out."""

from pathlib import Path
from typing import Annotated, Final

import typer

from encoder.errors import Reason
from encoder.levels import Level
from encoder.plural import plural
from encoder.runtime.console import notice, progress, result
from indexer.common_cli import DEFAULT_INDEX, INDEX, AllowUrl, AsJson, ImagesUnder, IndexPath

SHOWN: Final = 10
"""Groups that the command shows."""
REMEDIES: Final = {"duplicates": INDEX | {Reason.LEVEL_UNKNOWN: "--level"}}


def duplicates(
    index: IndexPath = DEFAULT_INDEX,
    level: Annotated[Level, typer.Option(help="Which code is compared.")] = Level.FINE,
    radius: Annotated[
        int | None, typer.Option(min=0, help="Most bits between two near-duplicates.", show_default="1 in 32")
    ] = None,
    where: Annotated[str | None, typer.Option(help="Compare only rows that pass, e.g. 'label.fine = 3'.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Every picture of a group is within the radius of its first one.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="File of all groups: .jsonl or .parquet.")] = None,
    save_html: Annotated[Path | None, typer.Option(help="Page to look through and to mark what is dropped.")] = None,
    images_under: ImagesUnder = None,
    allow_url: AllowUrl = None,
    as_json: AsJson = False,
) -> None:
    """Find all near-duplicates of an index: groups of pictures whose codes differ in a few bits.

    Example: indexer duplicates --level fine --radius 2 --save-html duplicates.html
    """
    from indexer.duplicates.files import check_suffix, json_lines, save_groups
    from indexer.duplicates.groups import DuplicateSettings, find_duplicates
    from indexer.duplicates.review import save_review
    from indexer.settings import Trust
    from indexer.snapshot import Snapshot

    if out is not None:
        check_suffix(out)
    opened = Snapshot(index, trust=Trust(images_under=images_under, allow_url=allow_url or ()))
    opened.check_level(level)
    if radius is None:
        radius = opened.manifest.bits[level] // 32
    settings = DuplicateSettings(level, radius, where, strict)
    with progress("comparing") as advance:
        found = find_duplicates(opened, settings, lambda share: advance(share, 1.0, ""))
    if out is not None:
        save_groups(out, opened, found)
        notice(f"{out}: {plural(len(found.groups), 'group')}")
    if save_html is not None:
        with progress("reading pictures") as advance:
            shown = save_review(save_html, opened, found, settings, lambda share: advance(share, 1.0, ""))
        notice(f"{save_html}: {plural(shown, 'group')}; its marks are for indexer remove --from-file marks.jsonl")
    if as_json:
        for line in json_lines(opened, found):
            result(line)
        return
    result(
        f"{plural(found.rows, 'row')} of {index} ({opened.generation}), within {plural(radius, 'bit')} at {level}: "
        f"{plural(len(found.groups), 'group')}, {plural(found.extra, 'row')} more than one of each"
    )
    for group in found.groups[:SHOWN]:
        farthest = int(group.distances.max())
        result(f"{len(group.rows):6,}  {plural(farthest, 'bit'):>8}  {opened.key(int(group.rows[0]))}")
    if (more := len(found.groups) - SHOWN) > 0:
        result(f"and {plural(more, 'smaller group')}: --json, --out, --save-html")
