"""Commands that are about this machine, not about an index."""

import json

import pytest

from indexer.engines.scan.kernel_cache import VARIABLE
from tests.support.one_gpu import OneGpu, installed

NOWHERE = "/dev/null/nowhere"


def test_warm_keeps_the_kernels_and_info_says_so(command, index_folder):
    code, out, _ = command("indexer", "warm")
    assert code == 0
    assert "the scan is compiled and kept in /" in out
    code, out, _ = command("indexer", "info", "--index", index_folder)
    assert code == 0
    assert "engine: faiss, and the scan, whose kernels are kept on disk" in out
    assert json.loads(command("indexer", "info", "--index", index_folder, "--json")[1])["engine"].startswith(
        "faiss, and"
    )


def test_info_says_when_kernels_are_not_there(command, index_folder, monkeypatch):
    monkeypatch.setattr("indexer.engines.scan.kits.load", lambda _: False)
    assert "engine: faiss, and the scan when it is compiled" in command("indexer", "info", "--index", index_folder)[1]


@pytest.mark.parametrize("folders", [[], [NOWHERE]])
def test_warm_that_can_keep_nothing_says_what_to_do(command, monkeypatch, tmp_path, folders):
    monkeypatch.setattr(
        "indexer.engines.scan.kernel_cache.folders", lambda _: [tmp_path / "file" / each for each in folders]
    )
    (tmp_path / "file").touch()
    code, _, err = command("indexer", "warm")
    assert code == 1
    assert VARIABLE in err
    assert err.count("\n") == 1


def test_a_gpu_whose_memory_is_short_is_one_notice_and_no_less_of_an_answer(command, index_folder, monkeypatch):
    query = ("indexer", "query", *[f"key:pic-{number:03}" for number in range(9)], "--index", index_folder, "--json")
    scanned = command(*query, "--engine", "scan")
    with installed(monkeypatch, OneGpu(memory=0)):
        code, out, err = command(*query, "--engine", "gpu")
    assert (code, out) == scanned[:2]
    assert err.count("\n") == 1
    assert "GPU memory is short for 60 codes of 64 bits" in err
