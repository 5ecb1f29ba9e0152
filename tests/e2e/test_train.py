"""`encoder train` as a user meets it: train, encode with what came out, and wrong input."""

import pytest

from encoder.codes.file import list_code_files, open_codes
from encoder.levels import Level
from encoder.model.model_file import load_model

QUICK = ("--epochs", "1", "--batch", "16", "--image-size", "32", "--bits", "16", "--held-out", "0.2")


def test_a_model_is_trained_and_encodes(command, shards_folder, tmp_path):
    model = tmp_path / "model.safetensors"
    code, out, err = command("encoder", "train", shards_folder, "--out", model, *QUICK)
    assert code == 0, err
    assert out.startswith("trained on 48 images (12 held out, 0 rejected) by scratch; held-out scores: mid 0.")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert load_model(model).config.bits == dict.fromkeys(Level, 16)
    assert command("encoder", "encode", shards_folder, "--model", model, "--out", tmp_path / "codes")[0] == 0
    with open_codes(list_code_files([tmp_path / "codes"])[0]) as file:
        assert file.codes(Level.FUSED).shape == (20, 2)


def test_a_pretrained_backbone_is_trained_in_stages_and_the_article_has_one_code(command, shards_folder, tmp_path):
    weights = ("--backbone", "alexnet", "--weights", "none", "--image-size", "64", "--bits", "16", "--batch", "16")
    for recipe, levels in (("finetune", list(Level)), ("frozen", list(Level)), ("article", [Level.FUSED])):
        model = tmp_path / f"{recipe}.safetensors"
        arguments = ("--recipe", recipe, "--epochs", "0.5", *weights, "--out", model)
        code, out, err = command("encoder", "train", shards_folder, *arguments)
        assert code == 0, err
        assert f"by {recipe}" in out
        assert list(load_model(model).config.bits) == levels


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--loss", "cosine"), "no loss is called 'cosine'; the losses are contrastive, dsh"),
        (("--loss", "dqn"), "quantisation codes"),
        (("--loss", "ultra=csq"), "no level is called 'ultra'"),
        (("--label", "colour"), "no image has a label 'colour' (labels found: coarse, fine, name)"),
        (("--label", "mid=colour"), "no image has a label 'colour' (labels found: coarse, fine, name)"),
        (("--label", "fine,coarse"), "label 'fine,coarse' is neither FIELD nor LEVEL=FIELD"),
        (("--bits", "12"), "multiple of 8"),
        (("--weights", "missing.pth"), "missing.pth"),
        (("--backbone", "resnet7"), "no backbone is called 'resnet7'"),
        (("--device", "tpu"), "device 'tpu' is not available"),
    ],
)
def test_wrong_input_is_one_line(command, shards_folder, tmp_path, arguments, said):
    code, out, err = command("encoder", "train", shards_folder, "--out", tmp_path / "model", *QUICK[:4], *arguments)
    assert code == 1
    assert out == ""
    errors = [line for line in err.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert said in errors[0]
    assert not (tmp_path / "model").exists()


def test_a_model_is_not_replaced_unasked(command, shards_folder, model_path):
    before = model_path.read_bytes()
    code, _, err = command("encoder", "train", shards_folder, "--out", model_path)
    assert code == 1
    assert "--overwrite" in err
    assert model_path.read_bytes() == before
