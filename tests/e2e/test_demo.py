"""The demo on a small collection of its own: what `make demo` does, in a minute less."""

import re
from dataclasses import replace
from functools import partial

import pytest

from encoder.levels import Level
from pipelines import demo
from pipelines.drawn.collection import draw_shards
from pipelines.drawn.lesson import lesson
from tests.support.pictures import labelled_members, write_tar


@pytest.fixture
def run_demo(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["demo", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            demo.main()
        assert not left.value.code
        return capsys.readouterr().out

    return call


def table(out):
    """Return {row: the shares of its columns}, and {row: columns that it is the best of}."""
    lines = [line for line in out.splitlines() if re.search(r"[\d.]+%.*[\d.]+%", line)]
    name = {line: line[3:13].strip() for line in lines}
    cells = {name[line]: re.findall(r"([\d.]+)% ?(\*?)", line) for line in lines}
    return (
        {row: [float(value) for value, _ in of] for row, of in cells.items()},
        {row: [column for column, (_, star) in enumerate(of) if star] for row, of in cells.items()},
    )


def test_each_level_of_the_demo_learns_its_own_question_and_the_table_says_which_is_best(
    run_demo, monkeypatch, tmp_path
):
    monkeypatch.setattr(demo, "draw_shards", partial(draw_shards, instances=6, views=4))
    short = replace(lesson(), phases=(replace(lesson().phases[0], epochs=8),))
    monkeypatch.setattr(demo, "lesson", lambda: short)
    out = run_demo("--out", tmp_path)
    assert "528 images seen = 528 rows + 0 rejects" in out
    assert f"indexer serve {tmp_path / 'index'}" in out
    assert "384 pictures; of the things that will ask, none is among them" in out
    shares, best = table(out)
    assert list(shares) == [*Level, "by chance"]
    assert sorted(column for of in best.values() for column in of) == [0, 1, 2, 3]
    for column, level in enumerate(Level):
        assert shares[level][column] > 1.5 * shares["by chance"][column]
        for other in Level:
            assert (column in best[other]) == (shares[other][column] == max(shares[one][column] for one in Level))
        assert (f"{level} is not the best at its own question" in out) == (column not in best[level])
    assert shares["fine"][0] > shares["coarse"][0]
    assert shares["coarse"][2] > shares["fine"][2]
    assert (tmp_path / "page.html").read_text().count("<img") > 100
    assert table(run_demo("--out", tmp_path)) == (shares, best)  # again, over what is there


def test_the_demo_on_shards_of_ones_own(run_demo, shards_folder, tmp_path):
    write_tar(tmp_path / "earlier.tar", labelled_members(0, 12))
    run_demo("--out", tmp_path, tmp_path / "earlier.tar")
    out = run_demo("--out", tmp_path, shards_folder)
    assert "60 images seen = 60 rows + 0 rejects" in out
    assert "\n   60 rows, " in out
    assert "without each one itself" in out
    assert list(table(out)[0]) == [*Level, "by chance"]
    assert "not the best at its own question" not in out  # nobody knows what the labels of strangers ask
