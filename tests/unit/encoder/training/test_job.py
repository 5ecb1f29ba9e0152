"""The trainer below the command line, on drawn pictures of two kinds and four classes."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from encoder.errors import HashgrainError, Reason
from encoder.images.expand import expand
from encoder.levels import Level
from encoder.model.model_file import load_model
from encoder.model.network import HashNetwork
from encoder.model.spec import BackboneSpec, Normalisation, Precision
from encoder.training import loop
from encoder.training.job import CHECKPOINT, Machine, train
from encoder.training.learner import HashLearner
from encoder.training.losses.names import LossKind
from encoder.training.recipes import Recipe, settings_for
from encoder.training.settings import Phase, TrainSettings
from tests.support.pictures import write_tar

LABELLED = (Level.MID, Level.COARSE, Level.FUSED)
SETTINGS = TrainSettings(
    phases=(Phase(6, 0.2, LABELLED, trunk=1.0), Phase(2, 0.1, (Level.FINE,))),
    backbone=BackboneSpec("threeblock", widths=(8, 16, 16)),
    bits=dict.fromkeys(Level, 16),
    exits={Level.FINE: (8,), Level.MID: (16,)},
    losses={Level.FINE: LossKind.CONTRASTIVE_VIEWS},
    batch=64,
    held_out=0.2,
)


def picture(number):
    """Stripes or checks (kind), in red or blue (class), at a random offset under noise."""
    rng = np.random.default_rng(number)
    kind, colour = number % 2, number // 2 % 2
    y, x = np.mgrid[:32, :32] + rng.integers(0, 8, (2, 1, 1))
    on = (x // 4 % 2 if kind else (x // 4 + y // 4) % 2)[..., None]
    tint = np.array([200, 40, 40] if colour else [40, 40, 200])
    pixels = on * tint + (1 - on) * 120 + rng.normal(0, 25, (32, 32, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    label = {"fine": 2 * kind + colour, "coarse": kind}
    return [(f"{number:04d}.png", buffer.getvalue()), (f"{number:04d}.json", json.dumps(label).encode())]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stripes")
    for part in range(2):
        members = [member for number in range(160 * part, 160 * part + 160) for member in picture(number)]
        write_tar(folder / f"{part}.tar", members)
    return expand([str(folder / "*.tar")])


def run(shards, out, settings=SETTINGS, progress=lambda _: None):
    return train(shards, settings, out, progress, machine=Machine("cpu", Precision.FP32))


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "model.safetensors"
    return run(shards, out), out


def test_training_learns_what_each_level_is_asked(trained):
    report, out = trained
    assert report.images + report.held_out == 320
    assert report.held_out == 64
    assert report.scores["mid"] > 0.9  # 0.25 by chance
    assert report.scores["coarse"] > 0.9  # 0.5 by chance
    assert report.scores["fused"] > 0.9
    assert report.scores["fine"] > 0.03  # 0.016 by chance, and the pictures hardly differ
    record = load_model(out).config.record
    assert record["images"] == 256
    assert [shard["images"] for shard in record["shards"]] == [160, 160]
    assert len(record["history"]) == 8
    assert record["history"][0]["loss"]["fused"] > record["history"][5]["loss"]["fused"]
    assert not out.with_name(out.name + CHECKPOINT).exists()


def test_the_same_seed_gives_the_same_file_and_another_another(shards, trained, tmp_path):
    assert run(shards, tmp_path / "same").fingerprint == trained[0].fingerprint
    assert run(shards, tmp_path / "other", replace(SETTINGS, seed=1)).fingerprint != trained[0].fingerprint


@pytest.mark.parametrize("cut", [3, 14, 27])
def test_a_training_that_was_cut_ends_as_if_it_had_not_been(shards, trained, tmp_path, monkeypatch, cut):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    steps = 0

    def kill(_):
        nonlocal steps
        steps += 1
        if steps == cut:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(shards, tmp_path / "model", progress=kill)
    assert (tmp_path / f"model{CHECKPOINT}").exists()
    again = 0

    def count(_):
        nonlocal again
        again += 1

    assert run(shards, tmp_path / "model", progress=count).fingerprint == trained[0].fingerprint
    assert again < 32 - cut + 2  # it went on; it did not begin again


def test_a_checkpoint_of_other_settings_is_refused_and_kept(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    with pytest.raises(ZeroDivisionError):
        run(shards, tmp_path / "model", progress=lambda at: 1 / (at.share < 0.05))
    left = (tmp_path / f"model{CHECKPOINT}").read_bytes()
    with pytest.raises(HashgrainError, match="other images or settings") as caught:
        run(shards, tmp_path / "model", replace(SETTINGS, seed=5))
    assert caught.value.reason is Reason.EXISTS
    assert (tmp_path / f"model{CHECKPOINT}").read_bytes() == left
    (tmp_path / f"model{CHECKPOINT}").write_bytes(b"junk")
    with pytest.raises(HashgrainError, match="not a readable checkpoint"):
        run(shards, tmp_path / "model")


def test_two_processes_train_what_one_trains(shards, tmp_path):
    script = (
        "import sys; from pathlib import Path; from tests.unit.encoder.training.test_job import SETTINGS, PROCESSES, run;"
        "from encoder.images.expand import expand;"
        "run(expand([sys.argv[1]]), Path(sys.argv[2]), PROCESSES)"
    )
    pattern = str(Path(shards[0].path).with_name("*.tar"))
    run(shards, tmp_path / "one", PROCESSES)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    command = [*launch, sys.executable, "-c", script, pattern, str(tmp_path / "two")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    one, two = load_file(tmp_path / "one"), load_file(tmp_path / "two")
    assert one.keys() == two.keys()
    for name, values in one.items():
        assert torch.allclose(values, two[name], atol=2e-3, rtol=2e-3), name


PROCESSES = replace(SETTINGS, phases=(Phase(1, 0.05, LABELLED, trunk=1.0), Phase(1, 0.05, (Level.FINE,))), batch=128)


@pytest.mark.parametrize("standardise", [True, False])
def test_a_folded_hash_layer_is_the_one_that_was_trained(standardise):
    torch.manual_seed(0)
    learner = HashLearner(10, 16, standardise)
    for _ in range(5):
        learner(3 + 2 * torch.randn(64, 10))
    learner.eval()
    features = 3 + 2 * torch.randn(20, 10)
    weight, bias = learner.folded()
    assert torch.allclose(learner(features), features @ weight.T + bias, atol=1e-4)


def test_classes_that_are_left_out_are_named_and_not_trained_on(shards, tmp_path):
    settings = replace(SETTINGS, phases=(Phase(1, 0.1, LABELLED, trunk=1.0),), classes_left_out=0.25)
    report = run(shards, tmp_path / "model", settings)
    assert report.images + report.held_out == 240
    assert len(load_model(tmp_path / "model").config.record["classes_left_out"]) == 1


@pytest.mark.parametrize("kind", [kind for kind in LossKind if kind not in {LossKind.CONTRASTIVE_VIEWS, LossKind.DQN}])
def test_every_loss_trains_end_to_end(shards, tmp_path, kind):
    settings = replace(
        SETTINGS, phases=(Phase(4, 0.05, (Level.FUSED,), trunk=1.0),), bits={Level.FUSED: 16}, exits={},
        losses={Level.FUSED: kind}, nested=False,
    )  # fmt: skip
    report = run(shards, tmp_path / "model", settings)
    assert report.scores["fused"] > 0.4  # 0.25 by chance


def test_a_phase_ends_when_the_held_out_score_stays(shards, tmp_path):
    still = replace(SETTINGS, phases=(Phase(9, 0.0, (Level.FUSED,)),), patience=2)
    run(shards, tmp_path / "model", still)
    scores = [row["score"]["fused"] for row in load_model(tmp_path / "model").config.record["history"]]
    assert 3 <= len(scores) < 9
    assert max(scores) == max(scores[:-2])


def test_a_loss_that_is_no_number_any_more_ends_the_training(shards, tmp_path):
    wild = replace(SETTINGS, phases=(Phase(6, 1e30, LABELLED, trunk=1.0),))
    with pytest.raises(HashgrainError, match="the loss of mid is nan at step") as caught:
        run(shards, tmp_path / "model", wild)
    assert caught.value.reason is Reason.TRAINING_DIVERGED
    assert not (tmp_path / "model").exists()


def test_a_phase_keeps_its_last_epoch_that_is_not_clearly_worse_than_the_best(shards, tmp_path, monkeypatch):
    scores, seen = [0.5, 0.9, 0.88, 0.6], []  # 64 held-out images: the error of a score is at most 0.0625

    def scripted(learner, *_):
        seen.append(learner.network.pool(Level.COARSE).conv.weight.detach().clone())
        return {"fused": scores[len(seen) - 1]}

    monkeypatch.setattr(loop, "held_out_scores", scripted)
    report = run(shards, tmp_path / "model", replace(SETTINGS, phases=(Phase(4, 0.1, (Level.FUSED,), trunk=1.0),)))
    kept = load_model(tmp_path / "model").network.pool(Level.COARSE).conv.weight
    assert [torch.equal(kept, weight) for weight in seen] == [False, False, True, False]
    assert report.scores == {"fused": 0.88}
    history = load_model(tmp_path / "model").config.record["history"]
    assert [row["kept"] for row in history] == [True, True, True, False]


def test_levels_that_learn_from_views_and_from_labels_share_a_phase(shards, tmp_path):
    phases = (Phase(4, 0.1, (Level.FINE, Level.FUSED), trunk=1.0),)
    report = run(shards, tmp_path / "model", replace(SETTINGS, phases=phases))
    assert report.scores["fused"] > 0.5
    assert set(report.scores) == {"fine", "fused"}


def test_without_labels_every_level_learns_from_views(shards, tmp_path):
    losses = dict.fromkeys(Level, LossKind.CONTRASTIVE_VIEWS)
    settings = replace(SETTINGS, phases=(Phase(2, 0.1, tuple(Level), trunk=1.0),), losses=losses, labels={})
    assert set(run(shards, tmp_path / "model", settings).scores) == set(Level)


def test_a_level_without_labels_says_what_to_give(shards, tmp_path):
    with pytest.raises(HashgrainError, match="level mid is to learn by orthohash, but the images have no labels"):
        run(shards, tmp_path / "model", replace(SETTINGS, labels={}))
    with pytest.raises(HashgrainError, match="no image has a label 'colour' .labels found: coarse, fine."):
        run(shards, tmp_path / "model", replace(SETTINGS, labels={Level.MID: "colour"}))
    some = [member for number in range(8) for member in picture(number)[: 1 + (number < 5)]]
    with pytest.raises(HashgrainError, match="image a:0005 has no label 'fine' for level mid .its labels: none."):
        run(expand([str(write_tar(tmp_path / "a.tar", some))]), tmp_path / "model")


@pytest.mark.parametrize("field", ["fine", "kind"])
def test_data_with_one_label_teach_it_to_every_level_that_learns_from_labels(tmp_path, field):
    members = [member for number in range(160) for member in picture(number)]
    kept = [(name, json.dumps({field: json.loads(data)["fine"]}).encode() if name.endswith("json") else data)
            for name, data in members]  # fmt: skip
    report = run(expand([str(write_tar(tmp_path / "a.tar", kept))]), tmp_path / "model")
    assert set(report.scores) == set(Level)
    assert load_model(tmp_path / "model").config.record["settings"]["labels"] == {"mid": field}


def test_a_recipe_scales_its_phases_and_has_the_levels_it_trains():
    settings = settings_for(Recipe.SCRATCH, dict.fromkeys(Level, 32), 16)
    assert [phase.epochs for phase in settings.phases] == [16, 4]
    assert settings.bits == dict.fromkeys(Level, 32)
    article = settings_for(Recipe.ARTICLE, dict.fromkeys(Level, 48))
    assert article.bits == {Level.FUSED: 48}


def trunk_of(path):
    return {name: tensor for name, tensor in load_file(path).items() if name.startswith("backbone.")}


def test_hash_layers_learn_from_features_that_were_computed_once_and_go_on_after_a_cut(shards, trained, tmp_path):
    phases = (Phase(6, 0.1, LABELLED, copies=3), Phase(4, 0.1, (Level.FINE,), copies=4))
    settings = replace(SETTINGS, weights=str(trained[1]), exits={}, phases=phases)
    report = run(shards, tmp_path / "model", settings)
    assert report.scores["fused"] > 0.9
    assert all(torch.equal(tensor, trunk_of(tmp_path / "model")[name]) for name, tensor in trunk_of(trained[1]).items())

    def cut(at):
        if at.loss and at.phase == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(shards, tmp_path / "again", settings, cut)
    assert run(shards, tmp_path / "again", settings).fingerprint == report.fingerprint


def norms_of(tensors):
    return {name: tensor for name, tensor in tensors.items() if "running" in name}


def test_a_trained_models_trunk_serves_another_training_which_leaves_it_alone(shards, trained, tmp_path):
    given = replace(SETTINGS, weights=str(trained[1]))
    frozen = replace(given, phases=(Phase(2, 0.1, LABELLED), Phase(1, 0.1, (Level.FINE,))))
    assert run(shards, tmp_path / "frozen.safetensors", frozen).scores["fused"] > 0.9
    before, after = trunk_of(trained[1]), trunk_of(tmp_path / "frozen.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_norms_keep_the_statistics_of_the_given_weights(shards, trained, tmp_path, frozen):
    phases = (Phase(1, 0.1, LABELLED, trunk=0.3),)
    given = replace(SETTINGS, weights=str(trained[1]), phases=phases, frozen_norms=frozen)
    run(shards, tmp_path / "model", given)
    before, after = trunk_of(trained[1]), trunk_of(tmp_path / "model")
    assert not torch.equal(before["backbone.block3.conv1.weight"], after["backbone.block3.conv1.weight"])
    same = [torch.equal(tensor, norms_of(after)[name]) for name, tensor in norms_of(before).items()]
    assert same
    assert all(same) if frozen else not any(same)


def test_the_article_has_no_norms_to_fold(shards, tmp_path):
    article = replace(
        settings_for(Recipe.ARTICLE, {Level.FUSED: 16}, 2), backbone=SETTINGS.backbone, weights="none", image_size=32,
    )  # fmt: skip
    report = run(shards, tmp_path / "model", article)
    network = load_model(tmp_path / "model").network
    assert isinstance(network, HashNetwork)
    assert network.normalisation is Normalisation.NONE
    assert network.levels == [Level.FUSED]
    assert set(report.scores) == {"fused"}


def test_a_process_of_several_touches_its_own_gpu_alone(monkeypatch):
    touched = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", lambda *_, device: touched.append(str(device)))
    for name in ("cuda", "auto"):
        assert Machine(name, Precision.FP32).resolve() == (torch.device("cuda:1"), torch.float32)
    assert touched == ["cuda:1", "cuda:1"]
