"""The evaluation on a small drawn collection: a report whose figures a slow count agrees with, and no leak gets through."""

import json
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from encoder.codes.file import list_code_files, open_codes
from encoder.hashing.fit_model import FitSettings, fit
from encoder.hashing.names import HashKind
from encoder.images.expand import expand
from encoder.levels import Level
from encoder.model.model_file import load_model, save_model
from encoder.model.spec import BackboneSpec
from encoder.model.weights import NO_WEIGHTS
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings
from indexer.build import build
from indexer.settings import BuildSettings
from pipelines import evaluate
from pipelines.drawn.collection import draw_shards
from pipelines.evaluate import EvaluateSettings
from pipelines.evaluation.protocols import Preset
from pipelines.evaluation.subject import Source
from tests.support import oracles
from tests.support.pictures import labelled_members, picture, write_tar

BITS = 16
FIELDS = ("class", "kind")
"""Labels of the drawn pictures."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """24 test and 96 training pictures of 24 classes, and a small untrained model fitted on the latter."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_shards(folder, instances=1, views=5)
    (folder / "more").rename(folder / "train")
    (folder / "queries").rename(folder / "test")
    settings = FitSettings(
        BackboneSpec("alexnet"), NO_WEIGHTS, HashKind.PCAH, dict.fromkeys(Level, BITS), image_size=64, sample=96
    )
    fit(expand([str(folder / "train")]), settings, folder / "model.safetensors", lambda *_: None)
    return folder


@pytest.fixture(scope="module")
def encoded(drawn):
    """The same as code files, encoded on their own: folders `test` and `train`."""
    for part in ("test", "train"):
        encode(expand([str(drawn / part)]), drawn / "model.safetensors", drawn / "codes" / part, EncodeSettings())
    return drawn / "codes"


