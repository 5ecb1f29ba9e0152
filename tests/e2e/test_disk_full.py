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


def run_limited(limit, *arguments):
    def shrink():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        preexec_fn=shrink,
        capture_output=True,
        text=True,
        env=os.environ
        | {"PYTHONPATH": ":".join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},  # else .pyc files are cut too
        check=False,
    )


def assert_one_line(run):
    assert run.returncode == 1, run.stderr
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, run.stderr
    assert "could not be written" in errors[0]
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("limit", [0, 100, 1000, 10_000, 15_000])
def test_encode(limit, shards_folder, model_path, tmp_path):
    codes = tmp_path / "codes"
    codes.mkdir()
    (codes / "model.safetensors").write_bytes(model_path.read_bytes())
    assert_one_line(run_limited(limit, "encoder", "encode", shards_folder, "--out", codes))
    assert [path.name for path in codes.iterdir() if path.name != ".lock"] == ["model.safetensors"]


@pytest.mark.parametrize("limit", [0, 50, 200, 500, 1000])
def test_build(limit, codes_folder, index_folder, tmp_path):
    index = tmp_path / "index"
    arguments = (
        "indexer",
        "build",
        *sorted(codes_folder.glob("*.h5")),
        "--kind",
        "ivf",
        "--nlist",
        "4",
        "--out",
        index,
    )
    assert run_limited(resource.RLIM_INFINITY, *arguments).returncode == 0
    assert_one_line(run_limited(limit, *arguments, "--overwrite"))
    assert verify(index, lambda *_: None).ntotal == 60
    assert [path.name for path in index.glob("gen-*")] == ["gen-000001"]


def test_what_was_finished_before_stays(shards_folder, model_path, tmp_path):
    codes = tmp_path / "codes"
    assert (
        run_limited(
            resource.RLIM_INFINITY,
            "encoder",
            "encode",
            shards_folder / "part-0000.tar",
            "--model",
            model_path,
            "--out",
            codes,
        ).returncode
        == 0
    )
    assert_one_line(run_limited(5000, "encoder", "encode", shards_folder, "--out", codes))
    [path] = codes.glob("*.h5")
    with open_codes(path) as file:
        assert file.header.rows == 20
