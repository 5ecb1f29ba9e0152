"""What an evaluation found, in plain data, and the three forms it is told in: a table, `report.json`, `report.md`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from encoder.levels import Level
from encoder.runtime.publish import write_bytes
from pipelines.evaluation.copies import CopyRecall
from pipelines.evaluation.health import CodeHealth
from pipelines.evaluation.protocols import Preset
from pipelines.evaluation.scoring import GRADED, WITHIN, Scores

FORMAT, VERSION = "hashgrain-evaluation", 1
MISSING = "-"
ASKED: Mapping[Level, str] = {
    Level.FINE: "the same object or picture? (copies)",
    Level.MID: "the same class?",
    Level.COARSE: "the same kind of thing?",
    Level.FUSED: "all of it, in graded order",
}


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one ranking."""

    method: str
    """`model`, or a baseline's name."""
    level: Level | None
    nbits: int | None
    """None: real-valued."""
    scores: Scores | None
    """None: it could not be made; the note says why."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Counted:
    """How many of everything."""

    queries: int
    database: int
    classes: dict[str, int]
    """By label field, among queries and database."""
    rejects: int
    """Images that were seen and have no code."""
    twins: int | None
    """Queries whose very bytes stand in the database under another key; None: the images were not read."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found, and everything that decides it."""

    preset: Preset
    protocol: str
    model: dict[str, Any]
    """File, fingerprint, backbone, weights, precision: as far as they are known."""
    labels: tuple[str, ...]
    """Fields, the finest first."""
    counted: Counted
    r: int
    """Ranks that average precision counts."""
    seed: int
    ties: str
    formulas: dict[str, str]
    rows: list[Row]
    copies: dict[Level, CopyRecall] = field(default_factory=dict)
    """How often the codes of changed pictures find the originals'; empty where the images are not at hand."""
    health: dict[Level, CodeHealth] = field(default_factory=dict)
    alike: dict[str, float] = field(default_factory=dict)
    """Rank correlation of two levels, by their names."""
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def write_report(report: Report, out: Path, plots: Mapping[str, str]) -> None:
    """Write `report.json` and `report.md` into a folder.

    Args:
        report: what was found.
        out: the folder.
        plots: name of a plot's file there, by title.

    Raises:
        HashgrainError: `write-failed`.
    """
    write_bytes(out / "report.json", as_json(report).encode())
    write_bytes(out / "report.md", as_markdown(report, plots).encode())


def as_json(report: Report) -> str:
    """Return everything as one JSON object."""
    content = {"format": FORMAT, "version": VERSION, **asdict(report)}
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def as_table(report: Report) -> list[str]:
    """Return the lines of a table with the figures that are looked at first."""
    fine, *coarser = report.labels
    columns = [(fine, report_name) for report_name in (_map_name(report), "P@1", "P@100", WITHIN)]
    columns += [(field_name, _map_name(report)) for field_name in coarser] + [(GRADED, "NDCG@100")]
    head, body = _figures(report, columns)
    if report.copies:
        head.append("copies R@1")
        for row, cells in zip(report.rows, body, strict=True):
            own = report.copies.get(row.level) if row.method == "model" and row.level else None
            cells.append(_number(own.mean[1] if own else None))
    return _table(head, body)


def as_markdown(report: Report, plots: Mapping[str, str]) -> str:
    """Return the whole report as Markdown.

    Args:
        report: what was found.
        plots: file name by title.
    """
    lines = [f"# Evaluation: {report.preset}", "", f"{report.protocol[0].upper()}{report.protocol[1:]}.", ""]
    lines += [f"- {line}" for line in summary(report)]
    for group in (*report.labels, GRADED):
        title = "both labels, graded" if group == GRADED else f"label `{group}`"
        lines += ["", f"## Retrieval by {title}", ""]
        lines += _table(*_figures(report, [(group, name) for name in _metrics_of(report, group)]))
    lines += [*_copies(report.copies), *_health(report.health), *_alike(report.alike)]
    lines += ["", "## How it was measured", "", f"- Ties: {report.ties}."]
    lines += [f"- {name}: {formula}." for name, formula in report.formulas.items()]
    lines += [f"- Level `{level}`: {question}" for level, question in ASKED.items()]
    for title, file in plots.items():
        lines += ["", f"![{title}]({file})"]
    return "\n".join(lines) + "\n"