@pytest.fixture
def run_evaluate(monkeypatch, capsys):
    """Run the command line: `run_evaluate(arguments...)` -> (exit code, stdout, stderr)."""

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["evaluate", "--label", "mid=class,coarse=kind", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            evaluate.main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return call


def rows_of(folder):
    """Return codes by level and (class, kind) labels of a folder of code files."""
    codes: dict[Level, list[np.ndarray]] = {level: [] for level in Level}
    labels: list[tuple[int, int]] = []
    for path in list_code_files([folder]):
        with open_codes(path) as file:
            classes, kinds = (np.asarray(file.label(name).values) for name in FIELDS)
            labels += zip(classes.tolist(), kinds.tolist(), strict=True)
            for level in Level:
                codes[level].append(file.codes(level))
    return {level: np.concatenate(parts) for level, parts in codes.items()}, labels


def average_precision(distances, relevant):
    """Expect AP over all orders of tied items, rank by rank, in exact fractions."""
    total, before, found = Fraction(0), 0, 0
    for distance in sorted(set(distances)):
        tied = [hit for at, hit in zip(distances, relevant, strict=True) if at == distance]
        hits = sum(tied)
        for place in range(len(tied)):
            others = Fraction(place * (hits - 1), len(tied) - 1) if len(tied) > 1 else 0
            total += Fraction(hits, len(tied)) * (found + 1 + others) / (before + place + 1)
        before, found = before + len(tied), found + hits
    return total / found


def ndcg(distances, grades, k=100):
    """Expect NDCG@k over all orders of tied items: every place of a tie is worth the tie's mean gain."""
    gains = []
    for distance in sorted(set(distances)):
        tied = [2**grade - 1 for at, grade in zip(distances, grades, strict=True) if at == distance]
        gains += [sum(tied) / len(tied)] * len(tied)
    best = sorted((2**grade - 1 for grade in grades), reverse=True)
    dcg, most = (sum(gain / math.log2(rank + 2) for rank, gain in enumerate(of[:k])) for of in (gains, best))
    return dcg / most


def check_figures(content, queries, database, *, leave_one_out):
    """Hold the model's rows against a slow count over codes and labels."""
    (asked, of_queries), (found, of_database) = queries, database
    for row in (row for row in content["rows"] if row["method"] == "model"):
        distances = oracles.hamming(asked[Level(row["level"])], found[Level(row["level"])]).tolist()
        by_class, by_kind, graded = [], [], []
        for number, (of_query, label) in enumerate(zip(distances, of_queries, strict=True)):
            kept = [item for item in range(len(found[Level.FINE])) if not (leave_one_out and item == number)]
            near, others = [of_query[item] for item in kept], [of_database[item] for item in kept]
            same, kind = [other[0] == label[0] for other in others], [other[1] == label[1] for other in others]
            by_class += [average_precision(near, same)] if any(same) else []
            by_kind += [average_precision(near, kind)] if any(kind) else []
            graded += [ndcg(near, [2 if one else int(two) for one, two in zip(same, kind, strict=True)])]
        means = row["scores"]["means"]
        figures = (("class", "mAP", by_class), ("kind", "mAP", by_kind), ("graded", "NDCG@100", graded))
        for group, name, expected in figures:
            if expected:
                assert means[group][name] == pytest.approx(float(sum(expected) / len(expected))), (row["level"], name)
        assert row["scores"]["unanswerable"] == {
            "class": len(of_queries) - len(by_class),
            "kind": len(of_queries) - len(by_kind),
        }


def test_full_reports_every_level_and_every_baseline_with_figures_a_slow_count_agrees_with(
    run_evaluate, drawn, encoded, tmp_path
):
    code, out, _ = run_evaluate(
        "full", "--model", drawn / "model.safetensors", "--test", drawn / "test", "--train", drawn / "train",
        "--out", tmp_path, "--seed", 3,
    )  # fmt: skip
    assert code == 0
    content = json.loads((tmp_path / "report.json").read_text())
    assert (content["preset"], content["seed"], content["r"]) == ("full", 3, 96)
    assert (content["counted"]["queries"], content["counted"]["database"]) == (24, 96)
    check_figures(content, rows_of(encoded / "test"), rows_of(encoded / "train"), leave_one_out=False)
    methods = {(row["method"], row["level"]) for row in content["rows"]}
    learned = {(method, str(level)) for method in ("model", "features", "itq", "pcah", "sh", "lsh") for level in Level}
    assert methods == learned | {("random", None), ("class-id", "fused")}
    report = (tmp_path / "report.md").read_text()
    for row in content["rows"]:
        figure = f"{row['scores']['means']['class']['mAP']:.3f}"
        assert figure in out
        assert figure in report
    for level in Level:
        assert content["copies"][level]["database"] == 120
        assert content["copies"][level]["queries"] == 24
        assert content["health"][level]["nbits"] == BITS
        assert content["health"][level]["quantisation_error"] > 0
    assert len(content["alike"]) == 6
    for plot in ("precision-recall", "precision-at-k", "map-by-bits", "distances"):
        assert f"]({plot}.svg)" in report
        assert (tmp_path / f"{plot}.svg").read_text().startswith("<?xml")
    scores = {
        row["method"]: row["scores"]["means"]["class"]["mAP"] for row in content["rows"] if row["level"] != "fine"
    }
    assert scores["random"] < scores["lsh"] < scores["class-id"]


def test_code_files_and_indexes_give_the_same_figures(run_evaluate, encoded, tmp_path):
    build(list_code_files([encoded / "train"]), tmp_path / "index", BuildSettings())
    figures = []
    for number, database in enumerate((encoded / "train", tmp_path / "index")):
        out = tmp_path / str(number)
        assert run_evaluate("full", "--queries", encoded / "test", "--database", database, "--out", out)[0] == 0
        figures.append(json.loads((out / "report.json").read_text())["rows"])
    assert figures[0] == figures[1]
    assert [row["method"] for row in figures[0]] == ["model"] * 4 + ["random"]
    assert (out / "distances.svg").exists()


def test_test_only_leaves_each_query_out(run_evaluate, encoded, tmp_path):
    assert run_evaluate("test-only", "--queries", encoded / "train", "--out", tmp_path)[0] == 0
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["r"] == 95
    check_figures(content, rows_of(encoded / "train"), rows_of(encoded / "train"), leave_one_out=True)


def test_queries_that_nothing_can_answer_are_told(run_evaluate, encoded, tmp_path):
    code, out, _ = run_evaluate("test-only", "--queries", encoded / "test", "--out", tmp_path)
    assert code == 0  # one picture a class: no other one of it
    assert "24 queries have no image of their `class` to find" in out


@pytest.fixture
def trained(drawn, encoded, tmp_path):
    """The model with a record that says what it was trained on: `trained(shards of part, classes left out)` -> path."""

    def write(part, left_out=()):
        model, shards = load_model(drawn / "model.safetensors"), []
        for path in list_code_files([encoded / part]):
            with open_codes(path) as file:
                shards.append({"name": file.header.shard.name, "sha256": file.header.shard.sha256})
        record = {"shards": shards, "classes_left_out": list(left_out)}
        save_model(tmp_path / "trained.safetensors", replace(model.config, record=record), model.network)
        return tmp_path / "trained.safetensors"

    return write


def test_unseen_classes_asks_and_finds_only_those(run_evaluate, drawn, trained, tmp_path):
    left_out = ["3", "7", "20"]
    code, _, _ = run_evaluate(
        "unseen-classes", "--model", trained("train", left_out), "--test", drawn / "test", "--train", drawn / "train",
        "--with-train", "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["counted"]["queries"] == content["counted"]["database"] == 15
    assert content["counted"]["classes"]["class"] == 3
    assert any("21 classes" in row["note"] for row in content["rows"] if row["method"] == "class-id")
    assert any("trained on 1 of the 1 training shards" in note for note in content["notes"])


def test_that_an_index_does_not_name_its_shards_is_told(run_evaluate, drawn, trained, tmp_path):
    encode(expand([str(drawn / "train")]), trained("test"), tmp_path / "codes", EncodeSettings())
    build(list_code_files([tmp_path / "codes"]), tmp_path / "index", BuildSettings())
    for queries, told in ((tmp_path / "index", True), (tmp_path / "codes", False)):
        assert run_evaluate("test-only", "--queries", queries, "--out", tmp_path / "out")[0] == 0
        notes = json.loads((tmp_path / "out" / "report.json").read_text())["notes"]
        assert any("do not say what shards they are of" in note for note in notes) is told


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["full", "--test", "{drawn}/train", "--train", "{drawn}/train"], "test shards are training shards"),
        (["test-only", "--test", "{drawn}/train"], "test shards are among those the model was trained on"),
        (["unseen-classes", "--test", "{drawn}/test"], "needs classes that the model was not trained on"),
        (["full", "--test", "{drawn}/test"], "0 images to find"),
        (
            ["full", "--test", "{drawn}/test", "--label", "mid=name"],
            "no image has a label 'name' (labels found: class, class_name, folder, instance, kind, kind_name)",
        ),
        (["full", "--test", "{drawn}/test", "--label", "name"], "no image has a label 'name' (labels found: class, "),
        (
            ["full", "--queries", "{drawn}/codes/test", "--label", "name"],
            "no image has a label 'name' (labels found: class, ",
        ),
        (["full", "--test", "{drawn}/test", "--label", "fine=class"], "names no class"),
        (["full"], "no queries"),
        (["full", "--queries", "{drawn}/codes/test"], "is not the model that made the codes"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_scored_honestly_is_one_line_and_exit_code_1(
    run_evaluate, drawn, trained, tmp_path, arguments, line
):
    model = trained("train")
    given = [part.format(drawn=drawn) for part in arguments]
    code, out, err = run_evaluate(*given, "--model", model, "--out", tmp_path / "out")
    assert (code, out) == (1, "")
    errors = [text for text in err.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1
    assert line in errors[0]
    assert not (tmp_path / "out" / "report.json").exists()


def test_the_flow_is_callable_and_its_seed_decides_every_figure(drawn, encoded, tmp_path):
    found = []
    for number, seed in enumerate((0, 0, 1)):
        settings = EvaluateSettings(
            Preset.FULL,
            test=Source(codes=[encoded / "test"]),
            train=Source(codes=[encoded / "train"]),
            labels=FIELDS,
            out=tmp_path / str(number),
            seed=seed,
        )
        found.append(evaluate.evaluate(settings).rows)
    assert found[0] == found[1]
    assert found[0][:4] == found[2][:4]
    assert found[0][4] != found[2][4]  # random codes


def test_one_label_is_enough_and_a_bare_field_names_it(run_evaluate, drawn, encoded, tmp_path):
    """The later of two options counts, so that these replace the fixture's."""
    parts = ("--queries", encoded / "test", "--database", encoded / "train")
    found = []
    for number, label in enumerate(("class", "mid=class", "coarse=class")):
        assert run_evaluate("full", *parts, "--label", label, "--out", tmp_path / str(number))[0] == 0
        found.append(json.loads((tmp_path / str(number) / "report.json").read_text()))
    assert found[0]["labels"] == ["class"]
    assert found[0]["rows"] == found[1]["rows"] == found[2]["rows"]


def test_without_a_word_the_only_label_counts(drawn, tmp_path):
    for part, first in (("test", 0), ("train", 100)):
        for number in range(first, first + 12):
            folder = tmp_path / part / f"kind-{number % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            picture(number).save(folder / f"{number}.png")
    settings = EvaluateSettings(
        Preset.FULL,
        model=drawn / "model.safetensors",
        test=Source([str(tmp_path / "test")]),
        train=Source([str(tmp_path / "train")]),
        out=tmp_path / "out",
    )
    report = evaluate.evaluate(settings)
    assert report.labels == ("folder",)
    assert report.counted.classes == {"folder": 3}


def test_the_remedy_for_codes_with_the_same_keys_works(run_evaluate, drawn, tmp_path):
    for part, first in (("test", 0), ("train", 20)):
        members = [(name.replace(f"{number:03d}", f"{number - first:03d}"), data)
                   for number in range(first, first + 20) for name, data in labelled_members(number, 1)]  # fmt: skip
        write_tar(tmp_path / f"{part}.tar", members)

    def run(**how):
        for part in ("test", "train"):
            shards = expand([str(tmp_path / f"{part}.tar")])
            encode(shards, drawn / "model.safetensors", tmp_path / f"codes-{part}", EncodeSettings(**how))
        asked = ("--queries", tmp_path / "codes-test", "--database", tmp_path / "codes-train")
        return run_evaluate("full", *asked, "--label", "mid=fine,coarse=coarse", "--out", tmp_path / "out")

    code, _, err = run()
    assert code == 1
    assert "20 test images have the key of a training image" in err
    assert "encode again with `encoder encode --prefix-keys`" in err
    code, out, err = run(prefix_keys=True)
    assert code == 0, err
    assert "20 queries" in out
