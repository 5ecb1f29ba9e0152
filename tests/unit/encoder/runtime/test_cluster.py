"""What is said where Ray is not installed."""

import sys


def test_without_ray_one_line_says_how_to_install_it(command, monkeypatch, shards_folder, model_path, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    arguments = ("encoder", "encode", shards_folder, "--model", model_path, "--out", tmp_path / "codes")
    code, out, err = command(*arguments, "--engine", "ray")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "pip install 'hashgrain[ray]'" in err
    code, _, err = command(*arguments, "--address", "auto")
    assert code == 2
    assert "--engine ray, too" in " ".join(err.split())
