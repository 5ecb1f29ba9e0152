from typing import Any

import numpy as np
import pytest

from encoder.levels import Level
from pipelines.evaluation import figures
from pipelines.evaluation.figures import draw
from pipelines.evaluation.protocols import Preset, Split
from pipelines.evaluation.report import Counted, Report, Row
from pipelines.evaluation.scoring import TIES, counted, score

FIELDS = ("fine", "coarse")


@pytest.fixture
def report(rng):
    labels = np.stack([np.arange(40) % 4, np.arange(40) % 2], axis=1)
    asked = Split(np.arange(10), np.arange(10, 40), None, np.arange(0))

    def scores(nbits):
        values = rng.integers(0, 256, (40, nbits // 8), dtype=np.uint8) if nbits else rng.random((40, 8), np.float32)
        return score(counted(values, labels, asked), FIELDS, None, coded=bool(nbits))

    rows = [Row("model", level, 16, scores(16)) for level in (Level.MID, Level.FUSED)]
    rows += [Row("random", None, 16, scores(16)), Row("class-id", Level.FUSED, 2, scores(8))]
    for level in (Level.MID, Level.FUSED):
        rows.append(Row("features", level, None, scores(0)))
        rows += [Row("itq", level, nbits, scores(nbits)) for nbits in (8, 16)]
        rows.append(Row("pcah", level, 16, None, "impossible"))
    return Report(
        Preset.FULL, "", {}, FIELDS, Counted(10, 30, {}, rejects=0, twins=None), r=30, seed=0, ties=TIES, formulas={}, rows=rows
    )  # fmt: skip


@pytest.fixture
def drawn(report, tmp_path, monkeypatch):
    """What each plot was given, by the name of its function."""
    given: dict[str, Any] = {}
    for name in ("save_precision_recall", "save_precision_at", "save_map_by_bits", "save_distances"):
        monkeypatch.setattr(figures, name, lambda path, what, *_, name=name: given.setdefault(name, what))
    draw(report, tmp_path)
    return given


def test_every_plot_is_a_file_that_the_report_can_show(report, tmp_path):
    assert sorted(draw(report, tmp_path).values()) == sorted(path.name for path in tmp_path.iterdir())


def test_codes_of_the_models_length_are_drawn_by_radius(drawn):
    names = [curve.name for curve in drawn["save_precision_recall"]]
    assert names == ["model mid 16", "model fused 16", "random 16", "class-id fused 2", "itq fused 16"]
    assert all(len(curve.x) == len(curve.y) for curve in drawn["save_precision_recall"])


def test_real_valued_features_have_precision_at_k(drawn):
    assert "features fused" in [curve.name for curve in drawn["save_precision_at"]]


def test_every_length_is_a_point_and_features_are_a_level_line(drawn, report):
    curves = {curve.name: curve for curve in drawn["save_map_by_bits"]}
    assert curves["itq fused"].x == [8, 16]
    assert (curves["features fused"].x, len(curves["features fused"].y)) == ([], 1)
    assert curves["model mid"].y == [report.rows[0].scores.means["fine"]["mAP"]]
    assert "itq mid" not in curves


def test_pairs_are_grouped_by_what_they_share(drawn, report):
    levels = drawn["save_distances"]
    assert list(levels) == ["mid", "fused"]
    assert list(levels["mid"]) == ["same fine", "same coarse", "nothing shared"]
    assert levels["mid"]["same fine"] == report.rows[0].scores.curves.distances[2]
    assert sum(map(sum, levels["mid"].values())) == 10 * 30
