"""Where an export goes, as the command line says it; files are tried in tests/e2e/test_in_and_out.py."""

import json

import lance
import numpy as np
import pytest

from encoder.levels import Level
from indexer.build import build
from indexer.settings import BuildSettings


@pytest.fixture
def index(tmp_path, write_codes, rng):
    write_codes("a", {Level.FINE: rng.integers(0, 256, (10, 8), np.uint8)}, labels=[{"a.b": 1}] * 10)
    build([tmp_path / "codes/a.h5"], tmp_path / "index", BuildSettings())
    return tmp_path / "index"


def test_a_lance_dataset(index, command, tmp_path):
    out = tmp_path / "rows.lance"
    code, said, err = command("indexer", "export", out, "--to", "lance", "--index", index)
    assert code == 0
    assert said.splitlines()[0].startswith(f"10 rows of {index} (gen-000001) in {out}, 0.0 MB")
    assert said.splitlines()[1] == "  columns: key, row, codes_fine, a_b"
    assert err == "label 'a.b' is column a_b\n"
    assert lance.dataset(str(out)).count_rows() == 10
    code, _, err = command("indexer", "export", out, "--to", "lance", "--index", index)
    assert code == 1
    assert "exists; choose another folder, or replace it (--overwrite)" in err
    code, said, _ = command("indexer", "export", out, "--to", "lance", "--index", index, "--overwrite", "--json")
    assert (code, json.loads(said)["rows"]) == (0, 10)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--to", "lance", "--form", "npy"), "--form: is for --to files, not lance"),
        (("--uri", "http://127.0.0.1:1"), "--uri: is for --to milvus, not files"),
        (("--to", "lance", "--nlist", "4"), "--nlist: is for --to milvus, not lance"),
        (("--to", "lance", "--token-file", "token"), "--token-file: is for --to milvus, not lance"),
        (("--to", "milvus"), "--uri: no server; expected its address (http://HOST:19530)"),
    ],
)
def test_options_of_another_target_are_refused(index, command, given, said):
    code, _, err = command("indexer", "export", "out", *given, "--index", index)
    assert code == 2
    assert said in " ".join(err.split())


def test_what_is_not_the_address_of_a_server_is_one_line(index, command):
    code, _, err = command("indexer", "export", "c", "--to", "milvus", "--uri", "milvus.db", "--index", index)
    assert code == 1
    assert "is not the address of a Milvus server; give one like http://HOST:19530" in err
