"""The commands that take codes in from elsewhere, and hand them out. Arguments in, one function call, lines out."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from encoder.errors import Reason
from encoder.levels import Level, parse_levels
from encoder.plural import plural
from encoder.runtime.console import notice, progress, result
from indexer.changes.cli import Compact, first_of, join_what_is_due
from indexer.common_cli import DEFAULT_INDEX, INDEX, NOTICES, AsJson, IndexPath, Keep
from indexer.settings import (
    KEEP,
    BitOrder,
    ExportForm,
    IndexKind,
    OnDuplicate,
)

REMEDIES = {
    "import": {
        Reason.CODES_MISMATCH: "--model, --index",
        Reason.DUPLICATE_KEYS: "--on-duplicate, --keys",
        Reason.MODEL_INVALID: "--model",
    },
    "export": INDEX | {Reason.EXISTS: "--overwrite", Reason.LEVEL_UNKNOWN: "--levels"},
}
"""What an error's remedy is called on the command line."""


def import_(
    level: Annotated[
        list[str] | None,
        typer.Option(
            help="LEVEL=PATH, codes of a level (fine=codes.npy): .npy, .npz, Parquet or FAISS's plain binary index; repeatable. "
            "PATH#NAME is one array or column of several.",
            show_default=False,
        ),
    ] = None,
    npy: Annotated[
        str | None,
        typer.Option(help="PATH, in place of LEVEL=PATH: codes of the level that --level names.", show_default=False),
    ] = None,
    index: IndexPath = DEFAULT_INDEX,
    bit_order: Annotated[
        BitOrder | None,
        typer.Option(
            help="Which bit of a byte is the first, lowest (little) or highest (big).", show_default="FAISS's own"
        ),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(help="File with a key per line.", show_default="the table's, else row-000000000 and so on"),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Table of labels (.csv, .tsv, .parquet, .jsonl), whose rows are found by key.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Column of keys in the table.", show_default="key or file_name")
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(
            help="KEY=BITS or KEY=LEVEL:BITS, first bits of a code as you know them; repeatable.", show_default=False
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Model file that made the codes, so that photos can be queries.", show_default="none"),
    ] = None,
    kind: Annotated[
        IndexKind, typer.Option(help="Of a new index; auto: flat below a million rows, else ivf.")
    ] = IndexKind.AUTO,
    on_duplicate: Annotated[
        OnDuplicate, typer.Option(help="What to do with a key that is there already.")
    ] = OnDuplicate.REPLACE,
    compact: Compact = True,
    keep: Keep = KEEP,
    as_json: AsJson = False,
) -> None:
    """Add codes that were made elsewhere to an index, or make one of them; no image is needed.

    Example: indexer import --level fine=codes.npy --bit-order little --keys keys.txt --index index
    """
    from indexer.changes.imports import ImportRequest, import_codes

    request = ImportRequest(
        levels=_levels_of(level or [], npy),
        bit_order=bit_order,
        keys=keys,
        labels=labels,
        key_column=key,
        model=model,
        checks=check or (),
        kind=kind,
        on_duplicate=on_duplicate,
        compact=False,
        keep=keep,
    )
    with progress("importing") as advance:
        report = import_codes(index, request, lambda share, what: advance(share, 1.0, what))
    if as_json:
        result(json.dumps(asdict(report)))
    else:
        result(
            f"{plural(report.added, 'row')} imported into {index} ({report.generation}): {plural(report.rows, 'row')}"
        )
        for name, health in report.levels.items():
            result(
                f"  {name}: {health.nbits} bits, ones {health.mean_balance:.1%} (worst bit {health.worst_balance:.1%}), "
                f"{health.distinct:.1%} distinct codes"
            )
        if report.labels:
            result(f"  labels: {first_of(report.labels)}")
    if report.replaced:
        notice(f"{plural(report.replaced, 'earlier row')} replaced")
    if report.left_out:
        notice(f"{plural(report.left_out, 'row')} left out: another row has the key")
    if not report.checked and bit_order is not None:
        notice(f"bits were taken as {bit_order}, which no check has proven; --check KEY=BITS does")
    for line in report.notices[:NOTICES]:
        notice(line)
    join_what_is_due(index, keep, wanted=compact)


def export(
    out: Annotated[Path, typer.Argument(help="Folder to make.", show_default=False)],
    index: IndexPath = DEFAULT_INDEX,
    form: Annotated[
        ExportForm,
        typer.Option(
            help="npy: LEVEL.npy, keys.txt, labels.parquet; faiss: LEVEL.faiss instead; parquet: all in rows.parquet."
        ),
    ] = ExportForm.NPY,
    levels: Annotated[str | None, typer.Option(help="Levels to export (fine,fused).", show_default="all")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the export that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write codes, keys and labels of an index as files that anybody reads; removed rows are not among them.

    Example: indexer export exported --form parquet --index index
    """
    from indexer.changes.export import export as run_export

    with progress("exporting") as advance:
        report = run_export(
            index,
            out,
            form,
            parse_levels(levels),
            overwrite=overwrite,
            progress=lambda share, what: advance(share, 1.0, what),
        )
    if as_json:
        result(json.dumps(asdict(report)))
        return
    result(f"{plural(report.rows, 'row')} of {index} ({report.generation}) in {out}, {report.bytes / 1e6:,.1f} MB")
    result(f"  {', '.join(report.files)}")
    if report.key_column != "key":
        notice(f"a label is called key, so the keys stand in column {report.key_column} (indexer import --key)")


def _levels_of(texts: list[str], npy: str | None) -> dict[Level, Path]:
    """Read `fine=codes.npy`, or `fine` and a path of its own; which level is never guessed."""
    if npy is not None:
        if len(texts) != 1 or texts[0] not in set(Level):
            raise typer.BadParameter(
                f"{npy}; expected --level LEVEL beside it, one of {', '.join(Level)}", param_hint="--npy"
            )
        texts = [f"{texts[0]}={npy}"]
    if not texts:
        raise typer.BadParameter("no codes; expected LEVEL=PATH (fine=codes.npy)", param_hint="--level")
    levels = dict[Level, Path]()
    for text in texts:
        name, _, path = text.partition("=")
        if name not in set(Level) or not path or name in levels:
            raise typer.BadParameter(
                f"{text!r}; expected LEVEL=PATH, each of {', '.join(Level)} once at most", param_hint="--level"
            )
        levels[Level(name)] = Path(path)
    return levels


COMMANDS = (import_, export)
