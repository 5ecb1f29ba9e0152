"""A disk that fails while a file is read for its digest is told in one line, whatever the file is."""

import shutil

import pytest
import torch

from encoder.codes.file import list_code_files, open_codes
from encoder.errors import HashgrainError, Reason
from encoder.images.expand import expand
from encoder.images.labels.table_files import read_table
from encoder.model import model_file
from encoder.model.builtin import BUILTIN
from encoder.model.model_file import load_model
from encoder.model.weights import load_backbone
from encoder.runtime import files, publish
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings
from indexer.build import build
from indexer.settings import BuildSettings
from tests.support.pictures import encoded, write_tar


@pytest.fixture(scope="module")
def encoded_folder(tmp_path_factory):
    """A shard and the code file of it."""
    folder = tmp_path_factory.mktemp("encoded")
    write_tar(folder / "shards/part.tar", [(f"{number}.jpg", encoded(number)) for number in range(3)])
    again(folder)
    return folder


def again(folder):
    encode(expand([str(folder / "shards")]), BUILTIN, folder / "codes", EncodeSettings(batch=4, workers=1))


def read_codes(folder):
    with open_codes(list_code_files([folder / "codes"])[0]):
        pass


def read_model(folder):
    load_model(folder / "codes/model.safetensors")


def build_beside(folder):
    build(list_code_files([folder / "codes"]), folder / "index", BuildSettings())


def read_labels(folder):
    (folder / "labels.csv").write_text("key,row\n0,1\n")
    return read_table(folder / "labels.csv").digest


def read_weights(folder):
    model, weights = load_model(BUILTIN), folder / "weights.pt"
    torch.save(model.network.backbone.net.state_dict(), weights)
    load_backbone(model.config.backbone, str(weights), 0)


@pytest.mark.parametrize(
    ("name", "read", "reason"),
    [
        ("part", read_codes, Reason.CODES_MISSING),
        ("model", again, Reason.MODEL_INVALID),
        ("model", read_model, Reason.MODEL_INVALID),
        ("model", build_beside, Reason.MODEL_INVALID),
        ("labels", read_labels, Reason.BAD_VALUE),
        ("weights", read_weights, Reason.WEIGHTS_UNAVAILABLE),
    ],
)
def test_a_file_that_cannot_be_read_for_its_digest_is_named_with_what_the_system_said(
    encoded_folder, tmp_path, monkeypatch, name, read, reason
):
    folder = shutil.copytree(encoded_folder, tmp_path / "copy")
    read(folder)
    shutil.rmtree(folder / "index", ignore_errors=True)
    real = files.open_regular

    def fail(path, *arguments, **words):
        if path.name.startswith(name):
            raise OSError(5, "Input/output error")
        return real(path, *arguments, **words)

    monkeypatch.setattr(publish, "open_regular", fail)
    with pytest.raises(HashgrainError) as caught:
        read(folder)
    assert caught.value.reason is reason
    assert "Input/output error" in str(caught.value)
    assert not (folder / "index/CURRENT").exists()


def test_a_model_that_torch_cannot_map_is_told_in_one_line(monkeypatch):
    def fail(_):
        raise RuntimeError("unable to mmap 5900346 bytes")

    monkeypatch.setattr(model_file, "load_file", fail)
    with pytest.raises(HashgrainError) as caught:
        load_model(BUILTIN)
    assert caught.value.reason is Reason.MODEL_INVALID


def test_the_fingerprint_of_a_model_is_the_digest_of_its_file_which_is_not_read_again(tmp_path, monkeypatch):
    model, path = load_model(BUILTIN), tmp_path / "model.safetensors"

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(publish, "open_regular", fail)
    fingerprint = model_file.save_model(path, model.config, model.network)
    monkeypatch.undo()
    assert fingerprint == publish.sha256_of(path)
