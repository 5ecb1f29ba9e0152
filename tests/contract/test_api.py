"""The Python in the documents runs as it stands, and says what the text around it says."""

from pathlib import Path

import numpy as np
import pytest

from encoder.codes.file import list_code_files
from encoder.hashing.fit_model import FitSettings, fit
from encoder.hashing.names import HashKind
from encoder.images.expand import expand
from encoder.levels import Level
from encoder.model.spec import BackboneSpec
from encoder.model.weights import NO_WEIGHTS
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings
from indexer.build import build
from indexer.settings import BuildSettings
from tests.support.collection import blocks, draw_collection

LSH = FitSettings(BackboneSpec("alexnet"), NO_WEIGHTS, HashKind.LSH, dict.fromkeys(Level, 64), image_size=64, sample=64)


@pytest.fixture
def collection(tmp_path, monkeypatch):
    """A folder with model.safetensors and index beside the pictures, and the current one."""
    draw_collection(tmp_path)
    monkeypatch.chdir(tmp_path)
    shards = expand(["shards"])
    fit(shards, LSH, Path("model.safetensors"), lambda *_: None)
    encode(shards, Path("model.safetensors"), Path("codes"), EncodeSettings())
    build(list_code_files([Path("codes")]), Path("index"), BuildSettings())


def run(document):
    """Run the Python blocks of a document, one after another; return what they leave."""
    left: dict[str, object] = {}
    for number, block in enumerate(blocks(document, "python")):
        exec(compile(block, f"{document} block {number}", "exec"), left)
    return left


def test_the_reference_runs_and_finds_what_it_says(collection):
    left = run("docs/API.md")
    assert [hit.rank for hit in left["answer"]] == [1, 2, 3, 4, 5]
    assert left["best"].key == "train-00017"
    assert len(left["part"]) == 10
    assert left["why"].agreeing == 64 - left["best"].distance
    assert left["image_file"] == Path("photo.jpg").read_bytes()
    assert all(hit.labels["fine"] == 3 for hit in left["near"])
    assert "train-00017" not in [hit.key for hit in left["near"]]
    assert left["answers"][1][0].key == "train-00017"
    assert len(left["answers"][1].survivors) == 3
    assert (left["codes"].shape, left["codes"].dtype) == ((2, 8), np.uint8)
    assert (left["logits"].shape, left["logits"].dtype) == ((2, 64), np.float32)
    assert left["same"][0].key == left["best"].key
    assert left["matches"][0].distances[0] == 0
    assert (left["report"].rows, left["exported"].rows, left["taken_in"].rows) == (192, 192, 292)


def test_the_first_example_of_the_readme_runs(collection):
    assert run("README.md")
