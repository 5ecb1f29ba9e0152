"""Which rows of a report are drawn together, and how."""

from collections.abc import Sequence
from pathlib import Path

from encoder.evaluation.plots import Curve, save_distances, save_map_by_bits, save_precision_at, save_precision_recall
from encoder.levels import Level
from pipelines.evaluation.report import Report, Row
from pipelines.evaluation.scoring import Scores

PRECISION_RECALL, PRECISION_AT = "precision-recall.svg", "precision-at-k.svg"
MAP_BY_BITS, DISTANCES = "map-by-bits.svg", "distances.svg"


def draw(report: Report, out: Path) -> dict[str, str]:
    """Draw precision and recall, precision at k, mAP by code length, and distances, all of the finest label.

    Args:
        report: what was found; the model is drawn at every level, everything else at the one that reads most.
        out: folder of the files.

    Returns:
        File names by title.

    Raises:
        HashgrainError: `write-failed`.
    """
    level = next(row.level for row in reversed(report.rows) if row.method == "model")
    shown = [(row, row.scores) for row in report.rows if row.scores and (row.method == "model" or _beside(row, level))]
    own = next(row.nbits for row, _ in reversed(shown) if row.method == "model")
    alike = [(row, scores) for row, scores in shown if row.nbits in {own, None} or row.method in {"model", "class-id"}]
    coded = [(row, scores) for row, scores in alike if row.nbits is not None]
    field = report.labels[0]
    save_precision_recall(
        out / PRECISION_RECALL,
        [Curve(_name(row), scores.curves.recall, scores.curves.precision) for row, scores in coded],
        f"Precision and recall by {field} label, a point a radius",
    )
    save_precision_at(
        out / PRECISION_AT,
        [Curve(_name(row), scores.curves.at, scores.curves.precision_at) for row, scores in alike],
        f"Precision at k by {field} label",
    )
    save_map_by_bits(out / MAP_BY_BITS, _by_bits(shown, field), f"mAP by {field} label and code length")
    save_distances(
        out / DISTANCES,
        {str(row.level): _pairs(scores, report.labels) for row, scores in shown if row.method == "model"},
    )
    return {
        "Precision and recall": PRECISION_RECALL,
        "Precision at k": PRECISION_AT,
        "mAP by code length": MAP_BY_BITS,
        "Distances": DISTANCES,
    }


def _beside(row: Row, level: Level | None) -> bool:
    """Whether a row is drawn beside the model: it reads what the model's last level reads, or nothing."""
    return row.level in {level, None}


def _name(row: Row) -> str:
    return " ".join(str(part) for part in (row.method, row.level, row.nbits) if part is not None)


def _by_bits(rows: Sequence[tuple[Row, Scores]], field: str) -> list[Curve]:
    """Return one line per method and level through its code lengths."""
    points: dict[str, list[tuple[int | None, float]]] = {}
    for row, scores in rows:
        mean_ap = next(iter(scores.means[field].values()))
        points.setdefault(f"{row.method} {row.level or ''}".strip(), []).append((row.nbits, mean_ap))
    return [
        Curve(name, [nbits for nbits, _ in found if nbits is not None], [height for _, height in found])
        for name, found in points.items()
    ]


def _pairs(scores: Scores, labels: Sequence[str]) -> dict[str, list[int]]:
    """Return pairs by distance: those that share the finest label first, those that share nothing last."""
    names = ["nothing shared", *(f"same {label}" for label in reversed(labels))]
    return dict(reversed(list(zip(names, scores.curves.distances, strict=True))))
