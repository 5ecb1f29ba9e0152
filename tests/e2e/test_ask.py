"""What `indexer query` can be asked beyond one level and k."""

import json

import numpy as np
import pytest

from encoder.bits import unpack
from encoder.levels import Level
from indexer.index import Index
from tests.support.pictures import encoded


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(33))
    return path


@pytest.fixture
def asking(command, index_folder):
    """Run `indexer query ... --json` and return the hits."""

    def ask(*arguments):
        code, out, err = command("indexer", "query", *arguments, "--index", index_folder, "--json")
        assert code == 0, err
        return [json.loads(line) for line in out.splitlines()]

    return ask


def test_a_cascade_says_how_many_rows_each_level_left_over(command, index_folder):
    code, out, err = command(
        "indexer", "query", "key:pic-007", "--index", index_folder, "--levels", "coarse,mid,fine", "--budgets", "30,12", "-k", 4,
        "--explain",
    )  # fmt: skip
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == "key:pic-007 (coarse,mid,fine by cascade)"
    assert lines[1] == "  rows left over by each level: 30, 12, 4"
    assert lines[2].split()[:4] == ["1", "0", "bits", "pic-007"]
    assert lines[3].split() == ["coarse", "0", "mid", "0", "fine", "0"]
    assert len(lines) == 2 + 2 * 4


@pytest.mark.parametrize("how", ["sum", "rrf", "cascade"])
def test_every_combination_finds_the_picture_itself(asking, how):
    hits = asking("key:pic-007", "--levels", "coarse,mid,fused", "--combine", how, "-k", 3)
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert hits[0]["key"] == "pic-007"
    assert hits[0]["level"] == "fused"
    assert hits[0]["distances"] == {"coarse": 0, "mid": 0, "fused": 0}


def test_a_cascade_within_radii_is_every_row_within_them(asking, index_folder):
    index = Index(index_folder)
    radii, row = {Level.COARSE: 32, Level.MID: 32}, np.array([7])
    distances = {
        level: np.bitwise_count(index.codes(level, row) ^ index.codes(level, np.arange(60))).sum(axis=1)
        for level in radii
    }
    inside = np.flatnonzero((distances[Level.COARSE] <= 32) & (distances[Level.MID] <= 32))
    hits = asking("key:pic-007", "--levels", "coarse,mid", "--radii", "32,32", "-k", 60)
    assert sorted(hit["row"] for hit in hits) == inside.tolist()
    assert 1 < len(inside) < 60


def test_explain_tells_the_distance_at_every_level(asking, index_folder):
    index = Index(index_folder)
    [hit] = asking("key:pic-007", "--explain", "-k", 1, "--level", "mid")
    assert hit["distances"] == dict.fromkeys(["fine", "mid", "coarse", "fused"], 0)
    last = asking("key:pic-007", "--explain", "-k", 60, "--level", "mid")[-1]
    for level in Level:
        pair = index.codes(level, np.array([7, last["row"]]))
        assert last["distances"][level] == np.bitwise_count(pair[0] ^ pair[1]).sum()


def test_rerank_says_how_many_of_a_radius_are_wanted(asking, photo):
    assert len(asking(photo, "--level", "mid", "--radius", 64, "--rerank", 7)) == 7


def test_rerank_orders_by_how_sure_the_query_is_of_each_bit(asking, index_folder, photo):
    index = Index(index_folder)
    logits = index.encoder.encode([photo], [Level.MID]).logits[Level.MID][0]
    hits = asking(photo, "--level", "mid", "--rerank", 20, "-k", 5)
    assert {hit["row"] for hit in hits} <= {hit["row"] for hit in asking(photo, "--level", "mid", "-k", 20)}
    differ = unpack(index.codes(Level.MID, np.array([hit["row"] for hit in hits]))) != (logits >= 0)
    scores = [hit["score"] for hit in hits]
    assert scores == pytest.approx((differ * np.abs(logits)).sum(axis=1), rel=1e-5)
    assert scores == sorted(scores)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--rerank", 20], "rerank needs the logits of an image"),
        (["--rerank", 5], "rerank: 5; expected at least the 10 hits that are requested"),
        (["--levels", "coarse,fine", "--radii", "1"], "radii: (1,); expected 2 whole numbers"),
        (["--levels", "coarse,nowhere"], "nowhere"),
        (["--levels", "coarse,fine", "--radius", "1"], "radius: 1; expected left out"),
        (["--levels", "coarse,fine", "--weights", "1,2"], "weights: (1, 2); expected left out: cascade has none"),
        (["--levels", "coarse,fine", "--weights", "1,5000", "--combine", "sum"], "take smaller weights"),
    ],
)
def test_questions_that_make_no_sense_are_one_line_and_exit_1(command, index_folder, options, says):
    code, out, err = command("indexer", "query", "key:pic-007", "--index", index_folder, *options)
    assert (code, out) == (1, "")
    assert says in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--budgets", "5"],
        ["--levels", "fine,mid", "--radii", "a,b"],
        ["--levels", "fine", "--rerank", 20],
        ["--combine", "best"],
    ],
)
def test_wrong_usage_exits_2(command, index_folder, options):
    code, out, _ = command("indexer", "query", "key:pic-007", "--index", index_folder, *options)
    assert (code, out) == (2, "")


@pytest.mark.parametrize(
    "options",
    [[], ["--exact"], ["--engine", "scan"], ["--engine", "faiss"], ["--levels", "mid,fine", "--combine", "sum"]],
)
def test_a_filter_leaves_the_nearest_of_those_that_pass(asking, index_folder, options):
    index = Index(index_folder)
    passing = [row for row in range(60) if index.labels(row)["fine"] in {1, 3} and row >= 20]
    where = 'label.fine in (1, 3) and shard ~ "part-*" and not shard ~ "part-0000.tar"'
    hits = asking("key:pic-007", "--where", where, "-k", 60, *options)
    assert sorted(hit["row"] for hit in hits) == passing
    some = asking("key:pic-007", "--where", where, "-k", 5, *options)
    assert [hit["row"] for hit in some] == [hit["row"] for hit in hits[:5]]


def test_a_filter_that_cannot_be_read_is_one_line_with_the_place(command, index_folder):
    code, out, err = command("indexer", "query", "key:pic-007", "--index", index_folder, "--where", "label.fine == 3")
    assert (code, out) == (1, "")
    assert "at character 12" in err
    assert len(err.strip().splitlines()) == 1
