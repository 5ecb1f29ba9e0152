"""The commands that take codes in from elsewhere, and hand them out. Arguments in, one function call, lines out."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from encoder.errors import Reason
from encoder.levels import Level, parse_levels
from encoder.plural import plural
from encoder.runtime.console import notice, progress, result
from indexer.changes.cli import Compact, first_of, join_what_is_due
from indexer.common_cli import DEFAULT_INDEX, INDEX, NOTICES, AsJson, IndexPath, Keep, read_token
from indexer.settings import (
    KEEP,
    BitOrder,
    ExportForm,
    ExportTo,
    IndexKind,
    OnDuplicate,
)

if TYPE_CHECKING:
    from indexer.changes.export import ExportReport
    from indexer.changes.lance_rows import LanceReport
    from indexer.changes.milvus_rows import MilvusReport

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
    out: Annotated[
        str, typer.Argument(help="Folder to make; with --to milvus name of the collection.", show_default=False)
    ],
    index: IndexPath = DEFAULT_INDEX,
    to: Annotated[
        ExportTo, typer.Option(help="files, a Lance dataset (extra lance), or a Milvus server (extra milvus).")
    ] = ExportTo.FILES,
    form: Annotated[
        ExportForm | None,
        typer.Option(
            help="Of files. npy: LEVEL.npy, keys.txt, labels.parquet; faiss: LEVEL.faiss instead; parquet: all in rows.parquet.",
            show_default=ExportForm.NPY,
        ),
    ] = None,
    levels: Annotated[str | None, typer.Option(help="Levels to export (fine,fused).", show_default="all")] = None,
    uri: Annotated[str | None, typer.Option(help="Milvus server (http://HOST:19530).", show_default=False)] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with Milvus's token.", show_default=False)] = None,
    nlist: Annotated[
        int | None, typer.Option(min=1, help="Inverted lists in Milvus (BIN_IVF_FLAT).", show_default="none: BIN_FLAT")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the export or the collection that is there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Hand out codes, keys and labels of an index to other programs; removed rows are not among them.

    Example: indexer export exported --form parquet --index index
    """
    for name, given, of in (
        ("--form", form, ExportTo.FILES),
        ("--uri", uri, ExportTo.MILVUS),
        ("--token-file", token_file, ExportTo.MILVUS),
        ("--nlist", nlist, ExportTo.MILVUS),
    ):
        if given is not None and to is not of:
            raise typer.BadParameter(f"is for --to {of}, not {to}", param_hint=name)
    if to is ExportTo.MILVUS and uri is None:
        raise typer.BadParameter("no server; expected its address (http://HOST:19530)", param_hint="--uri")
    chosen = parse_levels(levels)
    with progress("exporting") as advance:
        step = _Step(index, out, chosen, overwrite, lambda share, what: advance(share, 1.0, what))
        if to is ExportTo.LANCE:
            exported = _to_lance(step)
        elif to is ExportTo.MILVUS:
            exported = _to_milvus(step, uri or "", None if token_file is None else read_token(token_file), nlist)
        else:
            exported = _to_files(step, form or ExportForm.NPY)
    if as_json:
        result(json.dumps(asdict(exported.report)))
        return
    for line in exported.lines:
        result(line)
    for line in exported.notices:
        notice(line)


class _Step(NamedTuple):
    """What every export is told."""

    path: Path
    """Of the index."""
    out: str
    levels: tuple[Level, ...] | None
    overwrite: bool
    progress: Callable[[float, str], None]


class _Exported(NamedTuple):
    """What is said of an export."""

    report: "ExportReport | LanceReport | MilvusReport"
    lines: list[str]
    notices: list[str]


def _to_files(step: _Step, form: ExportForm) -> _Exported:
    from indexer.changes.export import export as run

    index, out, levels, overwrite, advance = step
    report = run(index, Path(out), form, levels, overwrite=overwrite, progress=advance)
    lines = [
        f"{plural(report.rows, 'row')} of {index} ({report.generation}) in {out}, {report.bytes / 1e6:,.1f} MB",
        f"  {', '.join(report.files)}",
    ]
    renamed = f"a label is called key, so the keys stand in column {report.key_column} (indexer import --key)"
    return _Exported(report, lines, [renamed] if report.key_column != "key" else [])


def _to_lance(step: _Step) -> _Exported:
    from indexer.changes.lance_rows import export_to_lance

    index, out, levels, overwrite, advance = step
    report = export_to_lance(index, Path(out), levels, overwrite=overwrite, progress=advance)
    lines = [
        f"{plural(report.rows, 'row')} of {index} ({report.generation}) in {out}, {report.bytes / 1e6:,.1f} MB",
        f"  columns: {', '.join(report.columns)}",
    ]
    return _Exported(report, lines, [f"label {label!r} is column {name}" for label, name in report.renamed.items()])


def _to_milvus(step: _Step, uri: str, token: str | None, nlist: int | None) -> _Exported:
    from indexer.changes.milvus_rows import MilvusCollection, export_to_milvus

    index, out, levels, overwrite, advance = step
    to = MilvusCollection(out, uri, token, nlist)
    report = export_to_milvus(index, to, levels, overwrite=overwrite, progress=advance)
    lines = [
        f"{plural(report.rows, 'row')} of {index} ({report.generation}) in the collection {out} at {to.server}, "
        f"{report.sent:,} sent",
        f"  fields: {', '.join(report.fields)}",
    ]
    return _Exported(report, lines, [])


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
