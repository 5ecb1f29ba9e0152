"""A disk that takes no more: one line, exit code 1, nothing that looks finished, and the old index still answers.

RLIMIT_FSIZE stands in for the full disk: CPython ignores SIGXFSZ, so a write past the limit fails with EFBIG.
"""

import os
import resource
import subprocess
import sys

import pytest

from encoder.codes.file import open_codes
from indexer.verify import verify
from tests.support.processes import start


def assert_one_line(code, err):
    assert code == 1, err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, err
    assert "could not be written" in errors[0]
    assert "Traceback" not in err


@pytest.mark.parametrize("limit", [0, 100, 1000, 10_000, 15_000])
def test_encode(limit, shards_folder, model_path, tmp_path):
    codes = tmp_path / "codes"
    codes.mkdir()
    (codes / "model.safetensors").write_bytes(model_path.read_bytes())
    assert_one_line(*start("encoder", "encode", shards_folder, "--out", codes, file_limit=limit).finish())
    assert [path.name for path in codes.iterdir() if path.name != ".lock"] == ["model.safetensors"]


def test_a_process_that_is_limited_from_its_first_import_on(shards_folder, model_path, tmp_path):
    codes = tmp_path / "codes"
    codes.mkdir()
    (codes / "model.safetensors").write_bytes(model_path.read_bytes())
    run = subprocess.run(
        [sys.executable, "-m", "encoder", "encode", str(shards_folder), "--out", str(codes)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)), capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": ":".join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},  # else .pyc files are cut too
    )  # fmt: skip
    assert_one_line(run.returncode, run.stderr)
    assert [path.name for path in codes.iterdir() if path.name != ".lock"] == ["model.safetensors"]


@pytest.mark.parametrize("limit", [0, 50, 200, 500, 1000])
def test_build(command, limit, codes_folder, tmp_path):
    index = tmp_path / "index"
    codes = sorted(codes_folder.glob("*.h5"))
    arguments = ("indexer", "build", *codes, "--kind", "ivf", "--nlist", "4", "--out", index)
    assert command(*arguments)[0] == 0
    assert_one_line(*start(*arguments, "--overwrite", file_limit=limit).finish())
    assert verify(index, lambda *_: None).ntotal == 60
    assert [path.name for path in index.glob("gen-*")] == ["gen-000001"]


def test_what_was_finished_before_stays(command, shards_folder, model_path, tmp_path):
    codes = tmp_path / "codes"
    shard = shards_folder / "part-0000.tar"
    assert command("encoder", "encode", shard, "--model", model_path, "--out", codes)[0] == 0
    assert_one_line(*start("encoder", "encode", shards_folder, "--out", codes, file_limit=5000).finish())
    [path] = codes.glob("*.h5")
    with open_codes(path) as file:
        assert file.header.rows == 20
