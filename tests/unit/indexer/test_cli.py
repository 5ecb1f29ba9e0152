"""Commands about this machine, and what only a command line says of a query."""

import json
import re
import shutil

import pytest

import indexer
from encoder.images.region import Region, RegionMode
from indexer import ByExamples, ByKey
from indexer.engines.scan.kernel_cache import VARIABLE
from indexer.index import Index
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


def test_examples_are_queries_by_themselves_and_beside_others(command, index_folder):
    query = ("indexer", "query", "--level", "fine", "-k", "4", "--index", index_folder)
    index = indexer.open(index_folder)
    for what, start in ((), None), (("key:pic-007",), ByKey("pic-007")):
        code, out, err = command(*query, *what, "--like", "pic-003", "--like", "key:pic-012", "--dislike", "pic-040")
        expected = index.query(ByExamples(("pic-003", "pic-012"), ("pic-040",), start), level="fine", k=4)
        assert (code, err) == (0, "")
        assert [line.split()[4] for line in out.splitlines()[1:]] == [hit.key for hit in expected]
        assert out.startswith(f"{expected.query} (fine)\n")
    for arguments in ((), ("--dislike", "pic-040")):
        code, out, err = command(*query, *arguments)
        assert (code, out) == (2, "")
        assert "nothing to look for; give an image file" in err


def test_the_page_of_examples_shows_the_first_liked_one(command, index_folder, tmp_path):
    page = tmp_path / "page.html"
    code, _, _ = command(
        "indexer", "query", "--like", "pic-003", "--dislike", "pic-040", "--index", index_folder, "--save-html", page
    )
    assert code == 0
    assert "weighted distance to the examples" in page.read_text()
    assert "a code has no picture" not in page.read_text()


def test_a_calibrated_index_says_that_nothing_is_similar(command, index_folder, tmp_path):
    path = shutil.copytree(index_folder, tmp_path / "index")
    code, _, err = command("indexer", "calibrate", "--index", path, "--label", "fine=fine,mid=kind")
    assert code == 1
    assert "label 'kind' is not in" in err
    code, out, _ = command("indexer", "calibrate", "--index", path, "--levels", "fine,mid", "--label", "label.fine")
    assert code == 0
    assert out.startswith("fine: 60 images asked for 60 rows, unrelated: another label.fine\n")
    assert re.search(r"  0.01 per query: (within \d+ bits?|not even equal codes)", out)
    info = command("indexer", "info", "--index", path)[1]
    assert len(re.findall(r"    cut-offs by unrelated images per query \(.*\): 0.001: .*, 0.01: .*, 0.1: ", info)) == 2
    query = ("indexer", "query", "key:pic-007", "--exclude-self", "--level", "fine", "--index", path)
    nearest = indexer.open(path).query(ByKey("pic-007"), level="fine", k=1, exclude_self=True)[0].distance
    code, out, err = command(*query, "--max-false", "1e-9")
    assert (code, err) == (0, "")
    assert out.splitlines()[1].startswith(f"  nothing similar: the nearest is {nearest} bits away, ")
    code, out, err = command(*query, "--max-false", "1e-9", "--json")
    assert (code, out) == (0, "")
    assert err.startswith("key:pic-007: nothing similar: the nearest is ")
    assert len(command(*query, "--max-false", "60", "--json")[1].splitlines()) == 10
    code, _, err = command("indexer", "query", "key:pic-007", "--level", "coarse", "--index", path, "--max-false", "1")
    assert code == 1
    assert "level coarse" in err
    assert "was not calibrated; calibrate the index first" in err
    assert err.count("\n") == 1


def test_a_region_of_a_picture_or_a_row_is_searched(command, index_folder):
    index = Index(index_folder)
    for mode in RegionMode:
        query = ("indexer", "query", "key:pic-007", "--index", index_folder, "--json", "-k", 5)
        code, out, _ = command(*query, "--region", "0.1,0.2,0.5,0.5", "--region-mode", mode)
        assert code == 0
        expected = index.query(ByKey("pic-007", Region(0.1, 0.2, 0.5, 0.5), mode), k=5)
        assert [json.loads(line) for line in out.splitlines()] == [hit.as_dict() for hit in expected]
    code, _, err = command(*query, "--region", "0.9,0,0.5,1")
    assert (code, err.count("\n")) == (1, 1)
    assert "its width is not inside the picture" in err


def test_explain_says_how_many_bits_agree_and_writes_the_page(command, index_folder, tmp_path):
    code, out, err = command(
        "indexer", "explain", "key:pic-007", "pic-012", "--level", "fine", "--index", index_folder,
        "--save-html", tmp_path / "why.html",
    )  # fmt: skip
    assert code == 0
    [hit] = [each for each in Index(index_folder).query(ByKey("pic-007"), level="fine", k=60) if each.key == "pic-012"]
    assert out.startswith(f"key:pic-007 and pic-012 (fine): {64 - hit.distance} of 64 bits agree\n  query  total ")
    assert f"page written to {tmp_path / 'why.html'}" in err
    assert f"{64 - hit.distance} of 64 bits agree at fine" in (tmp_path / "why.html").read_text()
    code, _, err = command("indexer", "explain", "key:pic-007", "nobody", "--index", index_folder)
    assert (code, err.count("\n")) == (1, 1)
