"""The built-in model: it is whole, it says what it is, and it is there when nothing can be downloaded."""

from urllib.error import URLError

import pytest
import torch

from encoder.codes.file import list_code_files, open_codes
from encoder.levels import Level
from encoder.model.builtin import BUILTIN
from encoder.model.model_file import load_model
from encoder.runtime.publish import sha256_of


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))


def test_the_box_holds_a_small_model_with_its_training_record():
    assert BUILTIN.stat().st_size <= 6_000_000
    model = load_model(BUILTIN)
    assert model.config.bits == dict.fromkeys(Level, 64)
    record = model.config.record
    assert record["images"] + record["held_out"] == 50_000
    assert len(record["history"]) >= 40
    assert not any("test" in shard["name"] for shard in record["shards"])


def test_without_network_and_weights_encode_takes_the_box_and_says_so(command, shards_folder, tmp_path, no_network):
    code, _, err = command("encoder", "encode", shards_folder, "--out", tmp_path / "codes")
    assert code == 0, err
    assert "using the small model that comes with the program" in err
    with open_codes(list_code_files([tmp_path / "codes"])[0]) as file:
        assert file.header.fingerprint == sha256_of(BUILTIN)


def test_weights_that_were_asked_for_are_not_replaced(command, shards_folder, tmp_path, no_network):
    code, _, err = command("encoder", "encode", shards_folder, "--out", tmp_path / "codes", "--weights", "DEFAULT")
    assert code == 1
    assert "could not be downloaded" in err
    assert not list((tmp_path / "codes").glob("*.h5"))
