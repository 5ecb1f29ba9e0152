import json
from dataclasses import replace

import numpy as np
import pytest

from encoder.levels import Level
from pipelines.evaluation.copies import CopyKind, CopyRecall
from pipelines.evaluation.protocols import Preset, Split
from pipelines.evaluation.report import Counted, Report, Row, as_json, as_markdown, as_table, summary, write_report
from pipelines.evaluation.scoring import GRADED_METRICS, TIES, WITHIN, binary_metrics, counted, score


@pytest.fixture
def report(rng):
    labels = np.stack([np.arange(40) % 4, np.arange(40) % 2], axis=1)
    asked = Split(np.arange(10), np.arange(10, 40), None, np.arange(0))
    codes = rng.integers(0, 256, (40, 4), dtype=np.uint8)
    reals = rng.standard_normal((40, 8)).astype(np.float32)
    fields = ("fine", "coarse")
    coded, real = (score(counted(of, labels, asked), fields, None, coded=of is codes) for of in (codes, reals))
    return Report(
        preset=Preset.FULL,
        protocol="test images ask, training images are the database",
        model={"fingerprint": "f" * 64, "backbone": "alexnet"},
        labels=fields,
        counted=Counted(10, 30, {"fine": 4, "coarse": 2}, rejects=0, twins=None),
        r=30,
        seed=7,
        ties=TIES,
        formulas={metric.name: metric.formula for metric in (*binary_metrics(None), *GRADED_METRICS)},
        rows=[
            Row("model", Level.FUSED, 32, coded),
            Row("features", Level.FUSED, None, real, "half of the queries"),
            Row("itq", Level.FUSED, 512, None, "512 bits need 512 principal axes"),
        ],
        seconds=1.5,
    )


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_has_a_row_a_ranking_and_columns_that_line_up(report):
    lines = as_table(report)
    assert len({len(line) for line in lines}) == 1
    assert [cells(line)[:3] for line in lines[2:]] == [
        ["model", "fused", "32"],
        ["features", "fused", "real"],
        ["itq", "fused", "512"],
    ]


def test_the_table_shows_what_was_scored_and_a_dash_where_there_is_nothing(report):
    head, _, model, features, impossible = map(cells, as_table(report))
    figures = report.rows[0].scores
    assert model[head.index("fine mAP")] == f"{figures.means['fine']['mAP']:.3f}"
    assert model[head.index("coarse mAP")] == f"{figures.means['coarse']['mAP']:.3f}"
    assert model[head.index("empty balls")] == f"{figures.empty_balls:.3f}"
    assert features[head.index(f"fine {WITHIN}")] == features[head.index("empty balls")] == "-"
    assert set(impossible[3:]) == {"-"}


def test_the_table_shows_how_often_copies_find_the_original_beside_the_models_own_codes(report):
    by_kind = {CopyKind.CROP: {1: 0.5, 10: 1.0}, CopyKind.FLIP: {1: 0.25, 10: 1.0}}
    lines = as_table(replace(report, copies={Level.FUSED: CopyRecall(10, 40, by_kind)}))
    assert [cells(line)[-1] for line in (lines[0], *lines[2:])] == ["copies R@1", "0.375", "-", "-"]


def test_json_is_strict_and_holds_everything_that_decides_a_figure(report):
    content = json.loads(as_json(report), parse_constant=pytest.fail)
    assert content["format"] == "hashgrain-evaluation"
    assert (content["preset"], content["seed"], content["r"], content["ties"]) == ("full", 7, 30, TIES)
    assert content["counted"]["queries"] == 10
    assert content["rows"][0]["scores"]["means"] == report.rows[0].scores.means
    assert content["rows"][2]["scores"] is None
    assert set(content["formulas"]) >= {name for group in report.rows[0].scores.means.values() for name in group}


def test_markdown_names_every_formula_and_shows_every_figure(report):
    text = as_markdown(report, {"Precision and recall": "precision-and-recall.svg"})
    for name, formula in report.formulas.items():
        assert f"- {name}: {formula}." in text
    for metrics in report.rows[0].scores.means.values():
        for value in metrics.values():
            assert f"{value:.3f}" in text
    assert "seed 7" in text
    assert "R = 30" in text
    assert "![Precision and recall](precision-and-recall.svg)" in text


def test_the_summary_says_what_is_left_out_of_a_mean(report):
    assert not any("have no image" in line for line in summary(report))
    lacking = replace(report.rows[0].scores, unanswerable={"fine": 3, "coarse": 0})
    told = summary(replace(report, rows=[Row("model", Level.FUSED, 32, lacking)]))
    assert "3 queries have no image of their `fine` to find and are in no mean of it" in told
    assert not any("`coarse` to find" in line for line in told)


def test_the_summary_says_what_could_not_be_decoded_and_what_stands_on_both_sides(report):
    told = summary(replace(report, counted=replace(report.counted, rejects=2, twins=4)))
    assert "2 images could not be decoded and have no code" in told
    assert "4 queries have the very bytes of a database image with another key" in told


def test_both_files_of_the_report_are_written(report, tmp_path):
    write_report(report, tmp_path, {"Distances": "distances.svg"})
    assert (tmp_path / "report.json").read_text() == as_json(report)
    assert (tmp_path / "report.md").read_text() == as_markdown(report, {"Distances": "distances.svg"})
