"""The demo on a small collection of its own: what `make demo` does, in a minute less."""

import re
from functools import partial

import pytest

from pipelines import demo
from pipelines.drawn.collection import draw_shards
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


def test_the_demo_finds_more_than_chance_and_shows_it(run_demo, monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "draw_shards", partial(draw_shards, instances=4, views=4))
    out = run_demo("--out", tmp_path)
    assert "288 images seen = 288 rows + 0 rejects" in out
    rows = {
        line.split()[0]: [float(value) for value in re.findall(r"([\d.]+)%", line)]
        for line in out.splitlines()
        if "%" in line
    }
    assert list(rows) == ["fine", "mid", "coarse", "fused", "by", "at"]
    for level in ("fine", "mid", "coarse", "fused"):
        assert all(share > chance for share, chance in zip(rows[level], rows["by"], strict=False))
    assert (tmp_path / "page.html").read_text().count("<img") > 100
    assert run_demo("--out", tmp_path).count("288 images seen") == 1  # again, over what is there


def test_the_demo_on_shards_of_ones_own(run_demo, shards_folder, tmp_path):
    write_tar(tmp_path / "earlier.tar", labelled_members(0, 12))
    run_demo("--out", tmp_path, tmp_path / "earlier.tar")
    out = run_demo("--out", tmp_path, shards_folder)
    assert "60 images seen = 60 rows + 0 rejects" in out
    assert "\n   60 rows, " in out
    assert "leaving each one itself out" in out