def summary(report: Report) -> list[str]:
    """Return what has to be known before a figure is believed, line by line."""
    counted = report.counted
    classes = ", ".join(f"{number:,} of `{name}`" for name, number in counted.classes.items())
    model = ", ".join(f"{name} {value}" for name, value in report.model.items())
    lines = [
        f"{counted.queries:,} queries, {counted.database:,} images in the database, classes: {classes}",
        f"R = {report.r:,} ranks, seed {report.seed}, {report.seconds:.0f} s",
        f"model: {model or 'unknown'}",
    ]
    scored = next((row.scores for row in report.rows if row.scores), None)
    for name, number in (scored.unanswerable if scored else {}).items():
        if number:
            lines.append(f"{number:,} queries have no image of their `{name}` to find and are in no mean of it")
    if counted.rejects:
        lines.append(f"{counted.rejects:,} images could not be decoded and have no code")
    if counted.twins:
        lines.append(f"{counted.twins:,} queries have the very bytes of a database image with another key")
    return lines + report.notes


def _copies(copies: Mapping[Level, CopyRecall]) -> list[str]:
    if not copies:
        return []
    some = next(iter(copies.values()))
    ranks = list(some.mean)
    first = ranks[0]
    head = ["level", *(f"{kind} R@{first}" for kind in some.by_kind), *(f"mean R@{k}" for k in ranks)]
    body = [
        [level, *(_number(by_rank[first]) for by_rank in found.by_kind.values()), *map(_number, found.mean.values())]
        for level, found in copies.items()
    ]
    intro = (
        f"{some.queries:,} queries changed in each of these ways look for the original among {some.database:,} images."
    )
    return ["", "## Copies", "", intro, "", *_table(head, body)]


def _health(health: Mapping[Level, CodeHealth]) -> list[str]:
    if not health:
        return []
    names = [of_field.name for of_field in fields(CodeHealth)][2:]
    head = ["level", *(name.replace("_", " ") for name in names)]
    body = [[level, *(_number(getattr(found, name)) for name in names)] for level, found in health.items()]
    return ["", "## Health of the codes", "", *_table(head, body)]


def _alike(alike: Mapping[str, float]) -> list[str]:
    if not alike:
        return []
    body = [[pair, _number(value)] for pair, value in alike.items()]
    return ["", "## Do two levels say the same?", "", *_table(["levels", "rank correlation"], body)]


def _map_name(report: Report) -> str:
    return next(name for name in report.formulas if name.startswith("mAP"))


def _metrics_of(report: Report, group: str) -> list[str]:
    names = (name for row in report.rows if row.scores for name in row.scores.means[group])
    return list(dict.fromkeys(names))


def _figures(report: Report, columns: Sequence[tuple[str, str]]) -> tuple[list[str], list[list[str]]]:
    """Return head and body of a table: one row a ranking, one column a (group, metric)."""
    several = len({group for group, _ in columns}) > 1
    head = ["ranked by", "level", "bits"]
    body = [[row.method, row.level or MISSING, "real" if row.nbits is None else str(row.nbits)] for row in report.rows]
    for group, name in columns:
        head.append(f"{group} {name}" if several else name)
        for row, cells in zip(report.rows, body, strict=True):
            cells.append(_number(row.scores.means[group].get(name) if row.scores else None))
        if name == WITHIN:
            head.append("empty balls")
            for row, cells in zip(report.rows, body, strict=True):
                cells.append(_number(row.scores.empty_balls if row.scores else None))
    return head, body


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table whose columns also line up as plain text."""
    widths = [max(len(row[column]) for row in (head, *body)) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return [line(head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, body)]
